"""Hold what a page asks: a prompt and how to trace it, and the command and the Python that do the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from elimtool.engine.options import DEFAULT_SAMPLERS, TraceOptions
from elimtool.errors import ElimError, checked_fields, nearest
from elimtool.model.interventions import Ablate, Intervention, Knockout, Scale
from elimtool.model.source import ModelSource
from elimtool.prompts.position import parse_position
from elimtool.prompts.prompt import Message, Prompt, SpanRequest
from elimtool.samplers import preset_names, resolve, with_setting
from elimtool.samplers.combine import needed_rows
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.shipped import MODEL, parted

MOST_CHARACTERS = 20_000
"""Longest text of a field."""
MOST_LINES = 64
"""Most entries of a field that holds several."""
MOST_WRITTEN = 256
"""Most tokens that the model writes for one state of the page."""


@checked_fields
@dataclass(frozen=True)
class PageState:
    """One state of the page: everything that its numbers depend on, besides the model.

    No field names a file: chains are presets or stages in order, the lens is one that was named at the start.

    Attributes:
        prompt: The text, or the user's message.
        chat: Whether the prompt is a message of a chat.
        system: System message before it; implies a chat. ``None`` for none.
        prefill: Beginning of the answer; ``None`` for none.
        targets: Continuations to follow.
        foils: Continuations to contrast them with.
        spans: PromptParts of the prompt, each ``NAME=TEXT``.
        position: Tokens to probe, as ``elimtool trace --position``.
        samplers: Sampler chains.
        lens: ``auto``, ``raw``, or the lens that the server was started with.
        ablate, scale, knockout: Changes to the model, as the options of these names.
        generate: Tokens to write.
        seed: Seed of what is drawn.
    """

    prompt: str
    chat: bool = False
    system: str | None = None
    prefill: str | None = None
    targets: tuple[str, ...] = ()
    foils: tuple[str, ...] = ()
    spans: tuple[str, ...] = ()
    position: str = "last"
    samplers: tuple[str, ...] = DEFAULT_SAMPLERS
    lens: str = "auto"
    ablate: tuple[str, ...] = ()
    scale: tuple[str, ...] = ()
    knockout: tuple[str, ...] = ()
    generate: int = 0
    seed: int = 0

    @classmethod
    def read(cls, given: Any, lenses: tuple[str, ...] = ("auto", "raw")) -> PageState:
        """Read what a page sent.

        Args:
            given: A JSON object with fields of this class.
            lenses: Lenses that may be asked for.

        Raises:
            ElimError: A field is unknown, of the wrong type, too long or names a file.
        """
        if not isinstance(given, Mapping) or "prompt" not in given:
            raise ElimError("a state of the page must be an object with a `prompt`")
        known = {one.name for one in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise ElimError(f"a state of the page has no `{name}`", nearest(str(name), sorted(known)))
            _check_size(name, value)
        made: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        asked = cls(**made)
        if asked.lens not in lenses:
            raise ElimError(f"`lens` must be one of {', '.join(lenses)}, got '{asked.lens}'")
        if not 0 <= asked.generate <= MOST_WRITTEN:
            raise ElimError(f"`generate` must be 0 to {MOST_WRITTEN} tokens, got {asked.generate}")
        if not asked.prompt:
            raise ElimError(
                "the prompt is empty", "give at least one character; a model predicts from something"
            )
        for chain in asked.samplers:
            refuse_files(chain)
        return asked

    def as_prompt(self) -> Prompt:
        """Make the prompt.

        Raises:
            ElimError: A span or the prefill cannot be used.
        """
        spans = tuple(SpanRequest.parse(one) for one in self.spans)
        follow = {"targets": self.targets, "foils": self.foils, "spans": spans}
        if self.chat or self.system is not None:
            first = () if self.system is None else (Message("system", self.system),)
            made = Prompt(messages=(*first, Message("user", self.prompt)), **follow)  # type: ignore[arg-type]
        else:
            made = Prompt(text=self.prompt, **follow)  # type: ignore[arg-type]
        return made if self.prefill is None else made.with_prefill(self.prefill)

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """Changes to the model.

        Raises:
            ElimError: One is not valid.
        """
        return (
            *(Ablate.parse(one) for one in self.ablate),
            *(Scale.parse(one) for one in self.scale),
            *(Knockout.parse(one) for one in self.knockout),
        )

    def options(self) -> TraceOptions:
        """Make the options of the trace.

        Raises:
            ElimError: A value cannot be used.
        """
        for chain in self.samplers:
            resolve(chain)
        return TraceOptions(
            position=parse_position(self.position),
            samplers=self.samplers,
            lens=self.lens,
            interventions=self.interventions,
            generate=self.generate,
            seed=self.seed,
        )

    def with_stage(self, chain: int, stage: str, value: float) -> PageState:
        """Return the state with another value of a stage's main parameter.

        Raises:
            ElimError: There is no such chain or stage, or the value does not fit it.
        """
        if not 0 <= chain < len(self.samplers):
            raise ElimError(f"there is no chain {chain}")
        text = with_setting(self.samplers[chain], stage, value)
        if not text:
            raise ElimError(f"{stage} of {self.samplers[chain]} does not take {value:g}")
        return self._with_chain(chain, text)

    def with_order(self, chain: int, order: tuple[str, ...]) -> PageState:
        """Return the state with the parts of an inline chain in another order.

        Raises:
            ElimError: The chain is a preset, whose order is its engine's, or the stages are not its own.
        """
        if not 0 <= chain < len(self.samplers):
            raise ElimError(f"there is no chain {chain}")
        return self._with_chain(chain, reordered(self.samplers[chain], order))

    def _with_chain(self, chain: int, text: str) -> PageState:
        return replace(self, samplers=(*self.samplers[:chain], text, *self.samplers[chain + 1 :]))

    def python(self, source: ModelSource, mapped: bool = False) -> str:
        """Write the Python that traces the same.

        Args:
            source: How the model is loaded.
            mapped: Whether heads are named by the map that the cache has of it.
        """
        spans = "".join(f"SpanRequest.parse({one!r}), " for one in self.spans)
        follow = "".join(
            f", {name}={value!r}"
            for name, value in (("targets", self.targets), ("foils", self.foils))
            if value
        )
        follow += f", spans=({spans})" if spans else ""
        if self.chat or self.system is not None:
            system = "" if self.system is None else f"Message('system', {self.system!r}), "
            prompt = f"Prompt(messages=({system}Message('user', {self.prompt!r}),){follow})"
        else:
            prompt = f"Prompt(text={self.prompt!r}{follow})"
        prompt += "" if self.prefill is None else f".with_prefill({self.prefill!r})"
        plain = PageState("")
        own = {
            name: parse_position(self.position) if name == "position" else getattr(self, name)
            for name in ("position", "samplers", "lens", "generate", "seed")
            if getattr(self, name) != getattr(plain, name)
        }
        told = [f"{name}={value!r}" for name, value in own.items()]
        changes = [
            f"{kind}.parse({one!r})"
            for kind, values in (("Ablate", self.ablate), ("Scale", self.scale), ("Knockout", self.knockout))
            for one in values
        ]
        told += [f"interventions=({', '.join(changes)},)"] if changes else []
        kinds = ("Prompt", "TraceOptions", "Message", "SpanRequest", "Ablate", "Scale", "Knockout")
        body = f"{prompt} {' '.join(changes)}"
        names = [name for name in kinds if f"{name}(" in body or f"{name}." in body or name == "TraceOptions"]
        return (
            f"from elimtool import {', '.join([*names, 'load_model', 'trace'])}\n"
            f"{'from elimtool.tasks.map.kept import with_roles' * mapped}\n"
            f"model = load_model({model_arguments(source)})\n"
            f"options = TraceOptions({', '.join(told)})\n"
            f"{'options = with_roles(options, model)' * mapped}\n"
            f"run = trace(model, {prompt}, options=options)\n"
        )


def given(source: ModelSource) -> dict[str, Any]:
    """Return the fields of a source that are not their defaults, but the name."""
    values = {one.name: (getattr(source, one.name), one.default) for one in fields(source)}
    return {name: value for name, (value, plain) in values.items() if name != "name" and value != plain}


def model_arguments(source: ModelSource) -> str:
    """Write the arguments of ``load_model`` for a source."""
    return ", ".join([repr(source.name), *(f"{name}={value!r}" for name, value in given(source).items())])


def _check_size(name: str, value: Any) -> None:
    texts = value if isinstance(value, list) else [value]
    if len(texts) > MOST_LINES:
        raise ElimError(f"`{name}` has {len(texts)} entries, at most {MOST_LINES} can be asked for")
    long = next((one for one in texts if isinstance(one, str) and len(one) > MOST_CHARACTERS), None)
    if long is not None:
        raise ElimError(
            f"`{name}` has {len(long):,} characters, at most {MOST_CHARACTERS:,} can be asked for",
            "trace it on the command line",
        )


def refuse_files(chain: str) -> None:
    """Refuse the text of a chain that names a file, or that needs more than the output that is kept.

    Raises:
        ElimError: It is neither a preset nor stages in order, or one of them reads a file.
    """
    preset, where, _ = parted(chain)
    known = preset in preset_names()
    if known and where in ("", MODEL):
        stages: tuple[Any, ...] = resolve(chain.replace(f"@{MODEL}", "", 1)).stages
    elif not known and "=" in chain and not any(mark in chain for mark in "/\\") and ".y" not in chain:
        stages = resolve(chain).stages
    else:
        raise ElimError(
            f"'{chain}' is neither a preset nor stages in order",
            "such as llama.cpp:top_k=10 or top_k=40,temperature=0.8; chain files go with `elimtool trace`",
        )
    if any(isinstance(one, Grammar) and not one.is_off() for one in stages):
        raise ElimError("a grammar is read from a file", "use `elimtool trace` for grammars")
    if needed_rows(stages):
        raise ElimError(f"'{chain}' combines the output with another", "use `elimtool trace` for such chains")


def is_inline(chain: str) -> bool:
    """Whether a chain is stages in order, which may be put in another one."""
    return parted(chain)[0] not in preset_names()


def reordered(chain: str, order: tuple[str, ...]) -> str:
    """Put the stages of an inline chain in another order.

    Args:
        chain: Stages in order, such as ``top_k=40,temperature=0.8``.
        order: Names of its stages, each once.

    Raises:
        ElimError: It is a preset, or the names are not those of its stages.
    """
    stages = [one.name for one in resolve(chain).stages]
    if not is_inline(chain):
        raise ElimError(
            f"the order of {parted(chain)[0]} is its engine's",
            "write its stages in order to change it, such as top_k=40,temperature=0.8",
        )
    if sorted(order) != sorted(stages):
        raise ElimError(f"the stages of '{chain}' are {', '.join(stages)}", "name each of them once")
    parts: dict[str, list[str]] = {name: [] for name in order}
    for part in chain.split(","):
        parts[resolve(part.strip()).stages[0].name].append(part.strip())
    return ",".join(part for name in order for part in parts[name])

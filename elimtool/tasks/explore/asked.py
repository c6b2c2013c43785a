"""Hold what a page asks: a prompt and how to trace it, and the command and the Python that do the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from elimtool.engine.options import DEFAULT_SAMPLERS, TraceOptions
from elimtool.errors import ElimError, checked_fields, nearest
from elimtool.model.interventions import Ablate, Intervention, Knockout, Patch, Scale
from elimtool.prompts.position import parse_position
from elimtool.prompts.prompt import Message, Prompt, SpanRequest
from elimtool.samplers import with_setting
from elimtool.samplers.grammar import Grammar
from elimtool.tasks.explore.chains import refuse_files, resolved

MOST_CHARACTERS = 20_000
"""Longest text of a field."""
MOST_LINES = 64
"""Most entries of a field that holds several."""
MOST_WRITTEN = 256
"""Most tokens that the model writes for one state of the page."""


@dataclass(frozen=True)
class Offered:
    """What a page may name besides texts: files and models that were named when the server was started.

    Attributes:
        lenses: Lenses.
        grammars: Files of grammars and JSON schemas.
        recordings: Files of recorded activations, for ``patch``.
        amateurs: Second models, for chains that move away from one.
    """

    lenses: tuple[str, ...] = ("auto", "raw")
    grammars: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    amateurs: tuple[str, ...] = ()


@checked_fields
@dataclass(frozen=True)
class PageState:
    """One state of the page: everything that its numbers depend on, besides the model.

    No field names a file but those in ``Offered``: chains are presets or stages in order.

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
        patch: Recorded activations to put in the place of the model's own, as ``--patch``.
        grammar: File of a grammar for all chains; ``None`` for none.
        json_schema: The same by a JSON schema: its text.
        regex: The same by a regular expression.
        against: Second prompt, whose output stages move away from; ``None`` for none.
        amateur: Second model, likewise.
        confirm: Whether to test the verdicts' culprits by ablation.
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
    patch: tuple[str, ...] = ()
    grammar: str | None = None
    json_schema: str | None = None
    regex: str | None = None
    against: str | None = None
    amateur: str | None = None
    confirm: bool = False

    @classmethod
    def read(cls, given: Any, offered: Offered = Offered()) -> PageState:
        """Read what a page sent.

        Args:
            given: A JSON object with fields of this class.
            offered: Files and models that may be asked for.

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
        asked._refuse_others(offered)
        if not 0 <= asked.generate <= MOST_WRITTEN:
            raise ElimError(f"`generate` must be 0 to {MOST_WRITTEN} tokens, got {asked.generate}")
        if not asked.prompt:
            raise ElimError(
                "the prompt is empty", "give at least one character; a model predicts from something"
            )
        for chain in asked.samplers:
            refuse_files(chain)
        return asked

    def _refuse_others(self, offered: Offered) -> None:
        """Refuse files and models that were not named at the start, before one is looked for."""
        for name, value, known in (
            ("lens", self.lens, offered.lenses),
            ("grammar", self.grammar, offered.grammars),
            ("amateur", self.amateur, offered.amateurs),
            *(("patch", one.rpartition("@")[0] or one, offered.recordings) for one in self.patch),
        ):
            if value is not None and value not in known:
                choices = f"must be one of {', '.join(known)}" if known else "was not offered"
                raise ElimError(
                    f"`{name}` {choices}, got '{value}'",
                    f"name it with `{name}` when you start elimtool explore",
                )
        if self.json_schema is not None and not self.json_schema.lstrip().startswith("{"):
            raise ElimError("`json_schema` must be the text of a schema, which begins with {")

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
            *(Patch.parse(one) for one in self.patch),
        )

    def options(self) -> TraceOptions:
        """Make the options of the trace.

        Raises:
            ElimError: A value cannot be used.
        """
        for chain in self.samplers:
            resolved(chain)
        return TraceOptions(
            position=parse_position(self.position),
            samplers=self.samplers,
            lens=self.lens,
            interventions=self.interventions,
            generate=self.generate,
            seed=self.seed,
            grammar=self.constraint,
            against=self.against,
            amateur=self.amateur,
            confirm=self.confirm,
        )

    @property
    def constraint(self) -> Grammar | None:
        """The grammar of all chains that name none of their own.

        Raises:
            ElimError: It is not valid.
        """
        if self.grammar is None and self.json_schema is None and self.regex is None:
            return None
        return Grammar(self.grammar or "", self.json_schema or "", self.regex or "")

    def with_stage(self, chain: int, stage: str, value: float) -> PageState:
        """Return the state with another value of a stage's main parameter.

        Raises:
            ElimError: There is no such chain or stage, or the value does not fit it.
        """
        before = self.chain_at(chain)
        text = with_setting(before, stage, value)
        if not text:
            raise ElimError(f"{stage} of {before} does not take {value:g}")
        return self.with_chain(chain, text)

    def chain_at(self, chain: int) -> str:
        """Return the text of a chain.

        Raises:
            ElimError: There is none of that number.
        """
        if not 0 <= chain < len(self.samplers):
            raise ElimError(f"there is no chain {chain}")
        return self.samplers[chain]

    def with_chain(self, chain: int, text: str) -> PageState:
        """Return the state with another chain in the place of one.

        Raises:
            ElimError: It is there already: rows of two such chains could not be told apart.
        """
        if text in (*self.samplers[:chain], *self.samplers[chain + 1 :]):
            raise ElimError(f"the chain {text} is there already", "change or remove the other one")
        return replace(self, samplers=(*self.samplers[:chain], text, *self.samplers[chain + 1 :]))


def _check_size(name: str, value: Any) -> None:
    texts = value if isinstance(value, list) else [value]
    if len(texts) > MOST_LINES:
        raise ElimError(f"`{name}` has {len(texts):,} entries, at most {MOST_LINES:,} can be asked for")
    long = next((one for one in texts if isinstance(one, str) and len(one) > MOST_CHARACTERS), None)
    if long is not None:
        raise ElimError(
            f"`{name}` has {len(long):,} characters, at most {MOST_CHARACTERS:,} can be asked for",
            "trace it on the command line",
        )

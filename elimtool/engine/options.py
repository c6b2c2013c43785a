"""Options of a trace: what to measure and how, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from elimtool.analysis.map.known import HeadRoles
from elimtool.engine.beams import EarlyStopping
from elimtool.engine.plugins import brought_tables, plug
from elimtool.engine.requests import REQUESTS
from elimtool.errors import ElimError, checked_fields, nearest
from elimtool.lenses.find import check_choice
from elimtool.metrics.metric import Metric
from elimtool.model.interventions import Intervention
from elimtool.prompts.component import parse_component
from elimtool.prompts.position import Position, check_position
from elimtool.prompts.prompt import Prompt
from elimtool.run.selection import (
    DROPPED,
    HEADS,
    IF_GIVEN,
    IF_NAMED,
    PART_TOKENS,
    PARTS,
    WALKS,
    WIDE,
    Selection,
    select,
)
from elimtool.samplers import Chain, Stage, name_of
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.presets import has_grammar

DEFAULT_SAMPLERS = ("llama.cpp", "hf", "vllm")

_BY_THEMSELVES = ("plugins", "grammar", "roles")
"""Options that ``stated`` writes otherwise, or only where they are given ..."""

_IF_SET = ("amateur", "against", "scores_only")
"""... and those that it leaves out where they are off, as before there were any."""


@checked_fields
@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What to measure and how, for every prompt of a run.

    Attributes:
        position: Query tokens to probe: ``last``, ``all``, an index from 0 (or from the end, if negative),
            a list such as ``4,7-9``, or ``written`` and ``written:4,7-9`` for where the model wrote.
        samplers: Sampler chains: preset names, YAML files, inline chains, or ``Chain`` and ``Stage`` objects.
        model_sampling: Whether presets have the settings that the model ships with laid over them, as their
            engines do by default.
        lens: Lens for layers before the last: ``auto`` (the model's fitted lens if there is one, else raw),
            ``raw``, ``ridge``, a file of ``elimtool lens fit`` or a tuned-lens folder.
        sinks: Attention-sink set: ``auto``, ``none`` or positions such as ``0,5``.
        target_space: ``auto`` or ``exact``, see ``elimtool.model.targets.spaced``.
        heads: Whether to fill the tables of single heads (``selection.HEADS``); ``None``: if ``tables``
            names one of them, or not every position is probed.
        attention_of: Heads, such as ``17.3``, whose attention weights fill ``attention_weights``.
        tables: Tables to fill, see ``elimtool.run.selection``; ``None`` for all.
        generate: Tokens to generate after each prompt through ``chain``; 0 for no walk, or for as many as
            ``position`` needs.
        chain: The one of ``samplers`` to generate with, or its name; ``None`` for the first.
        through: Chains, as in ``samplers``, beside which they are measured, that each target's tokens are
            followed through one after the other, for the tables ``sequences``, ``sequence_steps`` and
            ``sequence_stages``.
        futures: How many of each chain's first survivors to compare by what the model would write after them,
            for the tables ``survivors``, ``survivor_pairs`` and ``survivor_sets``; 0 for none.
        future_steps: Tokens from a survivor to the output that is compared; those between are the likeliest.
        paths: Kinds of paths of ``generate`` tokens to search for, see ``engine.path_search``: ``greedy``,
            ``beam:4``, ``least-entropy:4``, ``sampled:16`` (through ``chain``), for the tables ``paths`` and
            ``path_steps``.
        continue_with: A text that goes on from the prompt, the path ``given`` in these tables.
        repeat: Copies of the prompt's text, or of a chat's last message, of which each is predicted from
            those before it, for the table ``resonance``; 0 for none.
        repeat_control: Draws of other text in place of the copies, which say what their length alone does.
        repeat_control_text: Another message, whose reply's first word is compared with that after the copies.
        beams: Texts that a beam search of ``generate`` tokens holds, for the tables ``beams``, ``beam_steps``
            and ``beam_targets``; 0 for none. Stages of ``chain`` that are for draws do not act on it.
        length_penalty: Power of a finished text's number of tokens that its score is divided by.
        early_stopping: When the search ends: ``no`` (n texts are finished, and the best open one is no better
            at its length), ``yes`` (n are finished) or ``never`` (no open one can become better).
        grammar_texts: Beginnings of one length, the most probable ones, that are followed through each
            chain's grammar to texts of ``generate`` tokens at most, for the tables ``grammar_whole`` and
            ``grammar_texts``; 0 for none.
        along: How to cut a text (``sentences``, ``lines``, or a number of tokens), or what begins the answer,
            or a chat's last message, to read the answers after each part of it, for the table
            ``answers_along``. ``None`` for not at all.
        cue: What the answer is read after, for ``along``: it follows the whole text too.
        watch: Tokens to follow at each step of what is generated, ``eos`` (those that end a text of the
            model) or texts of single tokens, for the tables ``stops``, ``stop_tokens`` and ``stop_stages``.
        seed: Seed of the walk's draws, and of the components that ``confirm`` compares with.
        interventions: Changes made to the model, together, in a second pass over every prompt.
        confirm: Whether to test the verdicts' culprits by ablation, see ``elimtool.tasks.confirm``.
        ablate_each: Whether to ablate every head and MLP by itself, for the table ``ablations``.
        rollout: Whether to follow what attention mixes through all layers, for the table ``rollout``: every
            row up to the probed one, of ``metrics.rollout.MOST_TOKENS`` at most.
        patchscope: Whether to put the residual of each probed position and layer into a prompt that repeats
            words, and read which word is repeated, for the table ``patchscope``.
        concepts: Sets of words to follow in every prompt by their first tokens, each ``NAME=WORDS`` with
            commas between the words, for the tables ``concepts`` and ``associations``.
        against: A second prompt, whose output the stages ``guidance`` and ``context_aware`` move away from:
            a negative prompt, or the prompt without its context; what is written is appended to both. Read
            at the last position of prompts, or at written ones. ``None`` for none.
        amateur: A second, weaker model of the same vocabulary, whose output the stage ``contrastive`` moves
            away from. ``None`` for none.
        risk: Whether to score how uncertain each generated answer is, for the table ``risk``.
        samples: Further answers that ``risk`` samples, and texts that ``watch`` lets go on; two or more.
        nli: Local folder of a classifier of entailment, which says which of them mean the same; ``None`` for
            those that are equal.
        scores_only: Whether texts that are scored fill ``survival`` alone, without chains, in about the time
            of a forward pass; else all tables, at each of their positions.
        batch_size: Prompts in one forward pass at most.
        errors: ``raise`` at the first bad prompt, or keep it as a ``row`` with its error.
        plugins: Subclasses of ``Stage`` and ``Metric``, and lenses, or ``module:name`` of such, which take
            part beside elimtool's own and those of installed packages.
        grammar: A grammar, JSON schema or regular expression for all chains that name none of their own.
        roles: Roles of the model's heads, see ``elimtool.head_roles``, that the story names.
    """

    position: Position = "last"
    samplers: tuple[str | Chain | Stage, ...] = DEFAULT_SAMPLERS
    model_sampling: bool = True
    lens: str = "auto"
    sinks: str = "auto"
    target_space: Literal["auto", "exact"] = "auto"
    heads: bool | None = None
    attention_of: tuple[str, ...] = ()
    tables: tuple[str, ...] | None = None
    generate: int = 0
    chain: str | Chain | Stage | None = None
    through: tuple[str | Chain | Stage, ...] = ()
    futures: int = 0
    future_steps: int = 1
    paths: tuple[str, ...] = ()
    continue_with: str | None = None
    repeat: int = 0
    repeat_control: int = 20
    repeat_control_text: str = "Hello"
    beams: int = 0
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = "no"
    grammar_texts: int = 0
    along: str | int | None = None
    cue: str = ""
    watch: tuple[str, ...] = ()
    seed: int = 0
    interventions: tuple[Intervention, ...] = ()
    confirm: bool = False
    ablate_each: bool = False
    rollout: bool = False
    patchscope: bool = False
    concepts: tuple[str, ...] = ()
    against: str | None = None
    amateur: str | None = None
    risk: bool = False
    samples: int = 10
    nli: str | None = None
    scores_only: bool = False
    batch_size: int = 8
    errors: Literal["raise", "row"] = "raise"
    plugins: tuple[Any, ...] = ()
    grammar: Grammar | None = None
    roles: HeadRoles | None = None

    def __post_init__(self) -> None:
        plug(self.plugins)
        given = (*self.samplers, *self.through)
        once = tuple(one for at, one in enumerate(given) if one not in given[:at])
        object.__setattr__(self, "samplers", once)  # rows of a chain named twice could not be told apart
        check_choice(self.lens)
        check_position(self.position)
        self._check_written()
        for request in REQUESTS:
            request.check(self)
        if self.against == "":
            raise ElimError("`against` must be a prompt, got an empty text", "leave it out for none")
        if self.against is not None and self.position != "last" and not self.reads_written:
            hint = "use `position='last'`, or `position='written'`"
            raise ElimError("`against` is read after the whole prompt only", hint)
        if self.batch_size < 1:
            raise ElimError(f"`batch_size` must be at least 1, got {self.batch_size}")
        if self.confirm and not (self.single_heads and "verdicts" in self._select(()).kept):
            without = "`heads`" if not self.single_heads else "the table verdicts"
            raise ElimError(f"`confirm` needs {without}", "it tests the components that the verdicts name")
        if self.tables is None:
            self._select(())  # installed packages are looked for when something is measured
        else:
            self.selection()
        _ = self.chosen_heads

    def _check_written(self) -> None:
        """Check what is said of generated text."""
        if self.generate < 0:
            raise ElimError(f"`generate` must be a number of tokens from 0, got {self.generate}")
        names = tuple(map(name_of, self.samplers))
        if self.chain is not None and name_of(self.chain) not in names:
            wrong = name_of(self.chain)
            raise ElimError(f"`chain` must be one of `samplers`, got '{wrong}'", nearest(wrong, names))
        if self.writes and not self.samplers:
            raise ElimError("`generate` needs a sampler chain to draw through", "name one in `samplers`")
        if self.generate and self.interventions and not self.reads_written:
            raise ElimError(
                f"`generate` cannot be combined with {self.interventions[0]}",
                "interventions act on the prompt's own pass; `position='written'` measures what was written",
            )

    @property
    def chosen_heads(self) -> tuple[tuple[int, int], ...]:
        """(layer, head) of ``attention_of``, in ascending order, each once.

        Raises:
            ElimError: A name is not that of a head.
        """
        found = {name: parse_component(name) for name in self.attention_of}
        for name, place in found.items():
            if place is None or place[1] is None:
                raise ElimError(f"`attention_of` must name heads, got '{name}'", "such as 17.3 or L17H3")
        return tuple(sorted({(layer, head or 0) for layer, head in filter(None, found.values())}))

    @property
    def named_concepts(self) -> dict[str, tuple[str, ...]]:
        """Words of each of ``concepts``.

        Raises:
            ElimError: One has no name or no words, or two have one name or share a word.
        """
        found: dict[str, tuple[str, ...]] = {}
        for one in self.concepts:
            name, _, rest = one.partition("=")
            words = tuple(word.strip() for word in rest.split(",") if word.strip())
            if not name.strip() or not words or name.strip() in found:
                raise ElimError(
                    f"`concepts` must be different names with words, got '{one}'",
                    "such as 'snow=snow, winter, ice'",
                )
            found[name.strip()] = words
        owners: dict[str, str] = {}
        for name, words in found.items():
            for word in words:
                if (other := owners.setdefault(word, name)) != name:
                    raise ElimError(
                        f"`concepts` '{other}' and '{name}' both have the word '{word}'",
                        "leave it out of one of them: sets that share a word cannot be told apart",
                    )
        return found

    @property
    def walked(self) -> int:
        """Index in ``samplers`` of the chain to generate with."""
        return 0 if self.chain is None else list(map(name_of, self.samplers)).index(name_of(self.chain))

    @property
    def followed_through(self) -> tuple[int, ...]:
        """Indices in ``samplers`` of the chains that targets are followed through."""
        return tuple(self.samplers.index(one) for one in dict.fromkeys(self.through))

    def refuse_untargeted(self, prompts: Sequence[Prompt]) -> None:
        """Refuse to follow targets through a chain where there are none.

        Raises:
            ElimError: No prompt has a target or foil.
        """
        if self.through and not any(one.targets or one.foils for one in prompts):
            raise ElimError(
                f"`through` '{name_of(self.through[0])}' follows the tokens of a target, and there is none",
                "name one with `target`, such as 'New York City'",
            )

    def stated(self) -> dict[str, Any]:
        """Return the options as values for ``run.json``, with chains by their names and without plugins."""
        chain = None if self.chain is None else name_of(self.chain)
        names, through = tuple(map(name_of, self.samplers)), tuple(map(name_of, self.through))
        absent = {*_BY_THEMSELVES, *(name for name in _IF_SET if not getattr(self, name))}
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in absent}
        told |= {"samplers": names, "chain": chain, "through": through}
        told["interventions"] = tuple(asdict(one) for one in self.interventions)  # type: ignore[call-overload]
        grammar = {} if self.grammar is None else {"grammar": self.grammar.params()}
        return told | grammar | ({} if self.roles is None else {"roles": self.roles.stated()})

    @property
    def on_request(self) -> dict[str, bool]:
        """Which tables of ``selection.ON_REQUEST`` are asked for."""
        return {name: request.given(self) for request in REQUESTS for name in request.tables}

    @property
    def brought(self) -> dict[str, type[Metric]]:
        """Metrics that are not elimtool's own, by the tables that they fill.

        Raises:
            ElimError: One cannot be loaded.
        """
        return brought_tables(self.tables, plug(self.plugins))

    def selection(self) -> Selection:
        """Select the tables to fill and to keep.

        Raises:
            ElimError: A table is not known, contradicts another option, or its plugin cannot be loaded.
        """
        return self._select(self.brought)

    def _select(self, brought: Collection[str]) -> Selection:
        return select(
            self.tables,
            heads=self.single_heads,
            walk=self.writes,
            intervened=bool(self.interventions),
            constrained=self.grammar is not None or any(map(has_grammar, self.samplers)),
            asked=[name for name, given in self.on_request.items() if given],
            unasked=IF_NAMED
            | (IF_GIVEN if self.heads is None else frozenset())
            | (WIDE if self.position == "all" else frozenset())
            | (WALKS if self.searches else frozenset()),
            brought=brought,
        )

    @property
    def searches(self) -> bool:
        """Whether texts are searched for: one more text, which is drawn, is made only where it is named."""
        return bool(self.beams or self.paths) and not (self.watch or self.risk or self.reads_written)

    @property
    def writes(self) -> bool:
        """Whether tokens are generated."""
        return self.generate > 0 or self.reads_written

    @property
    def reads_written(self) -> bool:
        """Whether positions among written tokens are probed."""
        return check_position(self.position).written

    @property
    def single_heads(self) -> bool:
        """Whether the tables of single heads are filled."""
        named = not HEADS.isdisjoint(self.tables or ())
        return (self.position != "all" or named) if self.heads is None else self.heads

    @property
    def longest(self) -> int | None:
        """Most tokens of a prompt of which what each adds to a row is formed; ``None`` for no limit."""
        if not PARTS.isdisjoint(self.tables or ()):
            return None
        return 0 if self.position == "all" else PART_TOKENS

    @property
    def dropping(self) -> bool:
        """Whether to count the neurons that can be dropped, which takes a tenth of a trace's time."""
        return DROPPED in (self.tables or ())

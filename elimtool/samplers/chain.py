"""Run a chain of stages over logits, and record what each stage did."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.errors import ElimError, checked_fields
from elimtool.files.plugins import ORIGINS
from elimtool.numerics.transfer import sent
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.draws import second_draws
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.history import History
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.phrase_ban import PhraseBan
from elimtool.samplers.recording import Standing, record
from elimtool.samplers.soft_ban import SoftBan
from elimtool.samplers.stage import MAY_EMPTY, Context, Effect, Stage
from elimtool.samplers.stage_record import StageRecord
from elimtool.samplers.vocabulary import Vocabulary
from elimtool.version import __version__

TAKEN_BACK = "taken_back"
"""Name of the stage that bans, at one place, tokens of texts that were taken back to it."""
State = Mapping[int, Tensor]
"""Stage index to state, one float64 number per row, for the stages that have one."""


@checked_fields
@dataclass(frozen=True)
class Chain:
    """Stages in order, as an engine applies them: ``Chain("mine", stages=(TopK(40), Temperature(0.8)))``.

    The stages are classes of ``elimtool.samplers``, or a user's own subclasses of ``Stage``.

    Attributes:
        name: Name of the preset, the file's stem or the inline text; the chain's name in every table.
        engine: Engine whose rules it follows.
        version: Version of the engine that the rules were read from.
        stages: First to last.
        precision: ``exact`` (float64) or ``float32`` as the engine computes.
        accumulation: How the engine sums in float32: in array order (``sequential``) or as ``torch`` does.
        sources: Files and pages that the rules were read from.
        limits: Parameters (as users write them) and the values that the engine accepts for each.
        speculative_limits: The same while a draft model proposes tokens.
        fallbacks: Stage that is on, stages that are off, and the parameters that the engine then sets.
        settings_file: Where the engine reads settings that a model ships with; empty for nowhere.
        settings: Keys there, and the parameters (as users write them) that they set; "" for what the preset
            lacks.
        origins: Stage, parameter and source of values that are not the preset's own.
        left_out: Settings of the model that are not applied, and why.
        optional: Names of stages that the engine adds to its chain only where they are on.
        idle: Names of such stages that were left out, and the stage before which each stands; "" for the end.
    """

    name: str
    engine: str = "elimtool"
    version: str = __version__
    stages: tuple[Stage, ...] = ()
    precision: Literal["exact", "float32"] = "exact"
    accumulation: Literal["sequential", "torch"] = "torch"
    sources: tuple[str, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()
    speculative_limits: tuple[tuple[str, str], ...] = ()
    fallbacks: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, Any], ...]], ...] = ()
    settings_file: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    origins: tuple[tuple[str, str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    idle: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ElimError("a chain has no name", "give `name`: it names the chain in every table")
        object.__setattr__(self, "stages", tuple(self.stages))  # a list has no hash

    def without_idle(self) -> Chain:
        """Leave out the optional stages that are off."""
        return self._busy

    @cached_property
    def _busy(self) -> Chain:
        """The chain without the optional stages that are off; a preset's is asked for again and again."""
        kept: list[Stage] = []
        idle: list[tuple[str, str]] = []
        following = ""
        for stage in reversed(self.stages):
            if stage.name in self.optional and stage.is_off():
                idle.append((stage.name, following))
            else:
                following = stage.name
                kept.append(stage)
        if len(kept) == len(self.stages):
            return self
        return replace(self, stages=tuple(reversed(kept)), idle=(*reversed(idle), *self.idle))

    def origins_of(self, stage: str) -> dict[str, str]:
        """Return the sources of a stage's parameters that are not the preset's own."""
        return {parameter: source for name, parameter, source in self.origins if name == stage}

    def describe(self) -> dict[str, Any]:
        """Describe the chain in values of JSON."""
        stages = [
            {"stage": s.kind, "name": s.name, "params": s.params(), "off": s.is_off(), **_brought_by(s)}
            for s in self.stages
        ]
        more: dict[
            str, Any
        ] = {}  # only where there is something to say, so that other chains stay as they were
        if self.origins:
            more["origins"] = {f"{stage}.{name}".lstrip("."): source for stage, name, source in self.origins}
        if self.left_out:
            more["left_out"] = list(self.left_out)
        return {
            **more,
            "name": self.name,
            "engine": self.engine,
            "version": self.version,
            "precision": self.precision,
            "accumulation": self.accumulation,
            "sources": list(self.sources),
            "limits": dict(self.limits),
            "stages": stages,
        }

    def run(
        self,
        logits: Float[Tensor, "rows vocab"],
        targets: Int[Tensor, "rows k"],
        histories: Sequence[History] | None = None,
        state: State | None = None,
        draws: Float[Tensor, " rows"] | None = None,
        begun: Candidates | None = None,
    ) -> Ledger:
        """Apply the stages, and record what each did.

        Args:
            logits: Any float dtype, ``-inf`` allowed; never edited. Without ``begun``, those of a device are
                fetched to the host.
            targets: Token ids to follow, -1 = none.
            histories: One per row; ``None`` = empty histories.
            state: From ``start`` or ``accept``; ``None`` = the state before the first token.
            draws: Uniform random numbers in [0, 1), one per row, for stages that act by chance; a second pass
                takes ``second_draws`` of them.
            begun: ``Candidates.of(logits, targets)``, shared by the chains that run on the same rows, so that
                what one exact chain computes about them is not computed again. Where it is on a device, so
                is the ledger, and nothing is waited for, unless the chain runs on the host alone: then the
                rows are fetched, once for all such chains.

        Raises:
            ElimError: A row without a finite logit, with NaN or +inf; a target outside the vocabulary; or the
                number of histories or draws is not the number of rows.
        """
        rows = logits.shape[0]
        if histories is not None and len(histories) != rows:
            raise ElimError(f"{len(histories):,} histories for {rows:,} rows of logits: give one per row")
        if draws is not None and draws.shape[0] != rows:
            raise ElimError(f"{draws.shape[0]:,} draws for {rows:,} rows of logits: give one per row")
        histories = histories if histories is not None else [History()] * rows
        given = c = self._begun(logits, targets, begun)
        logits, targets, device = c.scores, targets.cpu() if c.wanted is None else c.wanted, c.scores.device
        state = self.start(rows) if state is None else state
        state = {index: sent(one, device) for index, one in state.items()}
        draws = None if draws is None else sent(draws, device)
        records: list[StageRecord] = []
        standing = Standing.of(c, targets)
        for index, stage in enumerate(self.stages):
            # remembered at the first removal: penalties and temperature before it still count
            if stage.role == "truncate" and self._measures_full(index):
                c = c.with_total()

            def again(first: Stage, index: int = index) -> Ledger:
                chain = replace(self, stages=(first, *self.stages[:index]))
                known = {at + 1: value for at, value in state.items() if at < index}
                return chain.run(logits, targets, histories, known, second_draws(draws), given)

            after, effect = step(
                stage, c, Context(histories, draws, state.get(index), again, self._has_grammar)
            )
            # a stage that is off returns its input: nothing is computed again
            left = standing if after is c else Standing.of(after, targets)
            records.append(record(stage, c, after, effect, targets, (standing, left)))
            c, standing = after, left
        return Ledger(self.name, targets, tuple(records), c)

    def _begun(
        self, logits: Float[Tensor, "rows vocab"], targets: Int[Tensor, "rows k"], begun: Candidates | None
    ) -> Candidates:
        """Return the distribution to begin with, where the chain can run."""
        dtype = torch.float64 if self.precision == "exact" else torch.float32
        sequential = self.precision == "float32" and self.accumulation == "sequential"
        if begun is None:
            return Candidates.of(logits.cpu(), targets.cpu(), dtype, sequential)
        begun = begun if self.acts_on_device else begun.here
        if begun.scores.dtype == dtype and begun.sequential == sequential:
            return begun
        here = begun.here
        wanted = targets.cpu() if here.wanted is None else here.wanted
        return Candidates.of(here.scores if begun.masked else logits.cpu(), wanted, dtype, sequential)

    @cached_property
    def acts_on_device(self) -> bool:
        """Whether the chain can run where the logits are: exactly, and all stages that are on can."""
        return self.precision == "exact" and all(s.acts_on_device() for s in self.stages if not s.is_off())

    @cached_property
    def _has_grammar(self) -> bool:
        return any(isinstance(one, Grammar) and not one.is_off() for one in self.stages)

    def _measures_full(self, index: int) -> bool:
        """Return whether this or a later stage measures mass on the distribution before any removal."""
        rest = self.stages[index:]
        return any(getattr(s, "mass_of", "survivors") == "full" and not s.is_off() for s in rest)

    def start(self, rows: int) -> State:
        """Return the state before the first token."""
        begun = {index: stage.start(rows) for index, stage in enumerate(self.stages) if not stage.is_off()}
        return {index: value for index, value in begun.items() if value is not None}

    def accept(self, state: State, ledger: Ledger, tokens: Int[Tensor, " rows"]) -> State:
        """Return the state after one token per row was chosen.

        Args:
            state: The state that the chain was run with.
            ledger: The ledger of this step.
            tokens: The chosen tokens, survivors of the chain. In a chain that runs twice, stages learn from
                the pass that a token is likelier to come from.
        """
        after = {index: index + (self.stages[index].learns_from == "after") for index in state}
        return {
            index: self.stages[index].accept(value, ledger.drawn_at(after[index], tokens))
            for index, value in state.items()
        }

    def with_ends(self, tokens: Sequence[int]) -> Chain:
        """Give stages that are about the end of the text the model's tokens for it, unless they have some."""
        wanting = [getattr(stage, "eos", ()) is None and not stage.is_off() for stage in self.stages]
        if not any(wanting):
            return self
        given: dict[str, Any] = {"eos": tuple(tokens)}
        stages = [
            replace(one, **given) if wants else one for one, wants in zip(self.stages, wanting, strict=True)
        ]
        return replace(self, stages=tuple(stages))

    def with_tokenizer(self, definition: str, vocab: int) -> Chain:
        """Give grammars the model's tokenizer; arguments and errors as of ``Grammar.with_tokenizer``."""
        stages = tuple(
            one.with_tokenizer(definition, vocab) if isinstance(one, Grammar) and not one.is_off() else one
            for one in self.stages
        )
        return replace(self, stages=stages)

    def with_vocabulary(
        self,
        pieces: Sequence[str],
        encode: Callable[[str], Sequence[int]] | None = None,
        control: Collection[int] = (),
    ) -> Chain:
        """Turn the texts of stages into tokens: breakers of DRY, banned words, biases of texts.

        Args:
            pieces: Text of every token, by id.
            encode: Turns a text into token ids; without it only what single tokens spell is found.
            control: Ids of control tokens, whose texts are never written.
        """
        vocabulary = Vocabulary(pieces, encode, control)
        stages = list(self.stages)
        for soft in (one for one in self.stages if isinstance(one, SoftBan)):
            if phrases := soft.phrases(vocabulary):  # KoboldCpp looks at the text once a token is drawn
                stages.append(PhraseBan(phrases, eos=soft.eos, label="banned_phrases"))
        return replace(
            self, stages=tuple(one.spelled(vocabulary) if one.wants_text else one for one in stages)
        )

    def without_phrase_bans(self) -> tuple[Chain, tuple[PhraseBan, ...]]:
        """Part the chain into what tokens are drawn through and the bans that look at the text afterwards.

        Returns:
            The chain, with a ``soft_ban`` where it had none; and the bans, none where no phrase is banned.
        """
        bans = tuple(one for one in self.stages if isinstance(one, PhraseBan) and not one.is_off())
        if not bans:
            return self, ()
        stages = [one for one in self.stages if one not in bans]
        if not any(isinstance(one, SoftBan) for one in stages):
            begin = next((at for at, one in enumerate(stages) if one.role != "combine"), len(stages))
            stages.insert(begin, SoftBan(label=TAKEN_BACK))
        return replace(self, stages=tuple(stages)), bans

    def with_soft_ban(self, tokens: Sequence[int]) -> Chain:
        """Let the first ``soft_ban`` ban tokens besides its own."""
        stages = list(self.stages)
        at, soft = next((at, one) for at, one in enumerate(stages) if isinstance(one, SoftBan))
        stages[at] = replace(soft, tokens=tuple(dict.fromkeys((*soft.tokens, *tokens))))
        return replace(self, stages=tuple(stages))

    @property
    def wants_text(self) -> bool:
        """Whether a stage that is on has texts that only a vocabulary turns into tokens."""
        return any(stage.wants_text and not stage.is_off() for stage in self.stages)


def name_of(spec: str | Chain | Stage) -> str:
    """Return what a chain is called where it is given as a text, a chain or a single stage."""
    return spec if isinstance(spec, str) else spec.name


def step(stage: Stage, c: Candidates, context: Context) -> tuple[Candidates, Effect]:
    """Apply one stage; return the new distribution, and what the stage did."""
    if stage.is_off():
        return c, Effect(c)
    if stage.revives or c.filled:
        effect = _applied(stage, c, context).there()
        return _followed(stage, effect), effect
    empty = c.n == 0
    effect = _applied(stage, c.stocked(empty), context).there()
    return _followed(stage, effect).emptied(empty), effect.without(empty)


def _followed(stage: Stage, effect: Effect) -> Candidates:
    """Make the distribution that an effect leaves."""
    base = effect.base
    if base.masked and stage.role in MAY_EMPTY:
        base = base.doubted()
    after = base
    if effect.revived is not None:
        return base.revived(effect.revived)
    if effect.scores is not None:
        after = base.rescored(effect.scores, effect.keeps_order)
    if effect.keep is not None:
        after = after.keep(effect.keep, effect.size, effect.most)
    return after


def _brought_by(stage: Stage) -> dict[str, str]:
    plugin = ORIGINS.get(type(stage))
    return {} if plugin is None else {"plugin": plugin.distribution}


def _applied(stage: Stage, c: Candidates, context: Context) -> Effect:
    """Apply a stage; of a plugin's, an exception or an effect of wrong shape names plugin and package."""
    plugin = ORIGINS.get(type(stage))
    if plugin is None:
        return stage.apply(c, context)
    before = None if c.masked else c.scores.clone()  # on a device no number is looked at
    try:
        effect = stage.apply(c, context)
    except (ElimError, MemoryError):
        raise
    except Exception as error:  # code of others may raise anything
        raise plugin.failed(f"{type(error).__name__}: {error}") from error
    if not isinstance(effect, Effect):
        raise plugin.failed(f"apply returns a {type(effect).__name__}, not an Effect")
    if before is not None and not torch.equal(before, c.scores):
        raise plugin.failed("apply edits the scores that it is shown")
    shapes = {"keep": c.scores, "scores": c.scores, "threshold": c.scores[:, 0], "margin": c.target_scores}
    for name, like in shapes.items():
        given = getattr(effect, name)
        if given is not None and given.shape != like.shape:
            raise plugin.failed(f"{name} has the shape {tuple(given.shape)}, not {tuple(like.shape)}")
    if effect.keep is not None and effect.keep.dtype != torch.bool:
        raise plugin.failed("keep must be boolean")
    may_empty = stage.role in ("ban", "require")
    if effect.keep is not None and not may_empty and not c.masked and not effect.keep.any(-1).all():
        raise plugin.failed("keep must keep a token in every row, unless its role is ban or require")
    return effect

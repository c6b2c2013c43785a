"""Search for texts after a prompt with beams, and say what each step drops and how many beams keep a target.

Fills the tables ``beams``, ``beam_steps`` and ``beam_targets``. Searches with other numbers of beams, for the
least that keeps a target, run beside the one that is asked for: each text is read once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.against import After, history
from elimtool.engine.beams import MOST_BEAMS, Beam, BeamSearch, BeamStep, EarlyStopping, Ids
from elimtool.engine.records import columns_of
from elimtool.engine.sequences import paths_of
from elimtool.files.rows import Row, Rows
from elimtool.metrics.columns import Columns
from elimtool.model.decode import TextTree, end_ids
from elimtool.samplers import Chain, Ledger
from elimtool.samplers.grammar import Grammar

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded, Target

FOR_DRAWS = ("temperature", "dynamic_temperature", "quadratic")
"""Rescaling stages that only sampling applies."""


@dataclass(frozen=True, slots=True)
class BeamPlan:
    """How to search.

    Attributes:
        n_beams: Texts that are held.
        longest: Tokens to write at most.
        length_penalty: See ``BeamSearch``.
        early_stopping: See ``BeamSearch``.
    """

    n_beams: int
    longest: int
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = "no"


def beam_chain(chain: Chain) -> Chain:
    """Leave out the stages that shape draws, as transformers does: truncation, temperature, selection.

    A grammar that checks what is drawn masks instead.
    """
    kept = tuple(
        replace(stage, mode="mask") if isinstance(stage, Grammar) else stage
        for stage in chain.stages
        if stage.role not in ("truncate", "select") and stage.kind not in FOR_DRAWS
    )
    return replace(chain, stages=kept)


class _Scored:
    """The model's output after some texts, and the scores that the chain makes of it."""

    def __init__(self, output: Float64[Tensor, "texts vocab"], ledger: Ledger) -> None:
        self.output = output
        self.ledger = ledger
        self.scores = ledger.final


class _Trial:
    """A search that runs beside others, and which of the targets it has kept so far."""

    def __init__(self, search: BeamSearch, paths: Sequence[Ids]) -> None:
        self.search = search
        self._paths = paths
        self.kept = set(range(len(paths)))
        self._decided: set[int] = set()

    def step(self, scores: Float64[Tensor, "open vocab"]) -> BeamStep:
        """Go on by a token, and see which targets stay."""
        done = self.search.step(scores)
        length = len(done.before[0].tokens) + 1
        held = {beam.tokens for beam in (*self.search.open, *self.search.finished)}
        for index, path in enumerate(self._paths):
            if index in self.kept and length <= len(path) and path[:length] not in held:
                self.kept.discard(index)
            if length >= len(path):
                self._decided.add(index)
            elif self.search.done:
                self.kept.discard(index)  # unfinished texts are dropped at the end
        return done

    @property
    def wanted(self) -> bool:
        """Whether there is a target that it has kept, and may still drop."""
        return not self.search.done and bool(self.kept - self._decided)


def beam_tables(
    model: Model, one: Encoded, chain: Chain, plan: BeamPlan, against: After | None = None
) -> Mapping[str, Columns]:
    """Fill the tables of a search after one prompt.

    Args:
        model: The model.
        one: The prompt, and the targets to look for.
        chain: The chain whose stages make the scores, see ``beam_chain``.
        plan: How to search.
        against: Reads the model after a second prompt, for stages that move away from it.

    Raises:
        ElimError: The texts outgrow the model's context, or the model cannot branch.
    """
    prompt, whole = paths_of(one)
    paths = [path[: plan.longest] for path in whole]
    ends = frozenset(end for end in end_ids(model) if end < model.vocab)
    read = _reader(model, prompt, beam_chain(chain), paths, against)

    def begun(n_beams: int) -> _Trial:
        how = plan.longest, ends, plan.length_penalty, plan.early_stopping
        return _Trial(BeamSearch(n_beams, *how), paths)

    own, told = begun(plan.n_beams), _Told(model, one, chain.name, plan, paths)
    trials = {n: begun(n) for n in range(1, MOST_BEAMS + 1) if n != plan.n_beams} if paths else {}
    while running := [trial for trial in (own, *trials.values()) if trial is own or trial.wanted]:
        if own.search.done:
            running.remove(own)
        if not running:
            break
        texts = tuple(dict.fromkeys(beam.tokens for trial in running for beam in trial.search.open))
        found, rows = read(texts), {text: place for place, text in enumerate(texts)}
        for trial in running:
            places = [rows[beam.tokens] for beam in trial.search.open]
            step = trial.step(found.scores[places])
            if trial is own:
                told.add(step, found, places)
    trials[plan.n_beams] = own
    return told.tables(own, trials)


def _reader(
    model: Model, prompt: Ids, chain: Chain, paths: Sequence[Ids], against: After | None
) -> Callable[[Sequence[Ids]], _Scored]:
    tree = TextTree(model, prompt)

    def read(texts: Sequence[Ids]) -> _Scored:
        output = tree.read(texts).log_softmax(-1)
        # what the targets are continued by there: the ledger says which stage removes it
        place = len(texts[0])
        followed = [
            [path[place] if path[:place] == text and place < len(path) else -1 for path in paths] or [-1]
            for text in texts
        ]
        histories = [history(prompt, text, against) for text in texts]
        return _Scored(output, chain.run(output, torch.tensor(followed), histories=histories))

    return read


class _Told:
    """What the search that is asked for saw, as rows."""

    def __init__(self, model: Model, one: Encoded, chain: str, plan: BeamPlan, paths: Sequence[Ids]) -> None:
        self._model, self._one, self._plan, self._paths = model, one, plan, paths
        self._key = {"prompt_id": one.prompt_id, "chain": chain}
        self._steps: Rows = []
        self._logprobs: dict[Ids, float] = {(): 0.0}
        self._displaced: list[Beam] = []
        self._last: dict[int, Row] = {}

    def _spell(self, tokens: Iterable[int]) -> str:
        return b"".join(map(self._model.tokenizer.spell, tokens)).decode("utf-8", "backslashreplace")

    def add(self, step: BeamStep, found: _Scored, places: Sequence[int]) -> None:
        """Take a step over."""
        number = len(step.before[0].tokens)
        spelled = self._model.tokenizer.texts([one.tokens[-1] for one in step.candidates])
        for place, (one, token) in enumerate(zip(step.candidates, spelled, strict=True), 1):
            before = self._logprobs[one.tokens[:-1]]
            self._logprobs[one.tokens] = before + float(found.output[places[one.beam], one.tokens[-1]])
            self._steps.append(
                {
                    **self._key,
                    "step": number,
                    "place": place,
                    "beam": one.beam + 1,
                    "token": token,
                    "token_id": one.tokens[-1],
                    "text": self._spell(one.tokens),
                    "score": one.score,
                    "logprob": min(0.0, self._logprobs[one.tokens]),
                    "ends": one.ends,
                    "fate": one.fate,
                    "lead": _lead(step, one.score, one.ends or number + 1 == self._plan.longest, self._plan),
                }
            )
        self._displaced += step.displaced
        for index, path in enumerate(self._paths):
            self._follow(index, path, step, found, places)

    def _follow(self, index: int, path: Ids, step: BeamStep, found: _Scored, places: Sequence[int]) -> None:
        """Note where a target stands, if it has come this far."""
        number = len(step.before[0].tokens)
        beam = next((at for at, one in enumerate(step.before) if one.tokens == path[:number]), None)
        if beam is None or number >= len(path):
            return
        token, row = path[number], places[beam]
        score = float(step.totals[beam, token])
        possible = score > -torch.inf
        ends = token in end_ids(self._model) or number + 1 == self._plan.longest
        stage = next((one.stage for one in found.ledger.records if bool(one.removed_mask[row, token])), None)
        self._last[index] = {
            "step": number,
            "token": self._model.tokenizer.texts([token])[0],
            "place": int((step.totals > score).sum()) + 1 if possible else None,
            "lead": _lead(step, score, ends, self._plan) if possible else None,
            "removed_by": stage,
        }

    def tables(self, own: _Trial, trials: Mapping[int, _Trial]) -> Mapping[str, Columns]:
        """Make the tables, of what each number of beams has kept."""
        results = [self._text(beam, "result", at) for at, beam in enumerate(own.search.finished, 1)]
        others = [self._text(beam, "displaced") for beam in self._displaced]
        others += [self._text(self._final(beam), "unfinished") for beam in own.search.open]
        filled = {
            "beams": results + others,
            "beam_steps": self._steps,
            "beam_targets": [
                self._target(target, index, own, trials) for index, target in enumerate(self._one.targets)
            ],
        }
        return {name: columns_of(rows) for name, rows in filled.items() if rows}

    def _final(self, beam: Beam) -> Beam:
        return replace(beam, final=beam.score / len(beam.tokens) ** self._plan.length_penalty)

    def _text(self, beam: Beam, fate: str, place: int | None = None) -> Row:
        return {
            **self._key,
            "fate": fate,
            "place": place,
            "text": self._spell(beam.tokens),
            "token_ids": list(beam.tokens),
            "n_tokens": len(beam.tokens),
            "ended": beam.tokens[-1] in end_ids(self._model),
            "final_score": beam.final,
            "score": beam.score,
            "logprob": min(0.0, self._logprobs[beam.tokens]),
        }

    def _target(self, target: Target, index: int, own: _Trial, trials: Mapping[int, _Trial]) -> Row:
        path, last = self._paths[index], self._last[index]
        kept = index in own.kept
        begins = [at for at, beam in enumerate(own.search.finished, 1) if beam.tokens[: len(path)] == path]
        return {
            **self._key,
            "target": target.text,
            "is_foil": target.is_foil,
            "n_followed": len(path),
            "stays": kept,
            "dropped_step": None if kept else last["step"],
            "dropped_token": None if kept else last["token"],
            "place": last["place"],
            "lead": last["lead"],
            "removed_by": last["removed_by"],
            "least_beams": min((n for n, trial in trials.items() if index in trial.kept), default=None),
            "most_beams": max(trials),
            "best_place": min(begins, default=None),
        }


def _lead(step: BeamStep, score: float, ends: bool, plan: BeamPlan) -> float | None:
    """Distance of a score from that of the last continuation that may finish, or goes on; None for none."""
    some = [one.score for one in step.candidates if ends or not one.ends]
    return score - some[plan.n_beams - 1] if len(some) >= plan.n_beams else None

"""Search for probable texts with beams, step by step, as transformers' ``generate(num_beams=...)`` does.

A search knows no model: whoever runs it gives it the scores of the tokens after each open text, such as those
that ``TextTree`` reads, and takes what the step kept, finished and dropped.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.errors import ElimError

Ids = tuple[int, ...]
EarlyStopping = Literal["no", "yes", "never"]
BeamFate = Literal["open", "finished", "dropped"]


MOST_BEAMS = 64
"""Most beams of a search, and most that are tried for the least number that keeps a target."""


@dataclass(frozen=True, slots=True)
class Beam:
    """A text that the search holds.

    Attributes:
        tokens: Its tokens after the prompt.
        score: Sum of its tokens' scores (nats).
        final: Of a finished text: score / number of tokens ** length penalty; NaN of an open one.
    """

    tokens: Ids = ()
    score: float = 0.0
    final: float = float("nan")


@dataclass(frozen=True, slots=True)
class BeamCandidate:
    """A continuation that a step looked at.

    Attributes:
        beam: Place of the open text that it continues, from 0, the best first.
        tokens: Its tokens after the prompt.
        score: Sum of their scores (nats).
        ends: Whether its last token ends a text.
        fate: ``open`` goes on, ``finished`` is among the finished texts, ``dropped`` is neither.
    """

    beam: int
    tokens: Ids
    score: float
    ends: bool
    fate: BeamFate


@dataclass(frozen=True, slots=True)
class BeamStep:
    """What one step of a search saw and did.

    Attributes:
        before: Open texts before the step.
        totals: Score of every continuation of each, -inf for one that cannot be written.
        candidates: The continuations that the step looked at, by falling score.
        last: Score of the worst text that goes on; NaN where none does.
        displaced: Texts that were finished before, and lost their places to better ones in this step.
    """

    before: tuple[Beam, ...]
    totals: Float64[Tensor, "open vocab"]
    candidates: tuple[BeamCandidate, ...]
    last: float
    displaced: tuple[Beam, ...]


class BeamSearch:
    """A search that holds the best texts of each length.

    Each step looks at the ``max(2, 1 + ends) * n`` best continuations of the open texts, ties to the lower
    text and token. Of the first n, those that end are finished, with their score divided by a power of their
    number of tokens; of the finished texts the n best are kept. The n best that do not end go on. One beam
    and no end is greedy decoding.

    Args:
        n_beams: Texts to hold, n.
        longest: Tokens after which every text ends.
        ends: Tokens that end a text.
        length_penalty: The power. 0 compares sums of scores; the larger, the longer texts are preferred.
        early_stopping: When the search ends although a text could go on: once n texts are finished and the
            best open one, at its present length, is not better than the worst of them (``no``); as soon as n
            are finished (``yes``); once no open text can become better at any length (``never``).

    Attributes:
        open: Texts that go on, the best first.
        finished: Finished texts, the best first, n at most.
        done: Whether the search has ended: ``finished`` is its result then.

    Raises:
        ElimError: A number of beams or tokens under 1.
    """

    def __init__(
        self,
        n_beams: int,
        longest: int,
        ends: Collection[int] = (),
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = "no",
    ) -> None:
        for name, value in (("n_beams", n_beams), ("longest", longest)):
            if value < 1:
                raise ElimError(f"`{name}` must be at least 1, got {value}")
        self.n_beams = n_beams
        self.longest = longest
        self.ends = frozenset(ends)
        self.length_penalty = length_penalty
        self.early_stopping = early_stopping
        self.open: tuple[Beam, ...] = (Beam(),)
        self.finished: tuple[Beam, ...] = ()
        self.done = False

    def step(self, scores: Float64[Tensor, "open vocab"]) -> BeamStep:
        """Continue every open text by one token.

        Args:
            scores: Score of each token after each open text, in their order; -inf for one that cannot follow.

        Returns:
            What the step saw and did.
        """
        before, was_finished = self.open, self.finished
        totals = scores + torch.tensor([[beam.score] for beam in before], dtype=torch.float64)
        length = len(before[0].tokens) + 1
        looked = [
            (*divmod(place, totals.shape[1]), score)
            for place, score in _best(totals.flatten(), max(2, 1 + len(self.ends)) * self.n_beams)
        ]
        texts = [Beam((*before[beam].tokens, token), score) for beam, token, score in looked]
        ending = [token in self.ends or length == self.longest for _, token, _ in looked]
        new = [
            Beam(text.tokens, text.score, text.score / length**self.length_penalty)
            for text, ends in zip(texts[: self.n_beams], ending, strict=False)
            if ends
        ]
        # sorting is stable: of equal ones the one that was finished first stays
        ranked = sorted([*was_finished, *new], key=lambda beam: -beam.final)
        self.finished = tuple(ranked[: self.n_beams])
        going = [text for text, ends in zip(texts, ending, strict=True) if not ends]
        self.open = tuple(going[: self.n_beams])
        self.done = not self._goes_on(length)
        held = {beam.tokens: "finished" for beam in self.finished} | {b.tokens: "open" for b in self.open}
        candidates = tuple(
            BeamCandidate(beam, text.tokens, score, token in self.ends, _fate(held, text.tokens))
            for (beam, token, score), text in zip(looked, texts, strict=True)
        )
        displaced = tuple(beam for beam in was_finished if beam not in self.finished)
        last = self.open[-1].score if self.open else float("nan")
        return BeamStep(before, totals, candidates, last, displaced)

    def _goes_on(self, length: int) -> bool:
        if not self.open:
            return False
        if len(self.finished) < self.n_beams:
            return True
        if self.early_stopping == "yes":
            return False
        never = self.early_stopping == "never" and self.length_penalty > 0
        power: float = (self.longest if never else length) ** self.length_penalty
        return self.open[0].score / power > self.finished[-1].final


def _fate(held: dict[Ids, str], tokens: Ids) -> BeamFate:
    found = held.get(tokens)
    return "open" if found == "open" else "finished" if found else "dropped"


def _best(values: Float64[Tensor, "some"], count: int) -> list[tuple[int, float]]:
    """List places and values of the largest finite values, falling; the first place among ties."""
    least = values.topk(min(count, len(values))).values[-1]
    places = ((values >= least) & (values > -torch.inf)).nonzero()[:, 0]  # all that tie with the last
    order = values[places].argsort(descending=True, stable=True)[:count]
    places = places[order]
    return list(zip(places.tolist(), values[places].tolist(), strict=True))

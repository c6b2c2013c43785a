"""Compare what a model would write after each survivor: are they several choices, or one in several words?

Two survivors are alike where the distributions of what follows them are. The effective number of different
survivors counts likeness: Hill's number of order 1 with a similarity matrix (Leinster and Cobbold 2012,
"Measuring diversity: the importance of species similarity", Ecology 93(3)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from elimtool.engine.against import After, history
from elimtool.engine.records import columns_of
from elimtool.errors import ElimError
from elimtool.files.rows import Rows
from elimtool.lenses.corpus import shipped
from elimtool.lenses.stream import cut_windows
from elimtool.metrics.columns import Columns
from elimtool.model.endings import Endings, after_each
from elimtool.numerics.distributions import entropy, jensen_shannon

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain, History, Ledger
    from elimtool.samplers.candidates import Candidates

SUBSTITUTE = 0.5
"""Least likeness of the futures of two substitutes."""
SUCCESSOR = 0.05
"""Least probability of a successor right after the token that it continues."""
OTHERS = 8
"""Passages of other text whose likely tokens are put in a survivor's place, two of each ..."""
OTHER_TOKENS = 40
"""... and tokens of each passage."""


@dataclass(frozen=True)
class _Set:
    """The first survivors of a stage, or of the output before it.

    Attributes:
        stage: Index of the stage; ``None`` before the first.
        n: All survivors.
        tokens: Those that are read, falling by probability, the lower id first among equals.
        probs: Their probabilities after the stage.
    """

    stage: int | None
    n: int
    tokens: tuple[int, ...]
    probs: Float64[Tensor, " read"]

    @staticmethod
    def of(c: Candidates, stage: int | None, most: int) -> _Set:
        """Take the first of the survivors that are left."""
        alive = c.alive[0]
        ids, probs = c.ids[0][alive], c.exact[0][alive]
        by_id = ids.argsort()
        order = by_id[probs[by_id].argsort(descending=True, stable=True)][:most]
        return _Set(stage, int(c.n[0]), tuple(ids[order].tolist()), probs[order])


@dataclass(frozen=True)
class _Futures:
    """What follows each of some tokens at one position.

    Attributes:
        tokens: The tokens.
        next: Log-probabilities (nats) right after each.
        last: Those at the step that futures are compared at.
        alike: Likeness of their futures, 0 .. 1.
    """

    tokens: tuple[int, ...]
    next: Float64[Tensor, "some vocab"]
    last: Float64[Tensor, "some vocab"]
    alike: Float64[Tensor, "some some"]

    def places(self, tokens: Sequence[int]) -> list[int]:
        """Return the rows of some of the tokens."""
        return [self.tokens.index(one) for one in tokens]


class SurvivorFutures:
    """Fills the tables of survivors for one prompt after another.

    Args:
        model: The model, without interventions.
        chains: The chains whose survivors are compared.
        most: How many of them, the most probable first.
        steps: Tokens from the survivor to the distribution that is compared, 1 or more; those between are the
            most probable ones.
        against: Reads the model after a second prompt, for stages that move away from it.
    """

    def __init__(
        self, model: Model, chains: Sequence[Chain], most: int, steps: int, against: After | None = None
    ) -> None:
        self.model = model
        self.chains = chains
        self.most = most
        self.steps = steps
        self.against = against

    def tables(self, one: Encoded, endings: Endings) -> dict[str, Columns]:
        """Fill ``survivors``, ``survivor_pairs`` and ``survivor_sets`` for a prompt's probed positions.

        Args:
            one: The prompt.
            endings: Reads the model after other endings of it.
        """
        rows: dict[str, Rows] = {"survivors": [], "survivor_pairs": [], "survivor_sets": []}
        for position in one.positions:
            self._at(rows, one, endings, position)
        return {name: columns_of(found) for name, found in rows.items() if found}

    def _at(self, rows: dict[str, Rows], one: Encoded, endings: Endings, position: int) -> None:
        needed, context = position + 1 + self.steps, self.model.context
        if context is not None and needed > context:
            raise ElimError(
                f"what follows a survivor takes {needed:,} tokens, but the model's context is {context:,}",
                "shorten the prompt, or lower `future_steps`",
            )
        output = after_each(self.model, [one.token_ids[: position + 1]])
        own = len(one.token_ids) - one.n_written
        seen = one.token_ids[: position + 1]
        past = history(seen[:own], seen[own:], self.against)
        ledgers = [self._run(chain, output, past) for chain in self.chains]
        sets = [self._sets(ledger) for ledger in ledgers]
        wanted = dict.fromkeys(token for some in sets for each in some for token in each.tokens)
        found = self._futures(endings, position, tuple(wanted))
        null = self._null(endings, position)
        for chain, some in zip(self.chains, sets, strict=True):
            at = {"prompt_id": one.prompt_id, "position": position, "chain": chain.name}
            rows["survivors"] += [{**at, **row} for row in self._survivors(some[-1], found)]
            pairs = self._pairs(some[-1], found, output[0])
            rows["survivor_pairs"] += [{**at, **row, "same_future_null": null} for row in pairs]
            names = [stage.name for stage in chain.stages]
            rows["survivor_sets"] += [{**at, **_counted(each, names, found)} for each in some]

    def _run(self, chain: Chain, output: Float64[Tensor, "1 vocab"], past: History) -> Ledger:
        nobody = torch.full((1, 1), -1)  # no token is followed
        return chain.run(output, nobody, histories=[past])

    def _sets(self, ledger: Ledger) -> list[_Set]:
        stages = range(len(ledger.records))
        after = [_Set.of(ledger.before(stage + 1), stage, self.most) for stage in stages]
        return [_Set.of(ledger.before(0), None, self.most), *after]

    def _futures(self, endings: Endings, position: int, tokens: tuple[int, ...]) -> _Futures:
        written: list[tuple[int, ...]] = [(token,) for token in tokens]
        first = last = endings.after([(position + 1, own) for own in written])
        for _ in range(self.steps - 1):
            written = [(*own, int(row.argmax())) for own, row in zip(written, last, strict=True)]
            last = endings.after([(position + 1, own) for own in written])
        return _Futures(tokens, first, last, _alike(last))

    def _null(self, endings: Endings, position: int) -> float:
        """Median likeness of the futures of two tokens that are likely elsewhere, in a survivor's place."""
        pairs = self._elsewhere
        found = self._futures(endings, position, tuple(dict.fromkeys(one for two in pairs for one in two)))
        alike = [
            float(found.alike[a, b])
            for at, two in enumerate(pairs)
            for other in pairs[at + 1 :]
            for a in found.places(two)
            for b in found.places(other)
            if a != b
        ]
        return float(torch.tensor(alike, dtype=torch.float64).median())

    @cached_property
    def _elsewhere(self) -> list[tuple[int, int]]:
        """Two likely tokens after each of a few passages of other text."""
        documents = shipped("held_out")
        some = documents[:: len(documents) // OTHERS][:OTHERS]
        begun = [cut_windows(self.model, [one], OTHER_TOKENS, OTHER_TOKENS)[0] for one in some]
        best = after_each(self.model, begun).topk(2, dim=-1).indices
        return [(int(first), int(second)) for first, second in best]

    def _survivors(self, last: _Set, found: _Futures) -> Rows:
        if not last.tokens:  # bans may leave none
            return []
        places = found.places(last.tokens)
        futures = found.last[places]
        best = futures.argmax(-1).tolist()
        names = self.model.tokenizer.texts([*last.tokens, *best])
        doubt = entropy(futures)
        return [
            {
                "place": place + 1,
                "token": names[place],
                "token_id": token,
                "prob": float(last.probs[place]),
                "future_entropy": float(doubt[place]),
                "future_top": names[len(places) + place],
            }
            for place, token in enumerate(last.tokens)
        ]

    def _pairs(self, last: _Set, found: _Futures, output: Float64[Tensor, " vocab"]) -> Rows:
        names = dict(zip(last.tokens, self.model.tokenizer.texts(last.tokens), strict=True))
        places = dict(zip(last.tokens, found.places(last.tokens), strict=True))
        rows = []
        for a in last.tokens:
            for b in last.tokens:
                if a == b:
                    continue
                after = float(found.next[places[a], b])
                same = float(found.alike[places[a], places[b]])
                leads = float(torch.tensor(after - float(output[b]), dtype=torch.float64).exp())
                rows.append(
                    {
                        "token_a": names[a],
                        "token_a_id": a,
                        "token_b": names[b],
                        "token_b_id": b,
                        "same_future": same,
                        "cosine": float(self._directions[a] @ self._directions[b]),
                        "leads_to": leads,
                        "kind": kind_of(names[a], names[b], same, leads, after),
                    }
                )
        return rows

    @cached_property
    def _directions(self) -> Float[Tensor, "vocab width"]:
        """The unembedding's rows, without their mean and of length 1."""
        rows = self.model.written(torch.arange(self.model.vocab, device=self.model.device)).float().cpu()
        return torch.nn.functional.normalize(rows - rows.mean(0), dim=-1)


def kind_of(a: str, b: str, same_future: float, leads_to: float, logprob: float) -> str:
    """Say what one survivor is to another.

    Args:
        a: The text of one.
        b: The text of the other.
        same_future: Likeness of what follows them, 0 .. 1.
        leads_to: How many times as probable ``b`` is once ``a`` is written.
        logprob: Log-probability (nats) of ``b`` right after ``a``.
    """
    word = a.strip().lower()
    if word and word == b.strip().lower():  # white space of two kinds is no word
        return "same word"
    if same_future >= SUBSTITUTE:
        return "substitute"
    if leads_to > 1 and logprob > torch.tensor(SUCCESSOR).log():
        return "successor"
    return "other"


def diversity(probs: Float64[Tensor, " some"], alike: Float64[Tensor, "some some"]) -> tuple[float, float]:
    """Count the effective number of some things: of all that differ, and with likeness counted.

    Args:
        probs: Their probabilities, which are made to sum to 1.
        alike: Their likeness, 0 .. 1, with 1 on the diagonal.

    Returns:
        Hill's number of order 1, 1 .. number of things, and the same with likeness, 1 .. the first.
    """
    shares = probs / probs.sum()
    shares, alike = shares[shares > 0], alike[shares > 0][:, shares > 0]
    return float((-(shares * shares.log()).sum()).exp()), float(
        (-(shares * (alike @ shares).log()).sum()).exp()
    )


def _alike(futures: Float64[Tensor, "some vocab"]) -> Float64[Tensor, "some some"]:
    count = len(futures)
    alike = torch.ones(count, count, dtype=torch.float64)
    for row in range(count - 1):
        others = futures[row + 1 :]
        apart = jensen_shannon(futures[row].expand(others.shape), others).double()
        alike[row, row + 1 :] = alike[row + 1 :, row] = (1.0 - apart).clamp(0.0, 1.0)
    return alike


def _counted(some: _Set, names: Sequence[str], found: _Futures) -> dict[str, object]:
    places = found.places(some.tokens)
    hill, futures = diversity(some.probs, found.alike[places][:, places]) if places else (None, None)
    return {
        "stage_index": some.stage,
        "stage": None if some.stage is None else names[some.stage],
        "n": some.n,
        "n_read": len(some.tokens),
        "mass_read": float(some.probs.sum()),
        "hill1": hill,
        "futures": futures,
    }

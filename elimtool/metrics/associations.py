"""Compare concepts below the output with sets of tokens as frequent, layer by layer.

Table ``associations``: the best rank among a concept's tokens and their mass after each layer, beside
``MATCHED_SETS`` control sets. A word that stands in the prompt is read off its own residuals, which is no
association: its tokens are left out, and so are the prompt's from the control sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, join, place, spelled
from elimtool.metrics.concepts import control_sets
from elimtool.metrics.metric import Concept, Metric, ReadoutView, RowFacts
from elimtool.numerics.exchangeable import BEYOND, LEAST, AmongOthers, judged
from elimtool.numerics.ranking import rank
from elimtool.numerics.transfer import arrays, sent

MATCHED_SETS = 99
"""Control sets of a concept; with 99 the least p-value is 0.01."""


def unsaid(ids: Sequence[int], said: Sequence[int], spell: Callable[[int], str]) -> tuple[int, ...]:
    """Drop tokens that have been said, in whatever case and with or without a space before them.

    Args:
        ids: Tokens of a concept.
        said: Tokens of a prompt.
        spell: Converts a vocabulary index to text.
    """
    known = {_folded(spell(token)) for token in set(said)} - {""}
    return tuple(token for token in ids if token not in said and _folded(spell(token)) not in known)


def _folded(text: str) -> str:
    return text.strip().casefold()


def matched_sets(
    concept: Concept, said: Sequence[int], spell: Callable[[int], str], prior: Float[Tensor, "vocab"] | None
) -> list[tuple[int, ...]]:
    """List the unsaid tokens of a concept, then its control sets; the first is empty if all are said."""
    mine = unsaid(concept.ids, said, spell)
    if not mine or prior is None:
        return [mine]
    return [mine, *control_sets(mine, prior, MATCHED_SETS, (*concept.ids, *said))]


class ConceptAt(NamedTuple):
    """A concept at a probed row.

    Attributes:
        row: Index of the row.
        concept: The concept.
        sets: Its unsaid tokens and its control sets, [sets, tokens]; 0 tokens if all are said.
    """

    row: int
    concept: Concept
    sets: Tensor


class Associations(Metric):
    """Ranks concepts at every layer, and judges the ranks by control sets."""

    tables: ClassVar[tuple[str, ...]] = ("associations",)

    def read(self, view: ReadoutView) -> None:
        """Look at some rows: all logits that are asked for come to the host at once, and then all ranks."""
        asked = self._asked(view)
        logits, normaliser = _logits(view, [(one.row, one.sets.flatten()) for one in asked])
        found = [
            _measured(one.sets, values.view(len(values), *one.sets.shape), normaliser[:, one.row])
            for one, values in zip(asked, logits, strict=True)
        ]
        ranks, places = _ranks(view, [(one.row, each.ranked) for one, each in zip(asked, found, strict=True)])
        facts = view.facts
        self.bring(
            {"ranks": ranks},
            lambda here: {
                "associations": join(
                    [
                        self._columns(facts, one, each, here["ranks"][:, row, own])
                        for one, each, (row, own) in zip(asked, found, places, strict=True)
                    ]
                )
            },
        )

    def _asked(self, view: ReadoutView) -> list[ConceptAt]:
        """List the concepts at some rows, those of one row after the other."""
        prior = None if self.settings.reference is None else self.settings.reference.prior
        prompts, probes = view.rows.here
        positions = self.batch.here["positions"][prompts, probes].tolist()
        found = []
        for row, (prompt, position) in enumerate(zip(prompts.tolist(), positions, strict=True)):
            said = self.batch.encoded[prompt].token_ids[: position + 1]
            for one in self.settings.concepts:
                sets = matched_sets(one, said, view.spell, prior)
                found.append(ConceptAt(row, one, torch.tensor(sets, dtype=torch.long)))
        return found

    def _columns(
        self, facts: RowFacts, asked: ConceptAt, found: ConceptRanked, ranks: npt.NDArray[np.int64]
    ) -> Columns:
        """Make the rows of one concept at one position."""
        layers, (count, n_tokens) = len(ranks), asked.sets.shape
        nothing = np.full(layers, None, dtype=object)
        columns: dict[str, Any] = dict.fromkeys(_MEASURED, nothing)
        if n_tokens:
            columns |= {
                "best_token": spelled(found.ranked[:, 0].numpy(), facts.spell),
                "best_rank": ranks[:, 0],
                "mass": found.mass.numpy(),
                **_judgement(judged(found.best.numpy().T[:, 1:]), layers),
            }
            columns |= dict(zip(CONTROL_RANKS, ranks.T[1:], strict=False))  # none with too few sets
        return {
            **place(self.batch, facts.rows, np.full(layers, asked.row)),
            "layer": np.arange(layers) - 1,
            "lens": Categorical([facts.lens], np.zeros(layers, dtype=np.int32)),
            "concept": Categorical([asked.concept.name], np.zeros(layers, dtype=np.int32)),
            "n_tokens": np.full(layers, n_tokens),
            "n_said": np.full(layers, len(asked.concept.ids) - n_tokens),
            "n_controls": np.full(layers, count - 1),
            **columns,
        }


class ConceptRanked(NamedTuple):
    """A concept and its control sets after each layer.

    Attributes:
        best: The best logit of each set, [layers, sets].
        mass: Probability of the concept's tokens, [layers].
        ranked: Tokens to rank, [layers, some]: the concept's best, and those of the sets of ``_borders``.
    """

    best: Tensor
    mass: Tensor
    ranked: Tensor


def _measured(
    sets: Int[Tensor, "sets tokens"],
    logits: Float[Tensor, "layers sets tokens"],
    normaliser: Float64[Tensor, "layers"],
) -> ConceptRanked:
    """Weigh a concept and its control sets after each layer."""
    if not sets.shape[1]:
        nothing = logits.new_empty(len(logits), 0)
        return ConceptRanked(nothing, nothing, sets.new_empty(len(logits), 0))
    best, which = logits.max(-1)
    tokens = sets[torch.arange(len(sets)), which]  # [layers, sets]
    mass = (logits[:, 0].double() - normaliser[:, None]).exp().sum(-1).clamp(max=1)
    order = best[:, 1:].argsort(dim=1, descending=True, stable=True)
    border = [tokens[:, 1:].gather(1, order[:, at : at + 1]) for at in _borders(len(sets) - 1)]
    return ConceptRanked(best, mass, torch.cat([tokens[:, :1], *border], 1))


def _logits(
    view: ReadoutView, asked: Sequence[tuple[int, Tensor]]
) -> tuple[list[Tensor], Float64[Tensor, "layers rows"]]:
    """Return the logits of tokens of rows, [layers, some], and every row's normaliser, on the host."""
    grid, places = _side_by_side(asked, view.logits.shape[1])
    wanted = sent(grid, view.logits.device).expand(len(view.logits), -1, -1)
    normaliser = view.shapes.normaliser.reshape(view.logits.shape[:2])
    found = arrays({"logits": view.logits.gather(-1, wanted), "normaliser": normaliser})
    logits = torch.from_numpy(found["logits"])
    return [logits[:, row, own] for row, own in places], torch.from_numpy(found["normaliser"])


def _ranks(
    view: ReadoutView, asked: Sequence[tuple[int, Tensor]]
) -> tuple[Int[Tensor, "layers rows most"], list[tuple[int, slice]]]:
    """Rank tokens of rows, [layers, some]: other ones after each layer; say where each part stands."""
    grid, places = _side_by_side(asked, view.logits.shape[1])
    rows, wanted = view.logits.flatten(0, 1), sent(grid.flatten(0, 1), view.logits.device)
    return rank(rows, wanted, view.shapes.leading, view.shapes.maxima)[0].view(grid.shape), places


def _side_by_side(
    parts: Sequence[tuple[int, Tensor]], rows: int
) -> tuple[Int[Tensor, "*layers rows most"], list[tuple[int, slice]]]:
    """Put parts of rows, [*layers, some], side by side, padded with 0; say where in its row each stands."""
    ends, places = [0] * rows, []
    for row, part in parts:
        places.append((row, slice(ends[row], ends[row] + part.shape[-1])))
        ends[row] += part.shape[-1]
    grid = torch.zeros(*parts[0][1].shape[:-1], rows, max(ends), dtype=torch.long)
    for (row, own), (_, part) in zip(places, parts, strict=True):
        grid[..., row, own] = part
    return grid, places


CONTROL_RANKS = ("control_rank", "control_rank_low", "control_rank_high")
_MEASURED = (
    "best_token",
    "best_rank",
    "mass",
    *CONTROL_RANKS,
    "p_value",
    "p_adjusted",
    "surfaces_at",
    "surface_chance",
)


def _borders(count: int) -> tuple[int, ...]:
    """Places of the control sets, from the best: the median, 5 % and 95 % of them; none with too few."""
    if count < LEAST:
        return ()
    low = ceil(BEYOND * (count + 1) - 1e-9) - 1  # a product just above a whole number is rounding
    return (count - 1) // 2, low, count - 1 - low


def _judgement(found: AmongOthers | None, layers: int) -> dict[str, npt.NDArray[Any]]:
    """Make the columns of p-values; the embedding, which has seen one token, has none."""
    nothing = np.full(layers, None, dtype=object)
    if found is None:
        return dict.fromkeys(("p_value", "p_adjusted", "surfaces_at", "surface_chance"), nothing)
    return {
        "p_value": np.concatenate([[np.nan], found.p]),
        "p_adjusted": np.concatenate([[np.nan], found.adjusted]),
        "surfaces_at": np.full(layers, found.surfaces, dtype=object),
        "surface_chance": np.full(layers, found.chance),
    }

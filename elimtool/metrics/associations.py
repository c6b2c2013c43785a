"""Compare concepts below the output with sets of tokens as frequent, layer by layer.

Table ``associations``: the best rank among a concept's tokens and their mass after each layer, beside
``MATCHED_SETS`` control sets. A word that stands in the prompt is read off its own residuals, which is no
association: its tokens are left out, and so are the prompt's from the control sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.metrics.columns import Categorical, place
from elimtool.metrics.concepts import control_sets
from elimtool.metrics.metric import Concept, Metric, ReadoutView
from elimtool.numerics.exchangeable import BEYOND, LEAST, AmongOthers, judged
from elimtool.numerics.ranking import rank

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


class Associations(Metric):
    """Ranks concepts at every layer, and judges the ranks by control sets."""

    tables: ClassVar[tuple[str, ...]] = ("associations",)

    def read(self, view: ReadoutView) -> None:
        """Look at some rows, one concept after the other."""
        positions = self.batch.positions.cpu()
        prompts, probes = (index.tolist() for index in view.rows)
        for row, (prompt, probe) in enumerate(zip(prompts, probes, strict=True)):
            said = self.batch.encoded[prompt].token_ids[: int(positions[prompt, probe]) + 1]
            for one in self.settings.concepts:
                self._keep(view, row, one, said)

    def _keep(self, view: ReadoutView, row: int, concept: Concept, said: Sequence[int]) -> None:
        """Keep the rows of one concept at one position."""
        reference = self.settings.reference
        prior = None if reference is None else reference.prior
        sets = matched_sets(concept, said, view.spell, prior)
        layers = len(view.logits)
        nothing = np.full(layers, None, dtype=object)
        found: dict[str, Any] = dict.fromkeys(_MEASURED, nothing)
        if sets[0]:
            found = self._measured(view, row, torch.tensor(sets, device=view.logits.device))
        self.filled["associations"].append(
            {
                **place(self.batch, view.rows, np.full(layers, row)),
                "layer": np.arange(layers) - 1,
                "lens": Categorical([view.lens], np.zeros(layers, dtype=np.int32)),
                "concept": Categorical([concept.name], np.zeros(layers, dtype=np.int32)),
                "n_tokens": np.full(layers, len(sets[0])),
                "n_said": np.full(layers, len(concept.ids) - len(sets[0])),
                "n_controls": np.full(layers, len(sets) - 1),
                **found,
            }
        )

    def _measured(self, view: ReadoutView, row: int, sets: Tensor) -> dict[str, Any]:
        """Rank and weigh a concept and its control sets, [sets, tokens], after each layer."""
        logits = view.logits[:, row]
        chosen = logits[:, sets]  # [layers, sets, tokens]
        best, which = chosen.max(-1)
        tokens = sets[torch.arange(len(sets), device=sets.device), which]  # [layers, sets]
        normaliser = view.shapes.normaliser.reshape(len(logits), -1)[:, row]
        mass = (chosen[:, 0].double() - normaliser[:, None]).exp().sum(-1).clamp(max=1)
        border = _borders(len(sets) - 1)
        order = best[:, 1:].argsort(dim=1, descending=True, stable=True)
        wanted = [tokens[:, :1], *(tokens[:, 1:].gather(1, order[:, at : at + 1]) for at in border)]
        ranks = rank(logits, torch.cat(wanted, 1))[0].cpu().numpy()
        found = judged(best.cpu().numpy().T[:, 1:])
        layers = len(logits)
        nothing = np.full(layers, None, dtype=object)
        return {
            "best_token": Categorical(
                [view.spell(token) for token in tokens[:, 0].tolist()], np.arange(layers, dtype=np.int32)
            ),
            "best_rank": ranks[:, 0],
            "mass": mass.cpu().numpy(),
            **{name: ranks[:, 1 + at] if border else nothing for at, name in enumerate(CONTROL_RANKS)},
            **_judgement(found, layers),
        }


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

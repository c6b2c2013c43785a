"""Follow concepts: whether a token of a set is alive after each layer and stage, and of sets as frequent.

Fills table ``concepts``. A concept that is never there agrees with itself in every prompt, so each has
``CONTROLS`` sets of as many tokens, nearest in p_0; without a fitted lens, whose file holds p_0, there are
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, join, place
from elimtool.metrics.controls import matching
from elimtool.metrics.metric import Concept, Here, Metric, ReadoutView
from elimtool.metrics.sampling import histories
from elimtool.model.view import Rows
from elimtool.numerics.ranking import nucleus
from elimtool.numerics.transfer import sent

CONTROLS = 20
"""Control sets of a concept; with 20 the least p-value is 1 / 21."""


def concept(name: str, ids: tuple[int, ...], prior: Float[Tensor, "vocab"] | None) -> Concept:
    """Make a concept with its control sets.

    Args:
        name: What it is called.
        ids: Its tokens, each once.
        prior: Logarithm of p_0; ``None`` without a fitted lens.
    """
    return Concept(name, ids, () if prior is None else control_sets(ids, prior, CONTROLS, ids))


def control_sets(
    ids: Sequence[int], prior: Float[Tensor, "vocab"], count: int, excluded: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Exchange each token of a set for others near it in log p_0, none of them twice.

    Args:
        ids: The tokens, each once.
        prior: Logarithm of p_0.
        count: Sets to make.
        excluded: Tokens that no set has.

    Returns:
        Sets of as many tokens, the nearest first; fewer than ``count`` where a small vocabulary has no more.
    """
    matched = matching(prior)
    free = len(prior) - len({*ids, *excluded})
    count = min(count, free // len(ids))  # so that the first token does not take what the last one needs
    used: set[int] = set()
    columns = []
    for token in ids:
        near = matched.nearest(token, [*ids, *excluded], count * len(ids)).tolist()
        mine = [one for one in near if one not in used][:count]
        used.update(mine)
        columns.append(mine)
    several = min(map(len, columns), default=0)
    return tuple(tuple(column[index] for column in columns) for index in range(several))


class Concepts(Metric):
    """Follows each concept and its control sets."""

    tables: ClassVar[tuple[str, ...]] = ("concepts",)

    def read(self, view: ReadoutView) -> None:
        """Look at some rows, layer by layer and stage by stage."""
        every = [torch.tensor([one.ids, *one.controls]) for one in self.settings.concepts]  # [sets, tokens]
        pairs = list(zip(self.settings.concepts, every, strict=True))
        stages = [self._stages(view, one, sets) for one, sets in pairs]
        rows = view.rows

        def columns(here: Here) -> dict[str, Columns]:
            found, start = list[Columns](), 0
            inside, logprobs = (torch.from_numpy(here[name]) for name in ("inside", "logprobs"))
            for (one, sets), behind in zip(pairs, stages, strict=True):
                own = slice(start, start := start + sets.numel())
                layers = zip(inside[..., own], logprobs[..., own], strict=True)
                found += [self._layer(rows, one, sets, index, *layer) for index, layer in enumerate(layers)]
                found += behind
            return {"concepts": join(found)}

        self.bring(_read(view.logits, torch.cat([sets.flatten() for sets in every])), columns)

    def _layer(
        self, rows: Rows, one: Concept, sets: Int[Tensor, "sets k"], index: int, flags: Tensor, values: Tensor
    ) -> Columns:
        alive = flags.reshape(-1, *sets.shape).any(-1)
        mass = values.reshape(-1, *sets.shape).double().exp().sum(-1)
        return self._columns(rows, one, alive, mass, {"layer": index - 1})

    def _stages(self, view: ReadoutView, one: Concept, sets: Int[Tensor, "sets k"]) -> list[Columns]:
        logits, found = view.here, list[Columns]()
        ids = sets.flatten().expand(len(logits), -1)
        past = histories(view, self.settings)
        for chain in self.settings.chains:
            for index, record in enumerate(chain.run(logits, ids, histories=past).records):
                alive = record.alive_after.view(len(logits), *sets.shape).any(-1)
                mass = record.prob_after.view(len(logits), *sets.shape).double().nan_to_num().sum(-1)
                at = {"chain": chain.name, "stage_index": index, "stage": record.stage}
                found.append(self._columns(view.rows, one, alive, mass, at))
        return found

    def _columns(
        self,
        rows: Rows,
        one: Concept,
        alive: Bool[Tensor, "rows sets"],
        mass: Float[Tensor, "rows sets"],
        at: dict[str, Any],
    ) -> Columns:
        """Make the rows of one layer or stage; -1 of ``control`` is the concept itself."""
        row, number = np.indices(tuple(alive.shape)).reshape(2, -1)
        nothing = np.full(len(row), None, dtype=object)
        return {
            **place(self.batch, rows, row),
            "concept": Categorical([one.name], np.zeros(len(row), int)),
            "control": np.ma.masked_less(number - 1, 0),
            "n_tokens": np.full(len(row), len(one.ids)),
            **{
                name: nothing if at.get(name) is None else np.full(len(row), at[name], dtype=object)
                for name in ("layer", "chain", "stage_index", "stage")
            },
            "alive": alive.numpy().reshape(-1),
            "mass": mass.numpy().reshape(-1).clip(0, 1),
        }


def _read(logits: Float[Tensor, "layers rows vocab"], tokens: Int[Tensor, "some"]) -> dict[str, Tensor]:
    """Tell of tokens at every layer whether they are in the nucleus, and their log-probabilities (nats).

    Returns:
        ``inside`` and ``logprobs``, [layers, rows, tokens].
    """
    wanted = sent(tokens, logits.device)
    inside, logprobs = [], []
    for layer in logits:
        normed = layer.log_softmax(-1)
        inside.append(nucleus(normed)[:, wanted])
        logprobs.append(normed[:, wanted])
    return {"inside": torch.stack(inside), "logprobs": torch.stack(logprobs)}

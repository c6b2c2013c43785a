"""Ablate pairs of heads on sequences that repeat, together and each alone: whose loss hides whose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from elimtool.analysis.map.roles import RoleScores, best
from elimtool.analysis.map.sums import Array
from elimtool.model.affine import wide
from elimtool.model.interventions.edits import Site
from elimtool.model.interventions.install import hook_point
from elimtool.model.model import Model
from elimtool.model.partial import PartialPass
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.probes import PAIRS
from elimtool.tasks.map.readable import formed
from elimtool.tasks.map.roles import PatternSums
from elimtool.tasks.map.units import CONTROL, HALF, REPEATS, Unit, Units

Head = tuple[int, int]

AT_ONCE = 32
"""Sequences that run side by side."""
RANDOM = 20
"""Random pairs of the same layers, the null of a pair."""
NULL_SEQUENCES = 8
"""Sequences on which these are measured."""
SEED = 3


class Interactions:
    """Chooses pairs of heads by their roles, and measures what is lost without them.

    Heads are put to their mean over all sequences, at all positions but sinks. What is lost is the rise of
    the mean loss of the second half's tokens, but for the first, which nothing can tell.

    Args:
        model: The model.
        tokens: As of ``Units``.
    """

    def __init__(self, model: Model, tokens: int) -> None:
        self.model = model
        self.made = Units(model, tokens)
        self.partial = PartialPass(model)
        self._known: dict[tuple[tuple[Head, ...], int], Tensor] = {}

    @cached_property
    def sequences(self) -> Batch:
        """All repeats."""
        return Batch.of(self.made.repeats(), self.model.device)

    @cached_property
    def _text(self) -> list[int]:
        """Positions that are no sinks."""
        sinks = {at for one in self.sequences.encoded for at in one.sinks}
        return [at for at in range(self.sequences.ids.shape[1]) if at not in sinks]

    @cached_property
    def chosen(self) -> Mapping[str, Sequence[Head]]:
        """The two best heads of each role that is present, by role."""
        repeats, control = self._scores(self.sequences), self._scores(self._of(self.made.repeats(CONTROL)))
        nulls = {"previous": repeats["far"]}
        return {
            role: best(RoleScores(role, REPEATS, repeats[role], nulls.get(role, control[role])), 2)
            for role in ("previous", "duplicate", "induction")
        }

    def _of(self, some: Sequence[Encoded]) -> Batch:
        return Batch.of(some, self.model.device)

    def _scores(self, batch: Batch) -> dict[str, Array]:
        """Score the roles of all heads, [sequences, layers, heads] by role."""
        lead = len(self.made.lead)
        units = [Unit(REPEATS, index, one, lead) for index, one in enumerate(batch.encoded)]
        watch = PatternSums(self.model, units, batch)
        self.model.stream(batch, {"attention"}, lambda view: watch.observe(view, formed(view)))
        found = watch.sums()
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: found[name] / found[f"{name}.rows"] for name in watch.names}

    @cached_property
    def pairs(self) -> Sequence[tuple[Head, Head] | None]:
        """The heads of each of ``PAIRS``; ``None`` where a role has too few."""
        return [self._pair(*roles) for roles in PAIRS]

    def _pair(self, one: str, other: str) -> tuple[Head, Head] | None:
        first, second = self.chosen[one], self.chosen[other]
        heads = first if one == other else [*first[:1], *second[:1]]
        return None if len(heads) < 2 or heads[0] == heads[1] else (heads[0], heads[1])

    @cached_property
    def _kept(self) -> tuple[dict[int, Tensor], dict[int, Tensor], Tensor]:
        """States that enter the layers of the pairs, means of what their heads hand on, and the loss."""
        layers = {layer for pair in self.pairs if pair for layer, _ in pair}
        states: dict[int, Tensor] = {}
        means: dict[int, Tensor] = {}
        last: list[Tensor] = []

        def observe(view: LayerView) -> None:
            if view.layer + 1 in layers:
                states[view.layer + 1] = view.residual.clone()
            if view.layer in layers and view.block is not None and view.block.heads is not None:
                means[view.layer] = wide(view.block.heads.inputs)[:, self._text].mean((0, 1))
            last[:] = [view.residual]

        self.model.stream(self.sequences, {"block"}, observe)
        self.partial.run(self.sequences.ids[:1])  # learns the form of the blocks' outputs
        return states, means, self._loss(last[0], self.sequences.ids)

    def pair(self, index: int) -> tuple[Head, Head] | None:
        """Return the heads of a pair of roles; ``None`` where a role has none that can be ablated."""
        found = self.pairs[index]
        return found if found and all(layer in self._kept[1] for layer, _ in found) else None

    def effects(self, pair: tuple[Head, Head]) -> Float64[Tensor, "three sequences"]:
        """Return the rise of each sequence's loss without one head, without the other, and without both."""
        every = len(self.sequences.encoded)
        return self._lost([pair[:1], pair[1:], pair], every)

    def null(self, pair: tuple[Head, Head], index: int) -> Float64[Tensor, "pairs"]:
        """Return the interaction of random pairs of the same layers, without the pair itself."""
        (one, _), (other, _) = pair
        heads = range(self.model.n_heads)
        known = {
            tuple(sorted(((one, a), (other, b)))) for a in heads for b in heads if (one, a) != (other, b)
        }
        left = sorted(known - {tuple(sorted(pair))})
        order = np.random.Generator(np.random.PCG64([SEED, index])).permutation(len(left))[:RANDOM]
        pairs = [left[at] for at in order]
        asked = [some for two in pairs for some in (two[:1], two[1:], two)]
        lost = self._lost(asked, NULL_SEQUENCES).mean(1).reshape(-1, 3)
        return lost[:, 2] - lost[:, 0] - lost[:, 1]

    def _lost(self, ablated: Sequence[tuple[Head, ...]], count: int) -> Float64[Tensor, "ablated sequences"]:
        """Return the rise of the loss of the first sequences without some heads."""
        missing = [one for one in dict.fromkeys(ablated) if (one, count) not in self._known]
        for layer in sorted({min(one)[0] for one in missing}):
            some = [one for one in missing if min(one)[0] == layer]
            for one, loss in zip(some, self._losses(some, layer, count), strict=True):
                self._known[one, count] = loss - self._kept[2][:count]
        return torch.stack([self._known[one, count] for one in ablated])

    def _losses(
        self, ablated: Sequence[tuple[Head, ...]], layer: int, count: int
    ) -> list[Float64[Tensor, "sequences"]]:
        """Return the losses without some heads, all of a layer or later ones."""
        ids = self.sequences.ids[:count]
        state = self._kept[0][layer][:count]
        size = max(1, AT_ONCE // count)
        found: list[Tensor] = []
        for start in range(0, len(ablated), size):
            some = ablated[start : start + size]
            rows = ids.repeat(len(some), 1)
            with ExitStack() as hooks:
                for site in sorted({one for heads in some for one, _ in heads}):
                    point = hook_point(self.model.bridge, Site(site, "heads"))
                    hooks.enter_context(point.register_forward_hook(self._put(site, some, count)))
                last = self.partial.run(rows, {layer - 1: state.repeat(len(some), 1, 1)})
            found += torch.split(self._loss(last, rows), count)
        return found

    def _put(self, layer: int, ablated: Sequence[tuple[Head, ...]], count: int) -> Callable[..., Tensor]:
        """Make a hook that puts the heads of one layer to their means, in the rows that are without them."""
        mean = self._kept[1][layer]
        size = len(mean) // self.model.n_heads

        def put(_module: object, _args: object, out: Tensor) -> Tensor:
            new = out.clone().reshape(len(ablated) * count, -1, out.shape[-1])
            for at, heads in enumerate(ablated):
                for own, head in heads:
                    if own == layer:
                        columns = slice(head * size, (head + 1) * size)
                        rows = new[at * count : (at + 1) * count]
                        rows[:, self._text, columns] = mean[columns].to(new)
            return new.reshape(out.shape)

        return put

    def _loss(
        self, last: Float[Tensor, "rows keys width"], ids: Int[Tensor, "rows keys"]
    ) -> Float64[Tensor, "rows"]:
        """Average the loss of each row's second half, but for its first token."""
        first = len(self.made.lead) + HALF
        found = []
        for state, own in zip(*(torch.split(one, NULL_SEQUENCES) for one in (last, ids)), strict=True):
            logits = self.model.readout(state[:, first:-1].flatten(0, 1))
            told = logits.log_softmax(-1).gather(-1, own[:, first + 1 :].flatten()[:, None])
            found.append(-told.double().reshape(len(own), -1).mean(1).cpu())
        return torch.cat(found)


class InteractionSums:
    """Effects of pairs of heads, a unit each.

    ``heads`` of the pair, [4], layer and head of each, -1 where a role is not present; ``effects``,
    [3, sequences]: the rise of the loss without one, without the other, without both; ``null``, the
    interactions of random pairs of the same layers.
    """

    def __init__(self, part: Interactions, units: Sequence[Unit]) -> None:
        self.part, self.units = part, units

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Look at nothing: the sequences are run in ``sums``."""

    def sums(self) -> dict[str, list[Array]]:
        """Ablate the pair of each unit."""
        found: dict[str, list[Array]] = {"heads": [], "effects": [], "null": []}
        for unit in self.units:
            pair = self.part.pair(unit.index)
            heads, effects, null = np.full(4, -1.0), np.zeros((3, 0)), np.zeros(0)
            if pair is not None:
                heads = np.array([float(one) for head in pair for one in head])
                effects = self.part.effects(pair).numpy()
                null = self.part.null(pair, unit.index).numpy()
            for name, one in (("heads", heads), ("effects", effects), ("null", null)):
                found[name].append(one)
        return found

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}

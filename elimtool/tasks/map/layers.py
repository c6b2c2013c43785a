"""Sum up what each layer changes, how large states are, and what is lost without a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import pi
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from elimtool.lenses.find import fitted_lens
from elimtool.model.affine import wide
from elimtool.model.model import Model
from elimtool.model.partial import PartialPass
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.run.rules import MASSIVE_RATIO, MASSIVE_SIZE
from elimtool.tasks.map.linear import LinearSums
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.part import Arrays, Watch
from elimtool.tasks.map.readable import text_of
from elimtool.tasks.map.units import TEXT, WHOLE, Unit

READ_PASSAGES, READ_TOKENS, READ_EVERY = 12, 64, 2
"""What is read out and run without layers: the first passages, their first tokens, every so manieth."""
CHANGED = ("cos", "angle")
"""Sums over tokens of the cosine of a layer's input and output, and of their angle over pi."""
SIZES = ("max_abs", "max_position", "max_channel", "median", "n_massive", "max_elsewhere")
EXITS = ("lens.same", "lens.gap", "lens.cos")
READ = ("skip_kl", "skip_nll", "skip_agree", "exit_agree", "saturated")


class Layers:
    """Reads the residual stream, and runs on without a layer."""

    needs: ClassVar[Mapping[str, frozenset[str] | None]] = {TEXT: frozenset(), WHOLE: None}

    def __init__(self, model: Model, asked: MapOptions) -> None:
        del asked
        self.model = model
        self.partial = PartialPass(model)
        self.lens = fitted_lens(model)

    def watch(self, units: Sequence[Unit], batch: Batch) -> Watch:
        """Begin a pass."""
        if units[0].kind == WHOLE:
            return LinearSums(self.model, units)
        return LayerSums(self, units, batch)


class LayerSums:
    """Sums of one pass, each [units, layers].

    ``cos``, ``angle`` over tokens that are no sinks, ``sink.cos``, ``sink.angle`` over the others, with
    ``rows`` and ``sink.rows``; sizes of the state after the layer; and, in the passages that are read out,
    sums over ``read`` rows of what is lost without the layer. 0 rows where nothing was measured.
    With a fitted lens, [units, layers, rows], NaN behind the last row: ``lens.same``, whether the first token
    read off by it is the output's, ``lens.gap``, how far its probability is above the second one's, and
    ``lens.cos`` of the states before and after the layer.
    """

    def __init__(self, part: Layers, units: Sequence[Unit], batch: Batch) -> None:
        self.part, self.batch = part, batch
        self.text = text_of(units, batch)
        shape = len(units), part.model.n_layers
        names = [*CHANGED, *(f"sink.{one}" for one in CHANGED), "rows", "sink.rows", *SIZES, *READ, "read"]
        self.found = {name: torch.zeros(shape, dtype=torch.float64) for name in names}
        if part.lens is not None:
            each = (*shape, READ_TOKENS // READ_EVERY)
            self.found |= {name: torch.full(each, torch.nan, dtype=torch.float64) for name in EXITS}
        self.chosen = [row for row, unit in enumerate(units) if unit.index < READ_PASSAGES]
        self.before: Tensor | None = None
        self.kept: list[Tensor] = []

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Sum up one layer, and keep its states where they are read out."""
        del rows
        state = view.residual
        if self.chosen:
            self.kept.append(state[self.chosen, :READ_TOKENS].clone())
        if self.before is not None:
            for name, one in (changed(self.before, state, self.text) | sizes(state, self.text)).items():
                self.found[name][:, view.layer] = one.cpu()
        self.before = state

    def sums(self) -> Arrays:
        """Run on without each layer, and return all arrays."""
        if self.chosen:
            self._read_out()
        return {name: one.numpy() for name, one in self.found.items()}

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}

    def _read_out(self) -> None:
        ids = self.batch.ids[self.chosen, :READ_TOKENS]
        text = self.text[self.chosen, : ids.shape[1]].clone()
        text[:, -1] = False  # the token after it is not there
        text[:, 1::READ_EVERY] = False
        rows = text.sum(1).tolist()
        following = torch.split(ids.roll(-1, 1)[text], rows)
        read = self.part.model.readout
        exits = torch.stack([read(one[text]).argmax(-1) for one in self.kept[1:]])
        whole = [one.double().log_softmax(-1) for one in torch.split(read(self.kept[-1][text]), rows)]
        for row, own, firsts in zip(self.chosen, whole, torch.split(exits, rows, 1), strict=True):
            same = firsts == own.argmax(-1)
            self.found["read"][row] = len(own)
            self.found["exit_agree"][row] = same.sum(1).cpu()
            self.found["saturated"][row] = same.flip(0).cummin(0).values.flip(0).sum(1).cpu()
        if self.part.lens is not None:
            self._exits(text, rows, exits[-1])
        for layer, states in enumerate(self._without(ids)):
            others = torch.split(read(states[text]), rows)
            for row, own, other, ends in zip(self.chosen, whole, others, following, strict=True):
                for name, one in losses(own, other.double().log_softmax(-1), ends).items():
                    self.found[name][row, layer] = one

    def _exits(self, text: Tensor, rows: Sequence[int], final: Tensor) -> None:
        """Read every layer off by the fitted lens: what an early exit there would go by, and say."""
        assert self.part.lens is not None
        last = len(self.kept) - 2
        for layer in range(last + 1):
            before, after = wide(self.kept[layer][text]), wide(self.kept[layer + 1][text])
            state = after if layer == last else self.part.lens.to_final(after, layer)
            chances, tokens = self.part.model.readout(state).double().softmax(-1).topk(2)
            known = {
                "lens.same": (tokens[:, 0] == final).double(),
                "lens.gap": chances[:, 0] - chances[:, 1],
                "lens.cos": torch.cosine_similarity(before, after, dim=-1).double(),
            }
            for name, values in known.items():
                for row, own in zip(self.chosen, torch.split(values, list(rows)), strict=True):
                    self.found[name][row, layer, : len(own)] = own.cpu()

    def _without(self, ids: Int[Tensor, "units keys"]) -> Iterator[Float[Tensor, "units keys width"]]:
        """Yield the last states without each layer: what went into it goes into the next one."""
        self.part.partial.run(ids)  # the first pass of all learns the form of the blocks' outputs
        for layer in range(len(self.kept) - 2):
            yield self.part.partial.run(ids, {layer: self.kept[layer]})
        yield self.kept[-2]


def changed(
    before: Float[Tensor, "units keys width"],
    after: Float[Tensor, "units keys width"],
    text: Tensor,
) -> dict[str, Float64[Tensor, "units"]]:
    """Compare states before and after a layer: sums of cosines and angles over text tokens and over sinks.

    Source: block influence is 1 - the mean cosine (ShortGPT, Men et al. 2024, arXiv 2403.03853); the angle is
    Gromov et al. 2024 (arXiv 2403.17887). States of length 0 count as unchanged.
    """
    one, other = wide(before).double(), wide(after).double()
    length = one.norm(dim=-1) * other.norm(dim=-1)
    cosine = torch.where(length > 0, (one * other).sum(-1) / length, 1.0).clamp(-1, 1)
    each = {"cos": cosine, "angle": cosine.acos() / pi}
    found = {name: (value * text).sum(-1) for name, value in each.items()} | {"rows": text.sum(-1).double()}
    at_sinks = {f"sink.{name}": (value * ~text).sum(-1) for name, value in each.items()}
    return found | at_sinks | {"sink.rows": (~text).sum(-1).double()}


def sizes(state: Float[Tensor, "units keys width"], text: Tensor) -> dict[str, Float64[Tensor, "units"]]:
    """Find the largest number of each unit's state, where it is, the median, and how many are massive.

    Source: Sun et al. 2024 (arXiv 2402.17762).
    """
    size = wide(state).abs().double()
    flat = size.flatten(1)
    largest, at = flat.max(1)
    median = flat.median(1).values
    massive = flat > torch.maximum(MASSIVE_RATIO * median, torch.full_like(median, MASSIVE_SIZE))[:, None]
    width = state.shape[-1]
    return {
        "max_abs": largest,
        "max_position": (at // width).double(),
        "max_channel": (at % width).double(),
        "median": median,
        "n_massive": massive.sum(1).double(),
        "max_elsewhere": (size * text[..., None]).flatten(1).amax(1),
    }


def losses(
    whole: Float64[Tensor, "rows vocab"],
    without: Float64[Tensor, "rows vocab"],
    following: Int[Tensor, "rows"],
) -> dict[str, float]:
    """Sum over rows what a change of the output costs: KL(whole || without), rise of the loss, equal firsts.

    Args:
        whole: Log-probabilities (nats).
        without: The changed ones.
        following: The token that follows each row.
    """
    kl = (whole.exp() * (whole - without)).sum()
    nll = (whole - without).gather(-1, following[:, None]).sum()
    return {
        "skip_kl": float(kl.clamp(min=0)),
        "skip_nll": float(nll),
        "skip_agree": float((whole.argmax(-1) == without.argmax(-1)).sum()),
    }

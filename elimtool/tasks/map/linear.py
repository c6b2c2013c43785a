"""Fit each layer as a linear map on one half of the passages, and judge it on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from elimtool.lenses.moments import Moments
from elimtool.model.affine import wide
from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.readable import text_of
from elimtool.tasks.map.units import Unit

PENALTY = 1e-3
"""Ridge penalty, as a multiple of the mean variance of a layer's channels."""
NOTHING = 1e-10
"""The same of the fit without one: for channels that do not vary."""
HELD_NUMBERS = 2**25
"""Numbers in the moments of the layers that are fitted in one pass: 256 MiB."""
AT_ONCE = 8

See = Callable[[int, Tensor, Tensor, Tensor, int], None]
"""Sees a layer, its inputs and outputs [texts, keys, width], the text tokens, and the number of the first."""


class LinearSums:
    """Sums of all passages, [units, held-out passages, layers].

    ``error`` of the outputs about the fit, ``spread`` about their mean in the passages of the fit; likewise
    ``update.error`` and ``update.spread`` of what the layer adds. [units, layers]: ``published``, the share
    of the variance of the fit's own passages, sinks included, that a fit without a penalty leaves. NaN where
    nothing varies.
    """

    def __init__(self, model: Model, units: Sequence[Unit]) -> None:
        self.model, self.units = model, units

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Look at nothing: the passages are run in ``sums``, some for the fit and then the others."""

    def sums(self) -> Arrays:
        """Fit and judge all layers."""
        found = [self._of(unit.sequences[::2], unit.sequences[1::2]) for unit in self.units]
        return {name: torch.stack([one[name] for one in found]).numpy() for name in found[0]}

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}

    def _of(self, fit: Sequence[Encoded], judged: Sequence[Encoded]) -> dict[str, Tensor]:
        layers, width = self.model.n_layers, self.model.width
        found = {name: torch.zeros(len(judged), layers, dtype=torch.float64) for name in NAMES}
        found["published"] = torch.full((layers,), torch.nan, dtype=torch.float64)
        size = max(1, HELD_NUMBERS // (2 * width**2))
        for start in range(0, layers, size):
            maps = self._fitted(fit, range(start, min(layers, start + size)), found["published"])
            self._pass(judged, partial(_judge, maps, found))
        return found

    def _fitted(self, some: Sequence[Encoded], layers: range, published: Tensor) -> dict[int, Linear]:
        moments = {layer: Moments.empty(1, self.model.width) for layer in layers}
        sinks: dict[int, list[Tensor]] = {layer: [] for layer in layers}

        def add(layer: int, before: Tensor, after: Tensor, text: Tensor, first: int) -> None:
            del first
            if layer in moments:
                both = torch.stack([before, after])
                moments[layer].add(both[:, text])
                sinks[layer].append(both[:, ~text])

        self._pass(some, add)
        maps = {layer: Linear.of(one) for layer, one in moments.items()}
        for layer, one in moments.items():
            if (at_sinks := torch.cat(sinks[layer], 1)).shape[1]:
                one.add(at_sinks)
            published[layer] = unexplained(one)
        return maps

    def _pass(self, some: Sequence[Encoded], see: See) -> None:
        for start in range(0, len(some), AT_ONCE):
            part = some[start : start + AT_ONCE]
            batch = Batch.of(part, self.model.device)
            text = text_of([Unit("", 0, one) for one in part], batch)
            before: list[Tensor] = []
            self.model.stream(batch, frozenset(), partial(_step, see, before, text, start))


def _step(see: See, before: list[Tensor], text: Tensor, first: int, view: LayerView) -> None:
    """Show a layer's input and output, and keep its output for the next one."""
    state = wide(view.residual)
    if before:
        see(view.layer, before[0], state, text, first)
    before[:] = [state]


def _judge(
    maps: Mapping[int, Linear],
    found: Mapping[str, Tensor],
    layer: int,
    before: Tensor,
    after: Tensor,
    text: Tensor,
    first: int,
) -> None:
    """Add the errors of a layer's map on some passages."""
    if layer in maps:
        for row, (x, y, known) in enumerate(zip(before, after, text, strict=True)):
            for name, one in maps[layer].errors(x[known], y[known]).items():
                found[name][first + row, layer] = one


NAMES = ("error", "spread", "update.error", "update.spread")


class Linear:
    """A linear map from a layer's input to its output, and one to what it adds, each with an intercept.

    Args:
        weight: Of both, side by side, [width, 2 width].
        x: Mean input.
        y: Mean output.
    """

    def __init__(
        self,
        weight: Float64[Tensor, "width both"],
        x: Float64[Tensor, "width"],
        y: Float64[Tensor, "width"],
    ) -> None:
        self.weight, self.x, self.y = weight.float(), x, y

    @classmethod
    def of(cls, moments: Moments) -> Linear:
        """Fit with ``PENALTY``."""
        penalty = PENALTY * moments.mean_variance(0) or 1.0
        system = moments.xx[0] / moments.n
        eye = torch.eye(len(system), dtype=torch.float64)
        told = torch.cat([moments.xy[0], moments.xy[0] - moments.xx[0]], 1) / moments.n
        return cls(torch.linalg.solve(system + penalty * eye, told), moments.x[0], moments.y)

    def errors(self, x: Float[Tensor, "rows width"], y: Float[Tensor, "rows width"]) -> dict[str, float]:
        """Sum squares about the fits, and about the means of the rows that were fitted."""
        x, y = x.cpu().double() - self.x, y.cpu().double() - self.y
        told, added = (x.float() @ self.weight).double().chunk(2, 1)
        return {
            "error": float((y - told).square().sum()),
            "spread": float(y.square().sum()),
            "update.error": float((y - x - added).square().sum()),
            "update.spread": float((y - x).square().sum()),
        }


def unexplained(moments: Moments) -> float:
    """Return the share of the output's variance that least squares leave in the rows of the fit.

    Source: 1 less the linearity of Razzhigaev et al. 2024 (arXiv 2405.12250), who do so on centred rows,
    sinks included.
    """
    variance = moments.mean_variance(0)
    if variance == 0 or moments.yy == 0:
        return float("nan")
    eye = torch.eye(len(moments.xx[0]), dtype=torch.float64)
    weight = torch.linalg.solve(moments.xx[0] + NOTHING * variance * moments.n * eye, moments.xy[0])
    return float((1 - (moments.xy[0] * weight).sum() / moments.yy).clamp(0, 1))

"""Solve ridge regressions from sums over activations: one pass over the data, memory of layers x width^2.

Means and centred second moments are merged batch by batch, so that a channel whose mean is far larger
than its spread loses no digits. Source of the update: Chan, Golub & LeVeque 1983.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

RATIOS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for lambda, as multiples of the mean variance of the layer's channels."""


@dataclass(slots=True)
class Moments:
    """Count, means and centred second moments of inputs x (one per layer) and one common output y.

    All float64. ``xx[l]`` is the sum of (x - mean)(x - mean)^T, ``xy[l]`` that of (x - mean)(y - mean)^T,
    ``yy`` the sum of |y - mean|^2.
    """

    n: int
    x: Float[Tensor, "layers width"]
    y: Float[Tensor, "width"]
    xx: Float[Tensor, "layers width width"]
    xy: Float[Tensor, "layers width width"]
    yy: float

    @classmethod
    def empty(cls, layers: int, width: int) -> Moments:
        """Moments of nothing."""
        square = torch.zeros(layers, width, width, dtype=torch.float64)
        vectors = torch.zeros(layers, width, dtype=torch.float64)
        return cls(0, vectors, vectors[0].clone(), square, square.clone(), 0.0)

    def add(self, residuals: Float[Tensor, "layers_and_last rows width"]) -> None:
        """Take in rows of all layers' residuals, the output's last.

        Products are made in the residuals' dtype (float32 at least), after the batch's own mean is taken
        off, and summed in float64.
        """
        values = residuals if residuals.dtype == torch.float64 else residuals.float()
        rows = values.shape[1]
        means = values.double().mean(1).cpu()
        final = values[-1] - means[-1].to(values)
        gained = means[-1] - self.y
        share = self.n * rows / (self.n + rows)
        self.yy += float(final.double().square().sum()) + share * float(gained.square().sum())
        for layer in range(len(self.x)):
            centred = values[layer] - means[layer].to(values)
            delta = means[layer] - self.x[layer]
            self.xx[layer] += (centred.T @ centred).cpu().double() + share * torch.outer(delta, delta)
            self.xy[layer] += (centred.T @ final).cpu().double() + share * torch.outer(delta, gained)
        self.x += (means[:-1] - self.x) * (rows / (self.n + rows))
        self.y += gained * (rows / (self.n + rows))
        self.n += rows

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows together; ``self`` takes them in."""
        total = self.n + other.n
        share, weight = self.n * other.n / max(total, 1), other.n / max(total, 1)
        dx, dy = other.x - self.x, other.y - self.y
        self.xx += other.xx + share * dx[:, :, None] * dx[:, None, :]
        self.xy += other.xy + share * dx[:, :, None] * dy[None, None, :]
        self.yy += other.yy + share * float(dy.square().sum())
        self.x += dx * weight
        self.y += dy * weight
        self.n = total
        return self

    def mean_variance(self, layer: int) -> float:
        """Mean over channels of the variance of x."""
        return float(self.xx[layer].diagonal().mean()) / max(self.n, 1)


def ridge(
    moments: Moments, layer: int, penalty: float
) -> tuple[Float[Tensor, "width width"], Float[Tensor, "width"]]:
    """The affine map from x to y of least mean squared error plus ``penalty`` x |A|^2.

    The intercept is not penalised. Source: Hoerl & Kennard 1970; as a lens, Yom Din et al. 2023
    (arXiv 2303.09435), who fit the same map by least squares without a penalty.

    Returns:
        ``(A, b)`` with y about A x + b, float64.
    """
    width = moments.xx.shape[-1]
    system = moments.xx[layer] / moments.n + penalty * torch.eye(width, dtype=torch.float64)
    weight = torch.linalg.solve(system, moments.xy[layer] / moments.n).T
    return weight, moments.y - weight @ moments.x[layer]


def choose_ratio(train: Moments, held_out: Moments, layer: int) -> float:
    """Which of ``RATIOS`` leaves the smallest squared error on held-out rows, from moments alone.

    One eigendecomposition of the training covariance serves all candidates. The larger penalty wins a tie,
    and where the inputs do not vary, so that every map is the mean of y.
    """
    scale = train.mean_variance(layer)
    if scale == 0:
        return max(RATIOS)
    values, vectors = torch.linalg.eigh(train.xx[layer] / train.n)
    cross = vectors.T @ (train.xy[layer] / train.n)
    dx = vectors.T @ (held_out.x[layer] - train.x[layer])
    dy = held_out.y - train.y
    own = vectors.T @ (held_out.xx[layer] / held_out.n) @ vectors + torch.outer(dx, dx)
    other = vectors.T @ (held_out.xy[layer] / held_out.n) + torch.outer(dx, dy)
    errors = []
    for ratio in RATIOS:
        weight = cross / (values.clamp(min=0.0) + ratio * scale)[:, None]
        errors.append(float((weight * (own @ weight)).sum() - 2 * (weight * other).sum()))
    return max(ratio for ratio, error in zip(RATIOS, errors, strict=True) if error <= min(errors))


def fit_maps(
    train: Moments, held_out: Moments
) -> tuple[Float[Tensor, "layers width width"], Float[Tensor, "layers width"], list[float]]:
    """Fit every layer: lambda by the held-out rows, then the map on all rows.

    A layer whose inputs do not vary at all gets lambda 1, so that the map is the mean of y.

    Returns:
        ``(A, b, lambda)`` per layer; float32 maps.
    """
    layers = range(len(train.x))
    enough = train.n > 0 and held_out.n > 0
    ratios = [choose_ratio(train, held_out, layer) if enough else RATIOS[2] for layer in layers]
    whole = train.merge(held_out)
    maps, penalties = [], []
    for layer in layers:
        penalty = ratios[layer] * whole.mean_variance(layer) or 1.0
        maps.append(ridge(whole, layer, penalty))
        penalties.append(penalty)
    weight = torch.stack([one for one, _ in maps]).float()
    return weight, torch.stack([one for _, one in maps]).float(), penalties

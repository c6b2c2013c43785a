"""Solve ridge regressions from sums over activations: one pass over the data, memory of layers x width^2.

Means and centred second moments are merged batch by batch, so that a channel whose mean is far larger than
its spread loses no digits. Source of the update: Chan, Golub & LeVeque 1983.
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
        """Make the moments of no rows."""
        square = torch.zeros(layers, width, width, dtype=torch.float64)
        vectors = torch.zeros(layers, width, dtype=torch.float64)
        return cls(0, vectors, vectors[0].clone(), square, square.clone(), 0.0)

    def add(self, residuals: Float[Tensor, "layers_and_last rows width"]) -> None:
        """Add rows of all layers' residuals, the output's last."""
        # Products in the residuals' dtype (at least float32) are fast, and exact enough once the batch's mean
        # is subtracted; sums over batches are float64.
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
        """Add another set of rows to this one."""
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
        """Average the variance of x over its channels."""
        return float(self.xx[layer].diagonal().mean()) / max(self.n, 1)


def ridge(
    moments: Moments, layer: int, penalty: float
) -> tuple[Float[Tensor, "width width"], Float[Tensor, "width"]]:
    """Solve for the affine map from x to y with the least mean squared error plus ``penalty`` x |A|^2.

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
    """Choose the one of ``RATIOS`` with the smallest squared error on held-out rows, from moments alone.

    The larger penalty wins a tie, and where the inputs do not vary, so that every map is the mean of y.
    """
    scale = train.mean_variance(layer)
    if scale == 0:
        return max(RATIOS)
    # one eigendecomposition of the training covariance serves all candidates
    values, vectors = torch.linalg.eigh(train.xx[layer] / train.n)
    cross = vectors.T @ (train.xy[layer] / train.n)
    dx = vectors.T @ (held_out.x[layer] - train.x[layer])
    dy = held_out.y - train.y
    own = vectors.T @ (held_out.xx[layer] / held_out.n) @ vectors + torch.outer(dx, dx)
    other = vectors.T @ (held_out.xy[layer] / held_out.n) + torch.outer(dx, dy)
    errors = []
    for ratio in RATIOS:
        weight = cross / (values.clamp(min=0.0) + ratio * scale)[:, None]  # rounding: eigenvalues below 0
        errors.append(float((weight * (own @ weight)).sum() - 2 * (weight * other).sum()))
    return max(ratio for ratio, error in zip(RATIOS, errors, strict=True) if error <= min(errors))


def fit_maps(
    train: Moments, held_out: Moments
) -> tuple[Float[Tensor, "layers width width"], Float[Tensor, "layers width"], list[float]]:
    """Fit every layer: choose lambda by the held-out rows, then fit the map on all rows.

    Returns:
        ``(A, b, lambda)`` per layer; float32 maps.
    """
    layers = range(len(train.x))
    enough = train.n > 0 and held_out.n > 0
    ratios = [choose_ratio(train, held_out, layer) if enough else RATIOS[2] for layer in layers]
    whole = train.merge(held_out)
    maps, penalties = [], []
    for layer in layers:
        # inputs that do not vary: any positive lambda makes the map the mean of y
        penalty = ratios[layer] * whole.mean_variance(layer) or 1.0
        maps.append(ridge(whole, layer, penalty))
        penalties.append(penalty)
    weight = torch.stack([one for one, _ in maps]).float()
    return weight, torch.stack([one for _, one in maps]).float(), penalties

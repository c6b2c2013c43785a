"""Moments and ridge maps against numpy on the data themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from elimtool.lenses.moments import RATIOS, Moments, choose_ratio, fit_maps, ridge


def activations(rows: int, seed: int = 0, offset: float = 0.0) -> torch.Tensor:
    """[3 layers and the output, rows, 5]: layers that say more and more about the output."""
    generator = torch.Generator().manual_seed(seed)
    layers = torch.randn(3, rows, 5, generator=generator) * torch.tensor([3.0, 1.0, 0.1, 2.0, 5.0]) + offset
    mix = torch.randn(5, 5, generator=torch.Generator().manual_seed(9))
    final = layers[2] @ mix + 0.1 * torch.randn(rows, 5, generator=generator)
    return torch.cat([layers, final[None]])


def taken(*batches: torch.Tensor) -> Moments:
    moments = Moments.empty(3, 5)
    for batch in batches:
        moments.add(batch)
    return moments


def same(one: Moments, other: Moments, tolerance: float) -> None:
    assert one.n == other.n
    for name in ("x", "y", "xx", "xy"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=tolerance, atol=tolerance)
    assert one.yy == pytest.approx(other.yy, rel=tolerance)


def test_moments_are_those_of_numpy() -> None:
    data = activations(200).double()
    moments = taken(data[:, :50], data[:, 50:60], data[:, 60:])
    x, y = data[1].numpy(), data[-1].numpy()
    np.testing.assert_allclose(moments.xx[1], 200 * np.cov(x.T, bias=True), rtol=1e-10)
    np.testing.assert_allclose(moments.xy[1], (x - x.mean(0)).T @ (y - y.mean(0)), rtol=1e-9, atol=1e-9)
    assert moments.yy == pytest.approx(((y - y.mean(0)) ** 2).sum())
    assert moments.mean_variance(1) == pytest.approx(x.var(0).mean())


def test_one_pass_equals_two_passes() -> None:
    """The mean is a thousand times the spread: a sum of squares in float32 would have no digit left."""
    data = activations(300, offset=4096.0)
    streamed = taken(*data.split(37, dim=1))
    x = data.double()[:-1]
    mean = x.mean(1, keepdim=True)
    two = ((x - mean).mT @ (x - mean)).numpy()
    np.testing.assert_allclose(streamed.xx.numpy(), two, rtol=2e-4, atol=2e-4 * np.abs(two).max() / 300)


def test_merging_equals_taking_everything_in() -> None:
    data = activations(120).double()
    same(taken(data[:, :70]).merge(taken(data[:, 70:])), taken(data), 1e-9)
    same(taken(data).merge(Moments.empty(3, 5)), taken(data), 1e-12)
    same(Moments.empty(3, 5).merge(taken(data)), taken(data), 1e-9)


@pytest.mark.parametrize("penalty", [1e-6, 0.3, 20.0])
def test_the_closed_form_is_least_squares_with_a_penalty(penalty: float) -> None:
    """Oracle: numpy's lstsq on the centred data with the penalty appended as rows."""
    data = activations(150).double()
    weight, bias = ridge(taken(data), 2, penalty)
    x, y = data[2].numpy(), data[-1].numpy()
    left = np.vstack([x - x.mean(0), np.sqrt(150 * penalty) * np.eye(5)])
    right = np.vstack([y - y.mean(0), np.zeros((5, 5))])
    expected = np.linalg.lstsq(left, right, rcond=None)[0].T
    np.testing.assert_allclose(weight, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(bias, y.mean(0) - expected @ x.mean(0), rtol=1e-8, atol=1e-9)


def test_the_penalty_is_chosen_by_the_error_on_held_out_rows() -> None:
    train, held = activations(40, 1).double(), activations(60, 2).double()
    errors = []
    for ratio in RATIOS:
        one = taken(train)
        weight, bias = ridge(one, 0, ratio * one.mean_variance(0))
        errors.append(float((held[-1] - held[0] @ weight.T - bias).square().sum()))
    assert choose_ratio(taken(train), taken(held), 0) == RATIOS[int(np.argmin(errors))]


def test_a_layer_that_says_everything_predicts_the_output_and_one_that_does_not_vary_gives_its_mean() -> None:
    data = activations(400).double()
    data[0] = 7.0
    weight, bias, penalties = fit_maps(taken(data[:, :350]), taken(data[:, 350:]))
    assert weight.dtype == torch.float32
    np.testing.assert_allclose(bias[0], data[-1].mean(0), atol=1e-4)
    assert weight[0].abs().max() < 1e-4
    left = data[-1] - data[2] @ weight[2].double().T - bias[2].double()
    assert left.square().mean() < 0.02
    assert len(penalties) == 3 and penalties[0] == 1.0

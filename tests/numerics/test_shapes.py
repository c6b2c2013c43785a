"""The shapes of distributions, row by row as on a CPU and in compiled loops, against plain float64 code."""

from __future__ import annotations

from dataclasses import fields
from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elimtool.numerics.distributions import NEGLIGIBLE
from elimtool.numerics.ranking import LEADING
from elimtool.numerics.shapes import SURVIVORS, Shapes, _at_once, normaliser, shapes

NUMBERS = [field.name for field in fields(Shapes) if field.name not in ("leading", "maxima")]


@st.composite
def layered(draw: st.DrawFn) -> torch.Tensor:
    """Logits that are flat, peaked, tied or partly removed, the same tokens or others at every layer."""
    size = draw(st.integers(1, 7)), draw(st.integers(1, 3)), draw(st.integers(2, 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    logits = torch.randn(size, generator=generator, dtype=dtype) * draw(
        st.sampled_from([0.0, 0.1, 1.0, 30.0])
    )
    if draw(st.booleans()):
        logits = logits.round()
    if draw(st.booleans()):
        removed = torch.rand(size, generator=generator) < 0.5
        removed[..., 0] = False
        logits = logits.masked_fill(removed, -torch.inf)
    if draw(st.booleans()):
        logits[..., 1:][:, :, draw(st.integers(0, size[2] - 2)) :] = -torch.inf
    return logits + draw(st.sampled_from([0.0, -80.0]))


def plainly(logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same numbers in float64, by sorting everything."""
    logits = logits.double()
    probs, logprobs = logits.softmax(-1), logits.log_softmax(-1)
    order = logits.argsort(dim=-1, descending=True, stable=True)
    held = probs.gather(-1, order)
    member = held.cumsum(-1) - held < SURVIVORS
    inside = torch.zeros_like(member).scatter(-1, order, member)
    last = probs[-1]
    terms = torch.where(last > exp(NEGLIGIBLE), last * (logprobs[-1] - logprobs), 0.0)
    return {
        "top": order[..., 0],
        "normaliser": logits.logsumexp(-1),
        "entropy": torch.special.entr(probs).sum(-1),
        "collision": (probs**2).sum(-1),
        "kl": terms.sum(-1),
        "size": inside.sum(-1),
        "jaccard": (inside & inside[-1]).sum(-1) / (inside | inside[-1]).sum(-1).double(),
        "mass": (probs * inside[-1]).sum(-1),
    }


def settled(logits: torch.Tensor) -> bool:
    """Whether no rounding decides which tokens count, or where a survivor set ends."""
    probs = logits.double().softmax(-1)
    ratio = probs[-1] / probs[-1].amax(-1, keepdim=True)
    counted = torch.equal(probs[-1] > exp(NEGLIGIBLE), ratio > exp(NEGLIGIBLE))
    held = probs.sort(descending=True).values.cumsum(-1)
    return counted and bool(((held - SURVIVORS).abs() > 1e-6).all())


@pytest.mark.parametrize("compiled", [False, True])
@settings(deadline=None)
@given(logits=layered().filter(settled))
def test_shapes_equal_plain_code(logits: torch.Tensor, compiled: bool) -> None:
    found, expected = shapes(logits, compiled), plainly(logits)
    exact = logits.dtype == torch.float64
    for name in expected:
        torch.testing.assert_close(
            getattr(found, name), expected[name], atol=1e-11 if exact else 2e-5, rtol=1e-11 if exact else 2e-5
        )


@settings(deadline=None)
@given(layered().filter(settled))
def test_both_ways_agree(logits: torch.Tensor) -> None:
    one, other = shapes(logits), _at_once(logits)
    for name in NUMBERS:
        left, right = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(left, right, atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize("broken", [torch.nan, -torch.nan, torch.inf])
@pytest.mark.parametrize("layer", [0, 2])
def test_broken_numbers_are_left_to_the_plain_way(broken: float, layer: int) -> None:
    logits = torch.randn(3, 2, 3000, generator=torch.Generator().manual_seed(8))
    logits[layer, 1, 5] = broken
    logits[1, 0] = 0.0  # the histogram's way
    one, other = shapes(logits, compiled=True), shapes(logits)
    for name in NUMBERS:
        assert torch.equal(getattr(one, name).nan_to_num(), getattr(other, name).nan_to_num())
    assert normaliser(logits[layer], compiled=True).isfinite().tolist() == [True, False]


def test_a_distribution_without_tokens_has_no_normaliser() -> None:
    assert normaliser(torch.full((1, 300), -torch.inf), compiled=True).isnan().all()


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("step", [None, 0.25, 4.0])
def test_compiled_loops_are_right_on_long_rows(scale: float, step: float | None) -> None:
    """Long enough for the histogram, for blocks of which the last is short, and for ties at every place."""
    logits = torch.randn(5, 3, 20_011, generator=torch.Generator().manual_seed(6)) * scale - 30
    if step is not None:
        logits = (logits / step).round() * step
    logits[:, 1, ::3] = -torch.inf
    logits[2, 1, 1] = -torch.inf  # a token that the output may have
    one, expected = shapes(logits, compiled=True), plainly(logits)
    for name in NUMBERS:  # where a nucleus ends, rounding may decide about one of thousands of tokens
        atol = {"size": 1.0, "jaccard": 2e-4, "mass": 2e-4}.get(name, 4e-6)
        torch.testing.assert_close(getattr(one, name), expected[name], atol=atol, rtol=4e-6)
    assert one.kl[2, 1] == torch.inf


@pytest.mark.parametrize("compiled", [False, True])
def test_sums_are_exact_to_single_precision(compiled: bool) -> None:
    for scale in (0.1, 1.0, 3.0):
        logits = torch.randn(4, 2, 50_000, generator=torch.Generator().manual_seed(7)) * scale
        found, expected = shapes(logits, compiled), plainly(logits)
        for name in ("normaliser", "entropy", "collision"):
            torch.testing.assert_close(getattr(found, name), expected[name], atol=1e-6, rtol=2e-6)
        torch.testing.assert_close(
            normaliser(logits[0], compiled).double(), expected["normaliser"][0], atol=2e-6, rtol=2e-6
        )


@pytest.mark.parametrize("compiled", [False, True])
def test_rows_do_not_depend_on_those_beside_them(compiled: bool) -> None:
    logits = torch.randn(9, 5, 3000, generator=torch.Generator().manual_seed(2)) * 4
    whole = shapes(logits, compiled)
    for row in range(5):
        single = shapes(logits[:, row : row + 1].clone(), compiled)
        for name in NUMBERS:
            assert torch.equal(getattr(whole, name)[:, row], getattr(single, name)[:, 0])


@pytest.mark.parametrize("compiled", [False, True])
def test_the_output_is_exactly_itself(compiled: bool) -> None:
    logits = torch.randn(6, 4, 5000, generator=torch.Generator().manual_seed(1)) * 3
    found = shapes(logits, compiled)
    assert found.kl[-1].tolist() == [0.0] * 4
    assert found.jaccard[-1].tolist() == [1.0] * 4
    assert bool((found.mass[-1] >= SURVIVORS).all())
    assert bool((found.kl >= 0).all())


@pytest.mark.parametrize("compiled", [False, True])
def test_only_differences_of_scores_count(compiled: bool) -> None:
    logits = torch.randn(6, 4, 5000, generator=torch.Generator().manual_seed(3)).mul(64).round() / 64
    one, other = shapes(logits, compiled), shapes(logits - 4096, compiled)  # exact: no score is rounded
    for name in NUMBERS:
        if name != "normaliser":
            assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("compiled", [False, True])
def test_one_token_left_is_certain(compiled: bool) -> None:
    logits = torch.full((2, 1, 1000), -torch.inf)
    logits[:, :, 7] = 3.0
    found = shapes(logits, compiled)
    assert found.top.tolist() == [[7], [7]]
    assert found.entropy.flatten().tolist() == pytest.approx([0, 0], abs=1e-12)
    assert found.collision.flatten().tolist() == [1, 1]
    assert found.size.flatten().tolist() == [1, 1]
    assert found.kl.flatten().tolist() == [0, 0]


def test_a_row_of_one_beside_a_row_of_many() -> None:
    flat, sure = torch.zeros(256), torch.zeros(256)
    sure[0] = 50.0
    found = shapes(torch.stack([flat, sure, flat, sure]).view(2, 2, -1))
    assert found.size.tolist() == [[231, 1]] * 2  # 230.4 of 256 hold nine tenths
    assert found.jaccard.tolist() == [[1.0] * 2] * 2
    assert found.mass.flatten().tolist() == pytest.approx([0.9, 1.0, 0.9, 1.0], abs=0.005)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("scale", [0.1, 1.0, 2.0, 3.0, 6.0])  # survivors: most tokens ... a few
def test_leading_scores_are_all_those_from_the_least_of_them_on(scale: float, compiled: bool) -> None:
    logits = torch.randn(3, 2, 30_000, generator=torch.Generator().manual_seed(4)) * scale
    logits = (logits * 100).round() / 100
    found, expected = shapes(logits, compiled), plainly(logits)
    for name in ("size", "jaccard", "mass"):
        torch.testing.assert_close(getattr(found, name), expected[name])
    assert found.leading is not None
    for cell, values in zip(found.leading, logits.reshape(-1, 30_000), strict=True):
        whole = values.sort().values
        assert cell.tolist() == whole[len(whole) - len(cell) :].tolist()
        assert 0 < len(cell) <= LEADING
        assert int((values == float(cell[0])).sum()) == int((cell == cell[0]).sum())

"""Temperatures at which targets survive: the same for many rows at once on a device, where nothing waits."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
import torch
from torch import Tensor

from elimtool.numerics.transfer import arrays
from elimtool.samplers.edges import HALVINGS, ROOM, least
from elimtool.samplers.epsilon import Epsilon
from elimtool.samplers.falling import Falling
from elimtool.samplers.greedy import Greedy
from elimtool.samplers.min_p import MinP
from elimtool.samplers.stage import Stage
from elimtool.samplers.top_a import TopA
from elimtool.samplers.top_k import TopK
from elimtool.samplers.top_p import TopP
from tests.accelerator import device, waits

AFTER: list[tuple[Stage, ...]] = [
    (TopP(0.9),),
    (TopP(0.5, ties="low", min_keep=3),),
    (MinP(0.05), TopP(0.9)),
    (TopP(0.8, mass_of="full"), MinP(0.05)),
    (TopA(0.3), TopP(0.95)),
    (TopP(0.9), TopK(8), MinP(0.01)),
    (TopP(0.9), TopK(8, ties="exact"), Greedy()),
    (MinP(0.1, min_keep=2),),
    (MinP(0.1),),
    (Epsilon(0.02),),
    (Epsilon(0.03, min_keep=2), MinP(0.02)),
]
WIDTH = 48


def told(stages: tuple[Stage, ...]) -> str:
    """Name a case."""
    return "-".join(stage.kind for stage in stages)


def falling(here: torch.device | str = "cpu") -> Falling:
    """Three rows of 48, 20 and 1 survivors, with ties, and five targets of each or fewer."""
    scores = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    scores[0, :2] = scores[0].max() + 0.1
    n = torch.tensor([WIDTH, 20, 1])
    scores = scores.sort(-1, descending=True).values
    scores = (scores - scores[:, :1]).masked_fill(torch.arange(WIDTH) >= n[:, None], -inf)
    row, slots = torch.tensor([(r, s) for r in range(3) for s in (0, 1, 3, 7, 19) if s < n[r]]).unbind(-1)
    found = scores, row, n[row], slots, torch.full(row.shape, inf, dtype=torch.float64)
    return Falling(*(one.to(here, non_blocking=True) for one in found))


@pytest.mark.parametrize("stages", AFTER, ids=told)
def test_a_device_finds_what_the_processor_finds_without_a_wait(stages: tuple[Stage, ...]) -> None:
    expected = falling().interval(stages)
    there = falling(device())
    with waits() as counted:
        low, high = there.interval(stages)
        assert not counted
    found = arrays({"low": low, "high": high})
    for one, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=2 * ROOM, atol=0.0)


@pytest.mark.parametrize("stages", AFTER, ids=told)
def test_the_slack_changes_its_sign_at_the_ends(stages: tuple[Stage, ...]) -> None:
    rest = stages[1:] if isinstance(stages[0], Epsilon) else stages
    if not rest:
        return
    rows = falling()
    low = rows.interval(rest)[0]
    for by, lives in ((1 + 1e-9, True), (1 - 1e-9, False)):
        at = (low * by).clamp(min=1e-9, max=1e12)
        inside = rows.slack(rest, at) >= 0
        expected = torch.full_like(inside, lives).masked_fill(low == 0, True).masked_fill(low == inf, False)
        assert inside.tolist() == expected.tolist()


def test_targets_alone_are_as_among_others() -> None:
    rows = falling()
    together = rows.interval((MinP(0.05), TopP(0.9)))[0]
    for place in range(len(rows.row)):
        which = torch.tensor([place])
        alone = Falling(rows.logits[rows.row[which], : int(rows.n[place])], which * 0, *rows_of(rows, which))
        assert alone.interval((MinP(0.05), TopP(0.9)))[0].tolist() == together[which].tolist()


def rows_of(rows: Falling, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is known of some targets but their rows."""
    return rows.n[which], rows.slots[which], rows.peak[which]


def test_edges_that_jump_and_that_are_far_are_found_to_the_room() -> None:
    rows = falling()
    edges = torch.logspace(-9, 9, len(rows.row), dtype=torch.float64)
    tried = []

    def jump(some: Falling, t: Tensor) -> Tensor:
        tried.append(len(t))
        return torch.full_like(t, -inf).masked_fill(t >= some.peak, inf)

    found = least(replace(rows, peak=edges), jump)
    low, high = (rows.gap / 800).clamp(min=1e-12), (rows.gap * 1e9).clamp(min=1.0)
    expected = edges.masked_fill(edges <= low, 0.0).masked_fill(edges > high, inf)
    torch.testing.assert_close(found, expected, rtol=2 * ROOM, atol=0.0)
    assert len(set(expected.tolist())) >= 3
    assert len(tried) <= HALVINGS + 6

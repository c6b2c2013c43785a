"""The median by bits: the number that sorting all of them finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from elimtool.numerics.median import median, medians

RANDOM = np.random.default_rng(0)
NORMAL = np.abs(RANDOM.standard_normal((64, 576))).astype(np.float32)
CHANNELS = NORMAL * np.exp(2 * RANDOM.standard_normal(576)).astype(np.float32)
MASSIVE = CHANNELS.copy()
MASSIVE[0, 7] = 3e38


def by_sorting(numbers: Any) -> float:
    """The middle of all numbers in rising order."""
    flat = np.sort(numbers, axis=None)
    half = flat.size // 2
    return float(flat[half] if flat.size % 2 else (flat[half - 1] + flat[half]) / 2)


@pytest.mark.parametrize(
    "numbers",
    [
        NORMAL,
        CHANNELS,
        MASSIVE,
        np.sort(CHANNELS, axis=None),
        CHANNELS.reshape(-1)[:-1],  # an odd number of them
        CHANNELS.astype(np.float64),
        CHANNELS[:1],
        CHANNELS[0, :1],
        np.round(CHANNELS),  # many are equal
        np.zeros_like(NORMAL),
        np.repeat(np.float32([1, 2]), 4096),  # the middle two lie apart
        np.where(NORMAL > 1, np.float32(np.inf), NORMAL),
        np.where(NORMAL > 0.1, np.float32(np.inf), NORMAL),
        np.float32([0, 1e-30])[(NORMAL > 0.3).astype(int)],
    ],
)
def test_it_is_the_middle_of_all_in_order(numbers: Any) -> None:
    assert median(numbers) == by_sorting(numbers)


def test_not_a_number_anywhere_leaves_none() -> None:
    numbers = CHANNELS.copy()
    numbers[3, 5] = np.nan
    assert np.isnan(median(numbers)) and np.isnan(median(numbers[3, :9]))


def test_medians_of_rows_of_several_lengths() -> None:
    rows = torch.from_numpy(
        np.stack([CHANNELS[:8].reshape(-1), NORMAL[:8].reshape(-1), np.round(CHANNELS[:8].reshape(-1))])
    )
    rows[1, 40:] = torch.nan  # beyond what counts
    counts = torch.tensor([rows.shape[1], 40, 577])
    found = medians(rows, counts)
    expected = [by_sorting(row[:count].numpy()) for row, count in zip(rows, counts.tolist(), strict=True)]
    assert found.tolist() == expected
    rows[2, 5] = torch.nan
    assert medians(rows, counts).isnan().tolist() == [False, False, True]

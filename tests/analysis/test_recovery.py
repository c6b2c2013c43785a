"""What late layers read again of what early layers starved, summed over prompts with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elimtool.analysis.recovery import recovery_summary
from elimtool.report.recovery import recovery_sentence, recovery_summary_sentence
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from tests.report.synthetic import _manifest as manifest

NULLS = dict.fromkeys(("starved", "recovered", "expected", "carry_over"))


def made(*counts: tuple[int, int, float, float], by: str = "mass", positions: int = 1) -> Run:
    """A run with a prompt for each (starved, recovered, expected, carry_over) of 40 tokens."""
    names = ("starved", "recovered", "expected", "carry_over")
    rows: list[dict[str, Any]] = [
        {"prompt_id": f"p{at:03}", "position": 40 + place, "by": by, "n_keys": 40, "intervention": None}
        | dict(zip(names, one, strict=True))
        for at, one in enumerate(counts)
        for place in range(positions)
    ]
    rows.append({"prompt_id": "short", "position": 3, "by": by, "n_keys": 3, "intervention": None, **NULLS})
    return Run.from_tables(manifest("tiny"), {"recovery": TABLES["recovery"].from_rows(rows)})


def test_counts_are_summed_before_they_are_divided() -> None:
    (found,) = recovery_summary(made(*[(10, 1, 4.0, 0.5), (20, 20, 2.0, 0.7)] * 5, positions=2))
    assert (found["by"], found["n_prompts"], found["n_keys"]) == ("mass", 10, 800)
    assert (found["starved"], found["recovered"], found["expected"]) == (300, 210, 60.0)
    assert found["ratio"] == 3.5  # the mean of the ratios of single prompts would be 5.125
    assert found["carry_over"] == pytest.approx(0.6)
    assert found["ratio_low"] < 3.5 < found["ratio_high"]
    assert 0.5 < found["carry_over_low"] < 0.6 < found["carry_over_high"] < 0.7


def test_intervals_are_those_of_resampled_prompts() -> None:
    random = np.random.default_rng(3)
    rows = [(20, int(n), float(e), float(c)) for n, e, c in zip(
        random.integers(1, 12, 40), random.random(40) * 6 + 1, random.random(40), strict=True
    )]  # fmt: skip
    (found,) = recovery_summary(made(*rows))
    counts = np.array(rows)
    drawn = counts[random.integers(40, size=(20_000, 40))]
    ratios, means = drawn[..., 1].sum(1) / drawn[..., 2].sum(1), drawn[..., 3].mean(1)
    for name, draws in (("ratio", ratios), ("carry_over", means)):
        ends = np.quantile(draws, (0.025, 0.975))
        np.testing.assert_allclose(
            [found[f"{name}_low"], found[f"{name}_high"]], ends, atol=0.1 * (ends[1] - ends[0])
        )
    assert recovery_summary(made(*rows)) == [found]


def test_few_prompts_have_no_interval_and_none_have_no_row() -> None:
    (found,) = recovery_summary(made((10, 5, 4.0, 0.5), (10, 5, 6.0, 0.5)))
    assert found["ratio"] == 1.0 and found["ratio_low"] is found["carry_over_high"] is None
    assert "(" not in recovery_summary_sentence(found)
    (never,) = recovery_summary(made(*[(0, 0, 0.0, 0.5)] * 9))
    assert never["ratio"] is never["ratio_low"] is None and never["carry_over_low"] == 0.5
    assert recovery_summary(made()) == []


def test_sentences_name_the_kind_of_share_and_chance() -> None:
    (found,) = recovery_summary(made(*[(10, 6, 4.0, 0.5)] * 6, by="norm"))
    assert recovery_summary_sentence(found) == (
        "Early layers starved 25% of 240 tokens of what heads move, in 6 prompts; late layers read 36 of"
        " these again, 1.50 times what chance does at like distance (1.50 to 1.50); early and late shares"
        " correlate by 0.50 (0.50 to 0.50)"
    )
    row = {"by": "mass", "n_keys": 40, "starved": 10, "recovered": 6, "expected": 4.0}
    assert recovery_sentence(row) == (
        "Early layers starved 25% of 40 tokens of attention weight; 60% of these were read again by late"
        " layers, 40% would be by chance at like distance."
    )
    assert recovery_sentence(row | NULLS) == ""

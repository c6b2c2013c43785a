"""The risk of a run: medians, whether scores tell wrong from right, and the least certain answers."""

from __future__ import annotations

import numpy as np
import pytest

from elimtool.analysis.risk.summary import percentile, risk_summary
from elimtool.report.risk import risk_sentences
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from tests.report.synthetic import _manifest as manifest


def made(known: bool) -> Run:
    rows = [
        {
            "prompt_id": f"p{n}", "n_answer_tokens": 4, "mean_logprob": -0.1 * n, "lookback": None,
            "rauq": 0.1 * n, "n_samples": 5, "eigenscore": float(n % 3),
            "semantic_entropy": 0.2 * (n // 2), "n_clusters": 1 + n // 2,
            "clustering": "exact", "correct": n < 4 if known else None,
        }
        for n in range(8)
    ]  # fmt: skip
    return Run.from_tables(manifest("tiny"), {"risk": TABLES["risk"].from_rows(rows)})


def test_scores_that_tell_wrong_from_right_have_an_area() -> None:
    found = risk_summary(made(True))
    assert (found["n"], found["n_correct"], found["n_wrong"]) == (8, 4, 4)
    assert found["scores"]["rauq"]["auroc"] == found["scores"]["mean_logprob"]["auroc"] == 1
    assert found["scores"]["lookback"] == {"median": None, "auroc": None, "ci_low": None, "ci_high": None}
    assert 0 < found["scores"]["eigenscore"]["auroc"] < 1
    first = found["least_certain"][0]
    assert first["prompt_id"] == "p7" and first["semantic_entropy"]["percentile"] == pytest.approx(87.5)
    told = risk_sentences(found)
    assert "4 wrong answers from 4 right ones" in told[0] and "RAUQ 1.00" in told[0]
    assert "p7" in told[1] and "percentile 88" in told[1]


def test_without_known_answers_no_area_is_claimed() -> None:
    found = risk_summary(made(False))
    assert all(one["auroc"] is None for one in found["scores"].values())
    assert not any("AUROC" in one for one in risk_sentences(found))


def test_percentiles_count_ties_half() -> None:
    assert percentile(np.array([1.0, 2, 2, 3, np.nan]), 2.0) == 50

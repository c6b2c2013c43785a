"""What stages have to say stands under their line: DRY's repetition, and why XTC cut a likely token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from elimtool.report.ledger import MOST_NOTES, ChainLedger, ledger
from elimtool.report.screen import Screen


def told(stage: str, params: dict[str, Any], notes: list[str], why: str | None, width: int) -> str:
    row = {
        "stage_index": 0,
        "stage": stage,
        "kind": stage,
        "active": True,
        "params": json.dumps(params),
        "n_before": 10,
        "n_after": 9 if why else 10,
        "mass_pruned": 0.4,
        "notes": notes,
    }
    fate = {
        "alive_before": True,
        "alive_after": not why,
        "margin": -0.5 if why else 0.5,
        "margin_unit": "nats",
        "prob_after": 0.3,
        "why": why,
    }
    lines = ledger([ChainLedger("c", "e", (row,), {(" x", 1): {0: fate}})], Screen(width))
    assert all(line.cell_len <= width for line in lines if line.plain.startswith("  "))
    return " ".join(" ".join(line.plain.split()) for line in lines)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_likely_token_that_is_cut_is_explained(width: int) -> None:
    found = told(
        "xtc", {"probability": 1.0, "threshold": 0.1}, [], "eliminated for being too likely: 0.4", width
    )
    assert "' x': eliminated for being too likely: 0.4" in found


def test_a_plain_cut_explains_itself() -> None:
    assert "rank" not in told("top_k", {"k": 9}, [], "rank 10 is past 9", 80)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_notes_stand_under_their_stage(width: int) -> None:
    notes = ["'15' would repeat the 4-gram '[bold]call('", *(f"note {i}" for i in range(9))]
    found = told("dry", {"multiplier": 0.8}, notes, None, width)
    assert "'15' would repeat the 4-gram '[bold]call('" in found
    assert f"note {MOST_NOTES - 2}" in found
    assert f"note {MOST_NOTES - 1}" not in found

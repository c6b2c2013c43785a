"""What is told and drawn of a map: roles that are present, the strongest of each head, scores with nulls."""

from __future__ import annotations

from typing import Any

from elimtool.report.map.section import map_section
from elimtool.run.analysis import Analysis
from elimtool.run.manifest import Manifest
from elimtool.run.tables.findings import FINDINGS
from tests.report import runs


def row(layer: int, head: int, role: str, score: float | None, null: float | None, present: Any) -> Any:
    ends = {
        "low": score,
        "high": score,
        "p": None if null is None else 0.001,
        "q": None if null is None else 0.01,
    }
    whole = {"layer": layer, "head": head, "kv_group": 0, "role": role, "score": score, "score_held": score}
    return {
        **whole,
        "null": null,
        **ends,
        "present": present,
        "n_units": 16,
        "probe": "repeats",
        "output_ratio": None,
        "greedy": None,
    }


def analysis(rows: list[Any]) -> Analysis:
    manifest: Manifest = runs.france().manifest
    tables = {name: table.from_rows([]) for name, table in FINDINGS["map"].items()}
    tables["head_roles"] = FINDINGS["map"]["head_roles"].from_rows(rows)
    asked = {"map": ["roles"], "corpus": "held_out", "corpus_sha256": "", "passages": 32, "tokens": 128}
    return Analysis.of("map", manifest, tables, asked, 0)


ROWS = [
    row(0, 0, "induction", 0.9, 0.01, True),
    row(0, 1, "induction", 0.4, 0.01, True),
    row(1, 0, "induction", 0.05, 0.01, False),
    row(1, 1, "induction", None, None, None),
    row(0, 0, "sink", 0.95, 0.0, True),
    row(0, 1, "sink", 0.1, 0.05, False),
    row(1, 0, "sink", 0.97, 0.05, True),
    row(1, 1, "sink", None, None, None),
    row(0, 0, "copying", None, None, None),
]


def test_roles_are_told_with_their_nulls() -> None:
    told = map_section(analysis(ROWS)).told
    assert told[0] == (
        "induction: 2 of 3 heads repeat what followed the same token: 0.0 0.90 (null 0.01),"
        " 0.1 0.40 (null 0.01)."
    )
    assert told[1].startswith("sink: 2 of 3 heads")
    assert told[2] == "copying: cannot be measured."


def test_the_grid_names_the_strongest_role_and_sinks_last() -> None:
    grid, heads = map_section(analysis(ROWS)).figures
    assert heads.name == "map_heads"
    drawn: Any = grid
    assert drawn.words == [["I", "I"], ["o", ""]]
    assert drawn.values == [[0.9, 0.4], [0.97, None]]
    assert "sink 0.95 (null 0.00)" in drawn.details[0][0] and "not measurable" in drawn.details[1][1]


def test_a_map_without_roles_draws_no_grid() -> None:
    assert not map_section(analysis([])).figures

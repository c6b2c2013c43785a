"""Gather the data of a comparison's page: facts on both sides, a line for each pair, each pair's figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Keyed
from elimtool.report.figures import palette
from elimtool.report.figures.compare.overview import overview
from elimtool.report.figures.compare.pair import PairRows, figures
from elimtool.report.figures.overview import spelled
from elimtool.report.figures.words import SCREEN, quoted
from elimtool.run.comparison import Comparison

HASHES = re.compile(r"[0-9a-f]{16} \| [0-9a-f]{16}")
"""A pair of prompts without ids of their own."""


def front(comparison: Comparison, most: int | None = None) -> dict[str, Any]:
    """Gather what the page shows first, in the form of ``payload.front``; at most ``most`` pairs."""
    tables = keyed(comparison)
    pairs = _pairs(tables)
    shown = pairs[:most]
    compared = sum(row["control"] is None for row in pairs)
    return {
        "noun": "pair",
        "together": f"All {compared:,} pairs together",
        "alone": compared == 1,
        "run": _facts(comparison),
        "notes": [SCREEN.visible(note) for note in comparison.notes],
        "steps": palette.STEPS,
        "bands": palette.RANK_BANDS,
        "overview": [one.to_json() for one in overview(tables)] if compared > 1 else [],
        "prompts": [_line(row, number) for number, row in enumerate(shown, start=1)],
        "left_out": len(pairs) - len(shown),
    }


def details(comparison: Comparison, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield each pair, in the order of ``front`` and the form of ``payload.details``."""
    tables = keyed(comparison)
    for row in _pairs(tables)[:most]:
        ok = row["status"] == "ok"
        yield {"probes": [_probe(PairRows(tables, row))] if ok else [], "left_out": 0, "figures": []}


def keyed(comparison: Comparison) -> Keyed:
    """The tables of a comparison, by pair."""
    return Keyed(comparison, "pair_id")


def _pairs(tables: Keyed) -> list[Row]:
    """All pairs, controls after the pair that they belong to."""
    rows = tables.all("pairs")
    place = {row["pair_id"]: number for number, row in enumerate(rows)}
    return sorted(
        rows, key=lambda row: (place.get(row["of"], place[row["pair_id"]]), row["control"] is not None)
    )


def _facts(comparison: Comparison) -> dict[str, Any]:
    a, b = comparison.a, comparison.b
    models = [SCREEN.visible(one.model) for one in (a, b)]
    same = a.weights_sha256 == b.weights_sha256 and models[0] == models[1]
    unpaired = comparison.manifest.unpaired
    alone = [f"{count:,} in {side.upper()} alone" for side, count in sorted(unpaired.items()) if count]
    return {
        "model": models[0] if same else " and ".join(models),
        "facts": [
            f"two {comparison.kind} compared, B minus A",
            *alone,
            f"elimtool {comparison.manifest.elimtool}",
        ],
        "finished": comparison.manifest.finished or "",
        "fingerprint": comparison.manifest.fingerprint,
        "heads": "",
    }


def name_of(row: Row, number: int) -> str:
    """Name a pair in a list: by its id, unless that is made of the hashes of two texts."""
    if row["control"] is not None:
        return f"control: {row['control']}"
    return f"pair {number}" if HASHES.fullmatch(row["pair_id"]) else str(row["pair_id"])


def _line(row: Row, number: int) -> dict[str, Any]:
    failed = row["status"] != "ok"
    changed = "output changed" if row["output_changed"] else "output unchanged"
    kept = ["error"] if failed else ["not compared" if row["output_changed"] is None else changed]
    if row["control"] is not None:
        kept.append("control")
    alike = row["text_a"] == row["text_b"]
    return {
        "id": row["pair_id"],
        "name": name_of(row, number),
        "listed": (row["text_a"] if row["control"] is None else row["text_b"]) or "",
        "text": row["text_a"] or "",
        "other": "" if alike else row["text_b"] or "",
        "tokens": row["n_tokens_a"],
        "appended": 0,
        "group": row["group"] or "",
        "tags": row["tags"] or [],
        "outcomes": kept,
        "outcome_words": ", ".join(kept),
        "target": "",
        "error": SCREEN.visible(row["error_message"] or "") if failed else "",
    }


def _probe(pair: PairRows) -> dict[str, Any]:
    row = pair.row
    return {
        "position": row["position_b"],
        "token": "",
        "where": output(row),
        "regime": "",
        "verdicts": [_verdict(one) for one in pair.rows("verdict_differences")],
        "figures": [one.to_json() for one in figures(pair)],
        "heads": None,
    }


def output(row: Row) -> str:
    """Write what the two sides predict, and whether their common beginning was the same to the model."""
    a, b = (_top(row, side) for side in "ab")
    said = [f"Most probable: {a} in A, {b} in B."]
    if row["js_output"] is not None:
        said.append(f"The outputs are {row['js_output']:.3g} bits apart.")
    if row["prefix_holds"] is False:
        said.append("The common beginning was NOT the same to the model: causality is broken.")
    if row["control"] is not None:
        said.append(f"A control ({row['control']}): an edit that should not matter.")
    return " ".join(said)


def _top(row: Row, side: str) -> str:
    """The most probable token of a side."""
    token, prob = row[f"top_token_{side}"], row[f"top_prob_{side}"]
    return "unknown" if token is None else f"{quoted(token)} (p = {spell_prob(prob)})"


def _verdict(row: Row) -> dict[str, Any]:
    a, b = spelled(row["outcome_a"] or ""), spelled(row["outcome_b"] or "")
    change = row["final_logprob_difference"]
    by = "" if change is None else f" ({change:+.2f} nats)"
    sentence = (
        f"Rank {row['final_rank_a']:,} → {row['final_rank_b']:,},"
        f" p {spell_prob(row['final_prob_a'])} → {spell_prob(row['final_prob_b'])}{by}"
    )
    more = [
        _moved(row, name) for name in ("entry_layer", "commit_layer", "lost_layer", "cut_stage", "eliminator")
    ]
    return {
        "token": quoted(row["target"]),
        "outcome": row["outcome_b"] or "",
        "outcome_words": f"{a} → {b}" if a != b else f"{a} on both sides",
        "evidence": "",
        "regime": "",
        "sentence": sentence,
        "more": "; ".join(one for one in more if one),
        "findings": [],
    }


def _moved(row: Row, name: str) -> str:
    """A fact of the verdict on both sides, where it differs."""
    a, b = row[f"{name}_a"], row[f"{name}_b"]
    if a == b:
        return ""
    told = ["none" if value is None else SCREEN.visible(str(value)) for value in (a, b)]
    return f"{spelled(name)} {told[0]} → {told[1]}"

"""Gather the data of a comparison's page: facts on both sides, a line for each pair, each pair's figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.compare.edit import segments
from elimtool.analysis.compare.injection import injected_words, is_injection, output_of, verdict_of
from elimtool.files.rows import Row, Rows
from elimtool.report.compare.maps import maps_section
from elimtool.report.figures import palette
from elimtool.report.figures.compare.overview import overview
from elimtool.report.figures.compare.pair import UNNAMED, PairRows, figures
from elimtool.report.figures.defined import definitions
from elimtool.report.figures.overview import spelled
from elimtool.report.figures.words import SCREEN, quoted
from elimtool.report.glossary import GLOSSARY
from elimtool.report.keyed import Keyed
from elimtool.run.comparison import Comparison

BROKEN = "The common beginning was NOT the same to the model: causality is broken."
LISTED = (
    *("pair_id", "of", "control", "status", "error_message", "text_a", "text_b", "output_changed"),
    *("n_tokens_a", "n_tokens_b", "group", "tags"),
)
"""Columns of pairs that a line in the list needs."""


def front(comparison: Comparison, most: int | None = None, brief: bool = False) -> dict[str, Any]:
    """Gather what the page shows first, in the form of ``payload.front``.

    Args:
        comparison: The comparison.
        most: Pairs to list at most; ``None`` for all.
        brief: Leave out what is told of a pair or of all pairs when it is looked at, so that a list of many
            is there at once: figures, and marks of what differs.
    """
    tables = keyed(comparison)
    pairs = listed(comparison) if brief else pairs_of(tables)
    shown = pairs[:most]
    edited = edits(comparison, shown) if brief else {}
    compared = sum(row["control"] is None for row in pairs)
    maps = comparison.kind == "maps"
    return {
        "noun": "pair",
        "together": "Two maps" if maps else f"All {compared:,} pairs together",
        "alone": compared == 1,
        "run": _facts(comparison),
        "notes": [] if maps else [SCREEN.visible(note) for note in comparison.notes],
        "glossary": GLOSSARY,
        "defined": definitions(),
        "steps": palette.STEPS,
        "bands": palette.RANK_BANDS,
        "analyses": [maps_section(comparison).to_json()] if maps else [],
        "overview": [one.to_json() for one in overview(tables)] if compared > 1 and not brief else [],
        "prompts": [
            line_of(PairRows(tables, row, {"alignment": edited.get(row["pair_id"], [])}), marked=False)
            if brief
            else line_of(PairRows(tables, row))
            for row in shown
        ],
        "left_out": len(pairs) - len(shown),
    }


def details(comparison: Comparison, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield each pair, in the order of ``front`` and the form of ``payload.details``."""
    tables = keyed(comparison)
    for row in pairs_of(tables)[:most]:
        yield detail(comparison, PairRows(tables, row))


def detail(comparison: Comparison, pair: PairRows) -> dict[str, Any]:
    """Gather one pair, as ``details`` does."""
    probes = [_probe(comparison, pair)] if pair.row["status"] == "ok" else []
    return {"probes": probes, "left_out": 0, "figures": []}


def keyed(comparison: Comparison) -> Keyed:
    """The tables of a comparison, by pair."""
    return Keyed(comparison, "pair_id")


def pairs_of(tables: Keyed) -> list[Row]:
    """All pairs, controls after the pair that they belong to."""
    return _in_order(tables.all("pairs"))


def listed(comparison: Comparison) -> list[Row]:
    """All pairs in order, with the columns alone that their lines in the list need."""
    if "pairs" not in comparison.tables:
        return []
    return _in_order(comparison.arrow("pairs").select(LISTED).to_pylist())


def edits(comparison: Comparison, pairs: Rows) -> dict[str, Rows]:
    """Read what differs in the prompts of pairs: rows of ``alignment`` by pair, without most equal tokens.

    Of tokens that both have, the first after an edit is left, which parts it from the next one.
    """
    if "alignment" not in comparison.tables or all(row["text_a"] == row["text_b"] for row in pairs):
        return {}
    table = comparison.arrow("alignment")
    own = table.column("operation").combine_chunks().cast("string").to_numpy(zero_copy_only=False) != "equal"
    kept = own.copy()
    kept[1:] |= own[:-1]
    found: dict[str, Rows] = {}
    for row in table.filter(pa.array(kept)).to_pylist():
        found.setdefault(row["pair_id"], []).append(row)
    return found


def _in_order(rows: Rows) -> Rows:
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


def _parts(pair: PairRows, side: str) -> list[list[Any]] | None:
    """Divide a prompt for marking what the other lacks; None where its tokens do not join to its text."""
    found = segments(pair.rows("alignment"), side)
    whole = "".join(part.text for part in found) == pair.row[f"text_{side}"]
    return [[part.text, part.changed] for part in found] if whole else None


def line_of(pair: PairRows, marked: bool = True) -> dict[str, Any]:
    """Gather a pair's line in the list, as for ``front``; without the marks of what differs unless asked."""
    row = pair.row
    failed = row["status"] != "ok"
    changed = "output changed" if row["output_changed"] else "output unchanged"
    kept = ["error"] if failed else ["not compared" if row["output_changed"] is None else changed]
    if row["control"] is not None:
        kept.append("control")
    alike = row["text_a"] == row["text_b"]
    own = row["control"] is None and not UNNAMED.fullmatch(row["pair_id"])
    return {
        "id": row["pair_id"],
        "name": pair.title,
        "ident": row["pair_id"] if own else "",
        "text": row["text_a"] or "",
        "other": "" if alike else row["text_b"] or "",
        "parts": None if alike or not marked else [_parts(pair, side) for side in "ab"],
        "of": row["of"],
        "tokens": row["n_tokens_a"],
        "tokens_b": None if alike else row["n_tokens_b"],
        "group": row["group"] or "",
        "tags": row["tags"] or [],
        "outcomes": kept,
        "outcome_words": kept[0],
        "stages": [],
        "target": "",
        "error": SCREEN.visible(row["error_message"] or "") if failed else "",
    }


def _probe(comparison: Comparison, pair: PairRows) -> dict[str, Any]:
    return {
        "position": pair.row["position_b"],
        "token": "",
        "where": [SCREEN.visible(one) for one in _said(comparison, pair)],
        "regime": "",
        "verdicts": [_verdict(one) for one in pair.rows("verdict_differences")],
        "figures": [one.to_json() for one in figures(pair)],
        "heads": None,
    }


def _said(comparison: Comparison, pair: PairRows) -> list[str]:
    """Say what an edit of a prompt did, as the story does; of other pairs what both sides predict."""
    row = pair.row
    if comparison.kind != "prompts" or row["control"] is not None or row["js_output"] is None:
        return [output(row)]
    injected = is_injection(comparison, row["pair_id"])
    said = [injected_words(pair.rows("alignment"))] if injected else []
    said.append(verdict_of(output_of(comparison, row), injected))
    for side in "ab":
        if row[f"continuation_{side}"] is not None:
            said.append(f"{side.upper()} writes on: {row[f'continuation_{side}']}")
    return [one[:1].upper() + one[1:] for one in said if one] + (
        [BROKEN] if row["prefix_holds"] is False else []
    )


def output(row: Row) -> str:
    """Write what the two sides predict, and whether their common beginning was the same to the model."""
    a, b = (_top(row, side) for side in "ab")
    said = [f"Most probable: {a} in A, {b} in B."]
    if row["js_output"] is not None:
        said.append(f"The outputs are {row['js_output']:.3g} bits apart.")
    if row["prefix_holds"] is False:
        said.append(BROKEN)
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

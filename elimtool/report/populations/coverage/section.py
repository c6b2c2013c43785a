"""Tell what a model covers: what is right first, then what chains cut, then how calibrated it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from rich.text import Text

from elimtool.files.rows import Row, Rows
from elimtool.report.numbers import share
from elimtool.report.populations.coverage.figures import SAME, coverage_figures
from elimtool.report.populations.section import Section
from elimtool.report.screen import Screen, padded
from elimtool.run.analysis import Analysis

LISTED = 12
"""Leaves that are listed, the worst first."""
ALPHA = 0.1
"""Share of right tokens that may be lost by the settings that are told."""
NARROW = 8
"""Least width of a category's name."""
SEVERAL = 3
"""Places that are enough to speak of a share."""


def coverage_section(found: Analysis) -> Section:
    """Make the section of a coverage."""
    nodes, items, answers, settings, calibration, bins, unknown = (
        found.arrow(name).to_pylist()
        for name in (
            "coverage",
            "coverage_items",
            "answers",
            "conformal",
            "calibration",
            "calibration_bins",
            "abstention",
        )
    )
    told = [*_right(nodes, items), *_answers(answers), *_chains(calibration), *_setting(settings)]
    told += _abstention(unknown)
    places = f"{calibration[0]['n']:,} places" if calibration else "prompts without a right answer"
    n = f"{len(items):,} items" if items else places
    figures = coverage_figures(nodes, bins, unknown)

    def drawn(screen: Screen) -> list[Text]:
        return _listed(nodes, screen)

    return Section(f"Coverage: {n}", told, figures, found.manifest.notes, drawn)


def _right(nodes: Rows, items: Rows) -> Iterator[str]:
    """Say how often the model is right, where it is worst, and where that is decided."""
    if not nodes:
        return
    root, leaves = nodes[0], [one for one in nodes if one["is_leaf"] and one["n_items"]]
    over = f" ({len(leaves):,} categories, each counted once)" if len(leaves) > 1 else ""
    said = f"Right in {share(root['accuracy'])} of {root['n_items']:,} items{over}"
    if root["ci_low"] is not None:
        said += f", {share(root['ci_low'])} to {share(root['ci_high'])}"
    if root["chance"] is not None:
        said += f"; guessing is right in {share(root['chance'])}"
    yield f"{said}."
    if len(leaves) > 1:
        worst = min(leaves, key=lambda one: (one["accuracy"], one["node"]))
        hits = round(worst["accuracy"] * worst["n_items"])
        between = f"{share(worst['worst_low'])} to {share(worst['worst_high'])}"
        yield (
            f"Worst of {len(leaves):,} categories: {worst['title'] or worst['node']}, right in {hits} of"
            f" {worst['n_items']} ({between}, an interval that holds for all {len(leaves):,} at once)."
        )
    if root["decided_layer"] is not None:
        low, high = (f"{root[name]:g}" for name in ("decided_low", "decided_high"))
        begin = "the embedding" if root["decided_low"] < 0 else low
        yield f"Decided at layer {root['decided_layer']:g} (median; {begin} to {high} in 8 of 10 items)."
    agree = [one["decides_there"] for one in items if one["decides_there"] is not None]
    if len(agree) >= SEVERAL:
        where = f"{share(sum(agree) / len(agree))} of {len(agree):,} pairs"
        yield (
            f"The first token that differs speaks for the side that wins in {where}; the rest of a sentence"
            " can outweigh it."
        )
    if root["alive_share"] is not None:
        said = f"The right token survives every chain in {share(root['alive_share'])}"
        yield (
            f"{said}; most of the rest is cut by {root['top_cut_stage']}."
            if root["top_cut_stage"]
            else f"{said}."
        )
    if root["structural"] is not None:
        asked = [one for one in nodes if one["is_leaf"]]
        covered, empty = sum(one["covered"] for one in asked), sum(not one["n_items"] for one in asked)
        yield (
            f"{covered:,} of {len(asked):,} leaves are covered, {empty:,} have no items: structural coverage"
            f" {share(root['structural'])}."
        )


def _answers(rows: Rows) -> Iterator[str]:
    """Say how many right answers are alive after each stage of each chain, over all prompts."""
    chains = list(dict.fromkeys(one["chain"] for one in rows))
    for chain in chains:
        own = [one for one in rows if one["chain"] == chain]
        stages: dict[int, Rows] = {}
        for one in own:
            stages.setdefault(one["stage_index"], []).append(one)
        counts = {index: sum(one["n_alive"] for one in some) for index, some in stages.items()}
        masses = {index: sum(one["mass"] for one in some) / len(some) for index, some in stages.items()}
        order = sorted(stages)
        cuts = [b for a, b in pairwise(order) if counts[b] < counts[a]]
        first = stages[order[0]]
        total = sum(one["n_distinct"] for one in first)
        said = ", ".join(f"{counts[index]:,} after {stages[index][0]['stage']}" for index in cuts)
        said = f"Of {total:,} right answers to {len(first):,} prompts {said or 'all'} were alive in {chain}"
        yield f"{said}; their mass went from {masses[order[0]]:.2f} to {masses[order[-1]]:.2f}."


def _chains(rows: Rows) -> Iterator[str]:
    """Say of each chain how many right tokens it kills beyond what the model expects, and what it claims."""
    whole = [one for one in rows if one["subset"] == "all"]
    if not whole or whole[0]["n"] < SEVERAL:
        return
    output = whole[0]
    ends: dict[str, Row] = {one["chain"]: one for one in whole if one["chain"] is not None}
    for chain, row in ends.items():
        if not row["gold_pruned"] and abs(row["confidence"] - output["confidence"]) < SAME:
            yield f"{chain} changes nothing here: it cuts no token and moves no probability."
            continue
        said = f"{chain} kills the right token in {share(row['gold_pruned'])} of {row['n']:,} places"
        if row["excess"] is not None:
            said += f", {_points(row['excess'])} than the model expects"
        if row["ci_low"] is not None:
            said += f" ({100 * row['ci_low']:.1f} to {100 * row['ci_high']:.1f})"
        yield f"{said}. {_claims('Its first choice', row)}."
    before = "Before any chain the first choice" if ends else "The first choice"
    yield f"{_claims(before, output)}."


def _claims(what: str, row: Row) -> str:
    """Say what a first choice claims, how often it is right, and how far that is off beside chance."""
    said = f"{what} claims {share(row['confidence'])} and is right in {share(row['accuracy'])}"
    return f"{said} (calibration error {row['ece']:.3f}, by chance {row['ece_null']:.3f})"


def _points(excess: float) -> str:
    points = abs(100 * excess)
    return f"{points:.1f} points {'more' if excess >= 0 else 'less'}"


def _setting(rows: Rows) -> Iterator[str]:
    """Say which settings would keep the right token in nine of ten places."""
    known = [one for one in rows if one["alpha"] == ALPHA and one["setting"] is not None]
    if known:
        said = ", ".join(f"{one['sampler']} {_rounded(one)}{_size(one)}" for one in known)
        low, high = known[0]["coverage_low"], known[0]["coverage_high"]
        n = f"{known[0]['n']:,} prompts or texts"
        yield (
            f"To keep the right token in 9 of 10 places like these, each setting alone: {said}. They are from"
            f" {n}; settings from so many keep it in {share(low)} to {share(high)} of new ones."
        )


def _size(row: Row) -> str:
    """Say how many tokens a setting keeps, where its number is not that."""
    if row["sampler"] == "top_k" or row["mean_size"] is None:
        return ""
    return f" ({row['mean_size']:.3g} tokens on average)"


def _abstention(rows: Rows) -> Iterator[str]:
    """Say how probable it is that the model says that it does not know, and for whom more so."""
    for row in rows:
        of = f"'{row['group']}' prompts" if row["group"] is not None else "prompts"
        between = "" if row["ci_low"] is None else f", {row['ci_low']:.2g} to {row['ci_high']:.2g}"
        said = f"That it is not known follows {row['n_prompts']:,} {of} with probability {row['mass']:.2g}"
        said += between
        if row["reference"] is not None:
            said += f"; {row['difference']:+.2g} beside '{row['reference']}' in {row['n_tuples']:,} tuples"
            if row["difference_low"] is not None:
                said += f" ({row['difference_low']:.2g} to {row['difference_high']:.2g})"
            said += "" if row["p_value"] is None else f", p {row['p_value']:.2g}"
        yield f"{said}."
    if rows and all(row["reference"] is None for row in rows):
        yield (
            "Alone that is a base rate: give prompts a `group` (answerable, unanswerable) and match them by"
            " `tuple`."
        )


def _rounded(row: Row) -> str:
    return f"{row['setting']:.0f}" if row["sampler"] == "top_k" else f"{row['setting']:.3g}"


def _listed(nodes: Rows, screen: Screen) -> list[Text]:
    leaves = [one for one in nodes if one["is_leaf"]]
    if len(leaves) < 2:
        return []
    leaves.sort(key=lambda one: (one["n_items"] > 0, one["accuracy"] or 0.0, one["node"]))
    shown = leaves[:LISTED]
    names = [str(one["title"] or one["node"]) for one in shown]
    counted = [_counted(one) for one in shown]
    width = min(max(map(len, names)), max(screen.width - max(map(len, counted)) - 4, NARROW))
    lines = [Text("")]
    for name, said in zip(names, counted, strict=True):
        lines.append(Text(f"  {padded(screen.shorten(name, width), width)}  {said}"))
    if leaves[LISTED:]:
        lines.append(Text(f"  and {len(leaves) - LISTED:,} more in table coverage", style="dim"))
    return [*lines, Text("")]


def _counted(one: dict[str, Any]) -> str:
    if not one["n_items"]:
        return "no items"
    hits = round(one["accuracy"] * one["n_items"])
    said = f"{hits:>4} of {one['n_items']:<4} {share(one['accuracy']):>6}"
    said += f"  ({share(one['ci_low'])} to {share(one['ci_high'])})"
    if one["decided_layer"] is not None:
        layer = one["decided_layer"]
        said += f"  {'embedding' if layer < 0 else f'layer {layer:g}':<10}"
    if one["covered"] is None:
        return said.rstrip()
    return f"{said}  {'covered' if one['covered'] else 'not covered'}"

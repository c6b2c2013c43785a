"""Tell in how many variants a concept is alive at the output and after each chain, and where they part."""

from __future__ import annotations

from elimtool.analysis.populations.sweep.stability import ALL
from elimtool.analysis.populations.sweep.variants import EDITS, RUNS, SEEDS, VARIANTS
from elimtool.files.rows import Row, Rows
from elimtool.report.populations.sweep.words import p_in_words

VARIED = {
    VARIANTS: ("wordings", "wordings agree"),
    EDITS: ("edits", "edits of one tuple agree"),
    SEEDS: ("places of written texts", "texts with other seeds agree"),
    RUNS: ("runs", "runs agree"),
}
"""What is counted, and who agrees, by what variants differ in."""
THINGS = {VARIANTS: "items", EDITS: "tuples", SEEDS: "places of texts", RUNS: "prompts"}


def things_in_words(rows: Rows) -> str:
    """Say of how many things there are variants: ``concepts in 12 tuples``."""
    counts = {over: len({row["key"] for row in rows if row["over"] == over} - {ALL}) for over in THINGS}
    return f"concepts in {' and '.join(f'{n:,} {THINGS[over]}' for over, n in counts.items() if n)}"


def stability_sentences(rows: Rows) -> list[str]:
    """Write a sentence or two for each concept, and each thing that variants differ in."""
    names = dict.fromkeys((row["concept"], row["over"]) for row in rows)
    return [_told(name, [row for row in rows if (row["concept"], row["over"]) == name]) for name in names]


def _told(name: tuple[str, str], rows: Rows) -> str:
    whole = [row for row in rows if row["key"] == ALL]
    layers = sorted((row for row in whole if row["layer"] is not None), key=lambda row: row["layer"])
    chains = {row["chain"]: row for row in whole if row["chain"] is not None}  # the last stage of each
    output = layers[-1]
    noun, agreeing = VARIED[name[1]]
    parts = [f"{_alive(output, rows)} {noun} at the output"]
    parts += [f"{_alive(row, rows)} after {chain}" for chain, row in chains.items()]
    said = f"'{name[0]}' is alive in {', in '.join(parts)}"
    told = f"{said}; {agreeing} on that in {100 * output['agreement']:.0f} % of pairs at the output"
    if output["control_agreement"] is not None:
        told += (
            f" (sets as frequent: {100 * output['control_agreement']:.0f} %, {p_in_words(output['p_value'])})"
        )
    parting = [row["layer"] for row in layers if row["agreement"] < 1]
    if parting:
        where = (
            f"after layer {parting[0]}"
            if len(parting) == 1
            else f"after layers {parting[0]} to {parting[-1]}"
        )
        told += f"; they part {where}"
    return f"{told}."


def _alive(row: Row, rows: Rows) -> str:
    """Count the variants in which a concept is alive; means over keys would not, where some have fewer."""
    at = "layer", "chain", "stage"
    own = [one for one in rows if one["key"] != ALL and all(one[name] == row[name] for name in at)]
    return f"{sum(round(one['membership'] * one['n']) for one in own):,} of {row['n']:,}"

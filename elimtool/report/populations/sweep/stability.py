"""Tell in how many variants a concept is alive at the output and after each chain, and where they part."""

from __future__ import annotations

from elimtool.analysis.populations.sweep.stability import ALL
from elimtool.files.rows import Row, Rows
from elimtool.report.populations.sweep.words import p_in_words


def stability_sentences(rows: Rows) -> list[str]:
    """Write a sentence or two for each concept."""
    whole = [row for row in rows if row["key"] == ALL]
    names = dict.fromkeys(row["concept"] for row in whole)
    return [_told(name, [row for row in whole if row["concept"] == name]) for name in names]


def _told(name: str, rows: Rows) -> str:
    layers = sorted((row for row in rows if row["layer"] is not None), key=lambda row: row["layer"])
    chains = {row["chain"]: row for row in rows if row["chain"] is not None}  # the last stage of each
    output = layers[-1]
    parts = [f"{_alive(output)} {'wordings' if output['over'] == 'variants' else 'runs'} at the output"]
    parts += [f"{_alive(row)} after {chain}" for chain, row in chains.items()]
    said = f"'{name}' is alive in {', in '.join(parts)}"
    told = f"{said}; variants agree on that in {100 * output['agreement']:.0f} % of pairs at the output"
    if output["control_agreement"] is not None:
        told += (
            f" (sets as frequent: {100 * output['control_agreement']:.0f} %, {p_in_words(output['p_value'])})"
        )
    parting = [row["layer"] for row in layers if row["flips"]]
    if parting:
        where = (
            f"after layer {parting[0]}"
            if len(parting) == 1
            else f"after layers {parting[0]} to {parting[-1]}"
        )
        told += f"; they part {where}"
    return f"{told}."


def _alive(row: Row) -> str:
    return f"{round(row['membership'] * row['n']):,} of {row['n']:,}"

"""Tell what layers change and what is lost without them, and how often neurons open."""

from __future__ import annotations

from collections.abc import Callable

from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Figure, Heat, Line, Lines, Listing, Stack, StackRow

NAMED = 3
"""Layers that a sentence names."""
APART = 3
"""Influence misses a layer if its rank there and by what is lost differ by the depth over this."""
MASSIVE = 1
"""Fewest massive activations that are told."""


def layer_sentences(rows: Rows) -> list[str]:
    """Tell the table ``layers``."""
    known = [row for row in rows if row["influence"] is not None]
    if not known:
        return []
    told = [f"layers that change tokens least: {_named(sorted(known, key=_influence), 'influence')}."]
    read = [row for row in known if row["skip_kl"] is not None]
    if read:
        least = sorted(read, key=_lost)
        told.append(
            f"left out one at a time, the layers that matter least change the output by"
            f" {_named(least, 'skip_kl', ' nats')}, those that matter most by"
            f" {_named(least[::-1], 'skip_kl', ' nats')} ({read[0]['n_read']:,} passages)."
        )
        told += [_missed(row, len(rows)) for row in read if _places_apart(row, read) > len(rows) / APART]
        saturated = next(row for row in read if row["saturated"] >= 0.5)
        told.append(
            f"the first token is settled for half of the positions after layer {saturated['layer']}"
            f" ({saturated['saturated']:.0%}; raw lens)."
        )
    straight = [row for row in known if row["linearity"] is not None]
    if straight:
        least = sorted(straight, key=lambda row: float(row["linearity"]))
        told.append(
            f"least linear on text that was not fitted: {_named(least, 'linearity')}; of what they add, a"
            f" linear map explains {', '.join(_share(row['update_linearity']) for row in least[:NAMED])}."
        )
    largest = max(rows, key=lambda row: row["max_abs"])
    if largest["n_massive"] >= MASSIVE:
        told.append(
            f"the largest activation is {largest['max_abs']:,.0f}, after layer {largest['layer']} at position"
            f" {largest['max_position']}, channel {largest['max_channel']}: {largest['max_ratio']:,.0f} times"
            f" the median; at tokens that are no sinks the largest is {largest['max_abs_elsewhere']:,.0f}."
        )
    return told


def exit_sentences(rows: Rows) -> list[str]:
    """Tell the table ``exits``: where one could have stopped, by a rule and at the earliest."""
    if not rows:
        return []
    known = {row["rule"]: row for row in rows if row["mean_layer"] is not None}
    if not known:
        return [f"where one could stop early is not known: {rows[0]['unmeasured']}."]
    told = [
        f"{rule} at layer {row['mean_layer']:.1f} with {row['agreement']:.0%} of the output's first tokens"
        for rule, row in known.items()
        if rule != "oracle"
    ]
    least = (
        "" if "oracle" not in known else f"; who knew the output could at {known['oracle']['mean_layer']:.1f}"
    )
    return [f"one could stop early, on average: {', '.join(told) or 'by no rule'}{least}."]


def neuron_sentences(rows: Rows) -> list[str]:
    """Tell the table ``neurons``."""
    known = [row for row in rows if row["neuron"] is not None]
    unknown = [row for row in rows if row["neuron"] is None]
    told = []
    if known:
        never = sum(row["open"] == 0 for row in known)
        always = sum(row["open"] == 1 for row in known)
        n = known[0]["n"]
        told.append(
            f"neurons: {never:,} of {len(known):,} never opened in {n:,} tokens, {always:,} were never shut"
            f" (what happens at fewer than {3 / n:.1g} of tokens may not show in so few)."
        )
    if unknown:
        told.append(f"neurons of {len(unknown):,} layers are not known: {unknown[0]['unmeasured']}.")
    return told


def layer_figures(rows: Rows) -> list[Figure]:
    """Draw what each layer changes beside what is lost without it, as lines, as a strip and as a table."""
    read = [row for row in rows if row["skip_kl"] is not None and row["influence"] is not None]
    if not read:
        return []
    return [
        _strip(read),
        Lines(
            name="map_layers",
            title="What each layer changes, and what is lost without it",
            note="Influence: 1 minus the cosine of the stream before and after the layer, at text tokens and"
            " at sinks. Without the layer: divergence of the output. Each as a share of its largest.",
            layers=[row["layer"] for row in read],
            lines=[_line(read, name, said) for name, said in LINES.items()],
            unit="share",
        ),
        Listing(
            name="map_layer_table",
            title="All layers",
            note="Choose a column's name to sort by it.",
            columns=["layer", *STRIP.values()],
            rows=[[row["layer"], *(row[name] for name in STRIP)] for row in read],
        ),
    ]


def _strip(rows: Rows) -> Heat:
    """Draw the layers side by side: each number as a share of its largest."""
    most = {name: max((abs(row[name] or 0.0) for row in rows), default=0.0) or 1.0 for name in STRIP}
    return Heat(
        name="map_strip",
        title="Layers at a glance",
        note="Each line is coloured by the share of its largest value; point at a cell for the number.",
        row_title="what",
        column_title="layer",
        rows=list(STRIP.values()),
        columns=[str(row["layer"]) for row in rows],
        values=[
            [None if row[name] is None else abs(row[name]) / most[name] for row in rows] for name in STRIP
        ],
        details=[["" if row[name] is None else f"{row[name]:.3g}" for row in rows] for name in STRIP],
        unit="share",
        value_title="share of the line's largest",
    )


def neuron_figures(rows: Rows) -> list[Stack]:
    """Count the neurons of each layer by how often they open."""
    known = [row for row in rows if row["neuron"] is not None]
    if not known:
        return []
    counts = {layer: [0] * len(OPEN) for layer in sorted({row["layer"] for row in known})}
    for row in known:
        counts[row["layer"]][next(at for at, under in enumerate(OPEN.values()) if under(row["open"]))] += 1
    return [
        Stack(
            name="map_neurons",
            title="How often the neurons of each layer open",
            note=f"Neurons by the share of {known[0]['n']:,} tokens at which the gate is above 0. What"
            f" happens at fewer than {3 / known[0]['n']:.1g} of tokens may not show.",
            label_title="layer",
            keys=list(OPEN),
            rows=[StackRow(f"layer {layer}", some) for layer, some in counts.items()],
        )
    ]


OPEN: dict[str, Callable[[float], bool]] = {
    "never": lambda share: share == 0,
    "under 10%": lambda share: share < 0.1,
    "10% to 50%": lambda share: share <= 0.5,
    "over 50%": lambda share: share < 1,
    "always": lambda _: True,
}
"""How often a neuron opens -> whether it does, where none before it holds."""


STRIP = {
    "influence": "influence on text",
    "influence_sink": "influence on sinks",
    "skip_kl": "lost without it",
    "linearity": "linear on held-out text",
    "saturated": "first token settled",
    "open": "open neurons",
    "max_abs": "largest activation",
}
"""Columns of ``layers`` in the strip and the table -> what they are called."""


LINES = {
    "influence": "influence on text",
    "influence_sink": "influence on sinks",
    "skip_kl": "lost without it",
}


def _line(rows: Rows, name: str, said: str) -> Line:
    values = [row[name] for row in rows]
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    return Line(name=said, values=[None if value is None else value / most for value in values])


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.0%}"


def _influence(row: Row) -> float:
    return float(row["influence"])


def _lost(row: Row) -> float:
    return float(row["skip_kl"])


def _named(rows: Rows, name: str, unit: str = "") -> str:
    return ", ".join(f"{row[name]:.2g}{unit} (layer {row['layer']})" for row in rows[:NAMED])


def _places_apart(row: Row, rows: Rows) -> int:
    """How much higher a layer ranks by what is lost without it than by influence."""
    larger = sum(_lost(one) > _lost(row) for one in rows)
    return sum(_influence(one) > _influence(row) for one in rows) - larger


def _missed(row: Row, depth: int) -> str:
    """Say of a layer that changes little that much is lost without it."""
    sinks = row["influence_sink"]
    said = f"layer {row['layer']} of {depth} changes text little (influence {row['influence']:.2g}), but"
    said += f" without it the output is off by {row['skip_kl']:.2g} nats"
    return f"{said}." if sinks is None else f"{said}; at the sinks its influence is {sinks:.2g}."

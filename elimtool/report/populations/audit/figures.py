"""Draw an audit: differences with intervals, layers with the skewed ones shaded, what stages leave."""

from __future__ import annotations

from collections.abc import Iterator

from elimtool.analysis.populations.audit.outcomes import RAW_LENS
from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Bar, Bars, Estimate, Figure, Forest, Line, Lines
from elimtool.report.figures.words import label
from elimtool.report.populations.audit.found import RULES, SENTENCE, Contrast
from elimtool.report.populations.audit.story import counted, is_certain, p_words, what

ATTENTION = "attention.lift_no_sink"
LAYERED = {
    ATTENTION: ("Attention to the group's word", "ratio", "times an even spread"),
    "lens.logit": ("The gap by layer", "nats", "logit of target minus foil"),
    "lens.logprob": ("The gap by layer", "nats", "log-probability"),
}
RAW_NOTE = "Before the last layer the raw lens supports no claim."
HOW = "Bars are 95 % intervals; filled dots differ from 0 after correction (BH: Benjamini-Hochberg)."


def figures(one: Contrast, number: int) -> Iterator[Figure]:
    """Draw one contrast.

    Args:
        one: The contrast.
        number: Its place among all, which is part of the figures' names from the second on.
    """
    more = f"_{number + 1}" if number else ""
    if one.final is None:
        return
    of = label(f"{what(one.final)}: {one.final['group_a']} minus {one.final['group_b']}")
    yield from _forest(f"audit_effects{more}", f"Differences, {of}", _in_nats(one), "nats")
    yield from _forest(f"audit_survival{more}", f"What is kept, {of}", _shares(one), "share")
    for metric in one.layered:
        about = of if metric != ATTENTION else label(f"{one.final['group_a']} minus {one.final['group_b']}")
        yield _layers(f"audit_{metric.partition('.')[0]}{more}", about, metric, one)
    yield from _stages(f"audit_stages{more}", of, one)


def _forest(name: str, title: str, rows: list[tuple[str, Row]], unit: str) -> Iterator[Figure]:
    if rows:
        estimates = [
            Estimate(
                label(told), row["difference"], row["ci_low"], row["ci_high"], _said(row), is_certain(row)
            )
            for told, row in rows
        ]
        yield Forest(
            name=name, title=title, note=HOW, label_title="outcome", value_title=unit, rows=estimates
        )


def _said(row: Row) -> str:
    return f"{counted(row['n_templates'], 'template')}; {p_words(row)}"


def _in_nats(one: Contrast) -> list[tuple[str, Row]]:
    assert one.final is not None
    metric = one.final["metric"]
    scored = metric.startswith(SENTENCE)
    rows = [(metric.removeprefix(SENTENCE) if scored else "at the end", one.final)]
    if scored:
        others = [f"{SENTENCE}{rule}" for rule in RULES]
        rows += [(row["metric"].removeprefix(SENTENCE), row) for row in one.of("other", *others)]
    rows += [(row["category"], row) for row in one.effects if row["category"] and row["metric"] == metric]
    for row in one.effects:
        if row["metric"] == "survival.target_logprob" and row is not one.final and row["category"] is None:
            left = " less neutral" if row["normalised"] else ""
            rows.append((f"whole target{left}", row))
    return rows


def _shares(one: Contrast) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    for end in one.of("confirmatory", "survives"):
        rows.append((f"{end['chain']} keeps it", end))
        stages = [row for row in one.of("stages", "stage_share") if row["chain"] == end["chain"]]
        rows += [(f"{end['chain']}: {row['stage']}", row) for row in stages]
    outcomes = [row for row in one.of("other") if row["metric"].startswith("outcome.")]
    rows += [(row["metric"].removeprefix("outcome.").replace("_", " "), row) for row in outcomes]
    return rows


def _layers(name: str, of: str, metric: str, one: Contrast) -> Figure:
    title, unit, told = LAYERED[metric]
    rows = one.by_layer(metric)
    shaded = [(row["first_layer"], row["last_layer"]) for row in one.skewed(metric)]
    line = Line(
        f"{rows[0]['group_a']} minus {rows[0]['group_b']}",
        [row["difference"] for row in rows],
        low=[row["ci_low"] for row in rows],
        high=[row["ci_high"] for row in rows],
    )
    unsupported = any(RAW_LENS in row["flags"] for row in rows)
    note = (
        f"Difference in {told}, with its 95 % interval. {RAW_NOTE if unsupported else _shaded_note(shaded)}"
    )
    return Lines(
        name=name,
        title=f"{title}, {of}",
        note=note,
        layers=[row["layer"] for row in rows],
        lines=[line],
        unit=unit,
        shaded=shaded,
        shaded_as="skewed over templates and words",
    )


def _shaded_note(shaded: list[tuple[int, int]]) -> str:
    if not shaded:
        return "No run of layers is skewed after correction."
    return "Shaded: runs of layers that differ somewhere, not necessarily from their first layer on."


def _stages(name: str, of: str, one: Contrast) -> Iterator[Figure]:
    """Draw how many of each group's records are left after each stage."""
    bars: list[Bar] = []
    for end in one.of("confirmatory", "survives"):
        stages = [row for row in one.of("stages", "stage_share") if row["chain"] == end["chain"]]
        bars += _left(end, stages)
    if bars:
        yield Bars(
            name=name,
            title=f"What stages leave, {of}",
            note="Share of records in which the target is alive after each stage that cuts it at all.",
            label_title="after",
            value_title="share",
            bars=bars,
        )


def _left(end: Row, stages: Rows) -> list[Bar]:
    bars, left = [], [1.0, 1.0]
    for row in stages:
        for at, side in enumerate("ab"):
            left[at] += row[f"mean_{side}"]
            bars.append(Bar(label(f"{end['chain']}, {row['stage']}: {row[f'group_{side}']}"), left[at]))
    return bars

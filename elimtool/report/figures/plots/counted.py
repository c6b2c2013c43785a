"""Draw counts and shares with matplotlib: bars, stacks and sampler funnels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elimtool.report.figures import figure as kinds
from elimtool.report.figures.palette import LINES_LIGHT
from elimtool.report.figures.plots.ink import GONE, INK, WIDTH, count_ticks, short
from elimtool.report.numbers import share

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def bars(figure: kinds.Bars, canvas: Canvas) -> None:
    """Draw horizontal bars with their numbers."""
    canvas.set_size_inches(WIDTH, 0.8 + 0.2 * len(figure.bars))
    axes = canvas.subplots()
    places = range(len(figure.bars))
    values = [bar.value for bar in figure.bars]
    colours = [LINES_LIGHT[1] if value < 0 else LINES_LIGHT[0] for value in values]
    axes.barh(places, values, color=colours, height=0.7)
    axes.set_yticks(places, [short(bar.label) for bar in figure.bars])
    axes.invert_yaxis()
    if figure.log:
        axes.set_xscale("log")
        axes.set_xlim(left=1)
        count_ticks(axes.xaxis)
    axes.set_xlabel(figure.value_title)
    axes.axvline(0, color=INK, linewidth=0.6)
    for place, bar in zip(places, figure.bars, strict=True):
        told = _number(bar.value, figure.value_title) + (f"   {bar.text}" if bar.text else "")
        axes.annotate(
            told,
            (max(bar.value, 1 if figure.log else 0), place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )


def forest(figure: kinds.Forest, canvas: Canvas) -> None:
    """Draw each estimate as a dot on its interval, filled where it is certain, and a tick at its mark."""
    canvas.set_size_inches(WIDTH, 0.8 + 0.2 * len(figure.rows))
    axes = canvas.subplots()
    axes.axvline(0, color=INK, linewidth=0.6)
    for place, row in enumerate(figure.rows):
        if row.value is None:
            continue
        colour = LINES_LIGHT[1] if row.value < 0 else LINES_LIGHT[0]
        if row.mark is not None:
            axes.plot(row.mark, place, "|", color=GONE, markersize=9, markeredgewidth=2)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.4)
        filled = colour if row.certain else "white"
        axes.plot(row.value, place, "o", color=colour, markersize=5, markerfacecolor=filled)
    axes.set_yticks(range(len(figure.rows)), ["  " * row.depth + short(row.label) for row in figure.rows])
    axes.invert_yaxis()
    axes.set_xlabel(figure.value_title + (f" (tick: {figure.mark_title})" if figure.mark_title else ""))


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return share(value)
    if unit in ("logits", "nats"):
        return f"{value:+.2f}"
    return f"{value:,}" if value == int(value) else f"{value:.3g}"


def stack(figure: kinds.Stack, canvas: Canvas) -> None:
    """Divide each row into shares, labelled with the counts."""
    canvas.set_size_inches(WIDTH, 1.2 + 0.25 * len(figure.rows))
    axes = canvas.subplots()
    places = list(range(len(figure.rows)))
    totals = [sum(row.counts) or 1 for row in figure.rows]  # an empty row is divided by 1
    start = [0.0] * len(figure.rows)
    for index, key in enumerate(figure.keys):
        parts = [row.counts[index] / total for row, total in zip(figure.rows, totals, strict=True)]
        drawn = axes.barh(
            places,
            parts,
            left=start,
            color=LINES_LIGHT[index % len(LINES_LIGHT)],
            label=key,
            edgecolor="white",
            height=0.75,
        )
        counts = [str(row.counts[index] or "") for row in figure.rows]
        axes.bar_label(drawn, counts, label_type="center", color="white", fontsize=7)
        start = [left + part for left, part in zip(start, parts, strict=True)]
    names = [f"{short(row.label)} ({total:,})" for row, total in zip(figure.rows, totals, strict=True)]
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the followed tokens")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def funnel(figure: kinds.Funnel, canvas: Canvas) -> None:
    """Draw one panel for each chain."""
    most = max(len(chain.stages) + len(chain.fates) for chain in figure.chains)
    canvas.set_size_inches(max(WIDTH, 2.6 * len(figure.chains)), 1.0 + 0.24 * most)
    vocabulary = max(stage.before for chain in figure.chains for stage in chain.stages)
    axes = canvas.subplots(1, len(figure.chains), squeeze=False, sharex=True)[0]
    for chain, ax in zip(figure.chains, axes, strict=True):
        _chain(chain, ax)
        ax.set_xlim(1, max(vocabulary, 2))
        ax.set_ylim(most - 0.4, -0.8)


def _chain(chain: kinds.FunnelChain, axes: Any) -> None:
    """Draw stages as bars from 1 to the tokens left, with the cut part hatched; then the followed tokens."""
    for place, stage in enumerate(chain.stages):
        if stage.active:
            axes.barh(
                place, stage.before, height=0.3, color="white", edgecolor=GONE, hatch="//////", linewidth=0.4
            )
            axes.barh(place, stage.after, height=0.3, color=LINES_LIGHT[0])
        cut = f"{stage.before:,} → {stage.after:,} (-{share(float(stage.pruned or 0))})"
        told = "off" if not stage.active else cut if stage.after < stage.before else f"{stage.after:,} kept"
        _say(axes, place - 0.33, stage.label, told, INK if stage.active else GONE)
    for place, fate in enumerate(chain.fates, start=len(chain.stages)):
        gone = fate.after is None
        told = fate.cut.split(",")[0].split(" (")[0] if gone else f"p {float(fate.after or 0):.2g}"
        _say(axes, place, f"{fate.rank or ''}. {short(fate.token)}", told, GONE if gone else LINES_LIGHT[0])
    axes.set_title(chain.name, loc="left", fontsize=8)
    axes.set_xscale("log")
    count_ticks(axes.xaxis)
    axes.set_yticks([])
    axes.set_xlabel("tokens")
    axes.spines["left"].set_visible(False)


def _say(axes: Any, height: float, left: str, right: str, colour: str) -> None:
    at = axes.get_yaxis_transform()
    axes.text(0, height, left, transform=at, fontsize=6.5, color=colour, va="center")
    axes.text(1, height, right, transform=at, fontsize=6.5, color=colour, va="center", ha="right")

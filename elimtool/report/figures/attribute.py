"""Draw an attribution: spans by method as a heat map, bars of one method, a list of methods."""

from __future__ import annotations

from elimtool.report.attribute.rows import Attributed, Method, attributed
from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Bar, Bars, Figure, Heat, Listing
from elimtool.report.figures.words import label, quoted
from elimtool.report.numbers import share

MOST = 30
"""Rows of spans; of more spans the most preserving and the most eliminating ones are shown."""
NOTE = (
    "Above 0 the span preserves the token, below 0 it eliminates it: nats of its log-probability (or"
    " log-odds against the foils), for contextcite logits. Gradients are first-order guesses, the others ran"
    " the model without the span."
)


def attribution(probe: Probe, target: str | None = None) -> list[Figure]:
    """Make three figures for each target, or for one: spans by method, first method, cost and quality."""
    return [
        figure
        for one in attributed(probe)
        if target in (None, one.target)
        for figure in (_heat(one), _bars(one), _methods(one))
    ]


def _heat(one: Attributed) -> Heat:
    shown = one.extremes(MOST)
    left = len(one.spans) - len(shown)
    more = f" {left:,} spans between the extremes are left out." if left else ""
    return Heat(
        name="attribution",
        title=f"Which part of the prompt did it: {quoted(one.target)}",
        note=NOTE + more,
        row_title="span",
        column_title="method",
        rows=[label(one.spans[at]) for at in shown],
        columns=[method.name for method in one.methods],
        values=[[method.scores[at] for method in one.methods] for at in shown],
        unit="shift",
        value_title=" or ".join(dict.fromkeys(method.unit for method in one.methods)),
    )


def _bars(one: Attributed) -> Bars:
    method = one.methods[0]
    return Bars(
        name="attribution_scores",
        title=f"{quoted(one.target)} by {method.name}",
        note="Where methods disagree in sign or first place, it is said beside the bar.",
        label_title="span",
        value_title=method.unit,
        bars=[
            Bar(
                label(one.spans[at]),
                method.scores[at],
                f"methods differ: {one.disagrees[at]}" if one.disagrees[at] else "",
            )
            for at in one.extremes(MOST)
        ],
    )


def _methods(one: Attributed) -> Listing:
    columns = {
        "passes": "n_forward_passes",
        "backward": "n_backward_passes",
        "tokens": "tokens_processed",
        "without its first": "top_k",
        "drop (nats)": "top_k_drop",
    }
    return Listing(
        name="attribution_methods",
        title=f"What the methods cost and are worth: {quoted(one.target)}",
        note="Fidelity is the surrogate's rank correlation on ablations left out of its fit; the drop is"
        " that of the token without the spans that the method ranks first.",
        columns=["method", "first span", *columns, "quality"],
        rows=[
            [
                method.name,
                label(method.facts["top_span"]),
                *(method.facts[name] for name in columns.values()),
                _quality(method),
            ]
            for method in one.methods
        ],
    )


def _quality(method: Method) -> str:
    facts = method.facts
    if facts["completeness_error"] is not None:
        return f"completeness error {share(facts['completeness_error'])}"
    return "" if facts["fidelity"] is None else f"fidelity {facts['fidelity']:.2f}, r2 {facts['r2']:.2f}"

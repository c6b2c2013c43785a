"""Tell what an audit found: the difference at the end, the layers that have it, the stages that cut."""

from __future__ import annotations

from collections.abc import Iterator

from elimtool.analysis.populations.audit.outcomes import RAW_LENS
from elimtool.files.rows import Row, Rows
from elimtool.report.numbers import share
from elimtool.report.populations.audit.found import ALPHA, SENTENCE, Contrast

MOST_OUTCOMES = 2
SCORED = {
    "suffix": "what both sentences end with",
    "word": "the words in which the sentences differ",
    "lm-eval": "the whole sentence",
}
"""Rule -> what it scores."""


def told(one: Contrast) -> Iterator[str]:
    """Tell one contrast, a paragraph for the end, the layers, each chain and the verdicts."""
    if one.final is not None:
        said = f"{_final(one, one.final)} {_layers(one)}".strip()
        yield said[:1].upper() + said[1:]
    for row in one.of("confirmatory", "survives"):
        yield _chain(one, row)
    if attention := _attention(one):
        yield attention
    if verdicts := _verdicts(one):
        yield verdicts


def _final(one: Contrast, row: Row) -> str:
    a, b = one.side(row, "a"), one.side(row, "b")
    units = _units(row)
    interval = _interval(row, 2)
    if not is_certain(row):
        power = f"; {row['detectable']:.1f} would probably have been" if row["detectable"] else ""
        said = f"{row['difference']:+.2f} nats{interval} between {a} and {b}"
        if row["p_value"] is None:
            return f"{what(row)}: {said} ({units}); with fewer than 6 templates there is no p-value."
        if row["p_value"] <= ALPHA:
            return f"{what(row)}: {said} ({units}; {p_words(row)}): not certain beside the other tests."
        return f"No difference found for {what(row)}: {said} ({units}){power}."
    more, less = (a, b) if row["difference"] > 0 else (b, a)
    whole = row["metric"] in (f"{SENTENCE}word", f"{SENTENCE}lm-eval")
    where = "for" if whole or (row["target"] is None and row["n_fillers"] is not None) else "after"
    size = f"{abs(row['difference']):.2f} nats{_interval(row, 2, row['difference'] < 0)}"
    return f"{what(row)} is {size} likelier {where} {more} than {where} {less} ({units}; {p_words(row)})."


def what(row: Row) -> str:
    """Name what an outcome is of."""
    if row["metric"].startswith(SENTENCE):
        return SCORED[row["metric"].removeprefix(SENTENCE)]
    own = "each template's own target" if row["n_fillers"] is None else "the group's strings"
    target = own if row["target"] is None else f"'{row['target']}'"
    against = f" against '{row['foil']}'" if row["foil"] is not None else ""
    return f"{target}{against}"


def _layers(one: Contrast) -> str:
    """Say in which layers the gap is there."""
    assert one.final is not None
    metric = next((name for name in ("lens.logit", "lens.logprob") if name in one.layered), None)
    if metric is None:
        return ""
    if any(RAW_LENS in row["flags"] for row in one.by_layer(metric)):
        return (
            "Before the last layer nothing is claimed: the raw lens does not support it (elimtool lens fit)."
        )
    rows = one.skewed(metric)
    which = (
        "a gap in the first token after the words that differ"
        if one.final["metric"].startswith(SENTENCE)
        else "a gap"
    )
    if not rows:
        return f"In no run of layers is {which} certain."
    first = rows[0]
    gap = which.replace("a", "The", 1)
    onset = "" if first["onset_low"] is None else f" (90 % of draws of templates: {_onset(first)})"
    if len(rows) == 1 and first["reaches_output"]:
        return f"{gap} is there from {_layer(first['first_layer'])} on{onset}."
    return f"{gap} is there in layers {_ranges(rows)}{onset}."


def _attention(one: Contrast) -> str:
    rows = one.by_layer("attention.lift_no_sink")
    if not rows:
        return ""
    runs = one.skewed("attention.lift_no_sink")
    if not runs:
        return "Attention to the group's word differs in no run of layers."
    inside = [
        row for row in rows if any(run["first_layer"] <= row["layer"] <= run["last_layer"] for run in runs)
    ]
    most = max(inside, key=lambda row: abs(row["difference"]))
    return (
        f"Attention to the group's word differs in layers {_ranges(runs)}: at layer {most['layer']} it is"
        f" {most['mean_a']:.2f} times an even spread for {one.side(most, 'a')}, {most['mean_b']:.2f} for"
        f" {one.side(most, 'b')}."
    )


def _chain(one: Contrast, row: Row) -> str:
    """Say in how many records a chain keeps the target, and which stages make the difference."""
    a, b = one.side(row, "a"), one.side(row, "b")
    shares = f"{share(row['mean_a'])} for {a}, {share(row['mean_b'])} for {b}"
    kept = f"{row['chain']} keeps {_target(row)} in {shares}"
    if row["difference"] == 0 and {"floor", "ceiling"} & set(row["flags"]):
        return f"{row['chain']} keeps {_target(row)} in {'all' if row['mean_a'] else 'no'} records of both."
    between = f" ({_points(row)}; {p_words(row)})"
    stages = [one_ for one_ in one.of("stages", "stage_share") if one_["chain"] == row["chain"]]
    stages.sort(key=lambda stage: -abs(stage["difference"]))
    parts = ", ".join(f"{100 * stage['difference']:+.0f} by {stage['stage']}" for stage in stages[:3])
    why = f": {parts}" if is_certain(row) and stages else ""
    doubt = (
        "; no difference found" if (row["p_value"] or 1) > ALPHA else "; not certain beside the other tests"
    )
    end = "" if is_certain(row) or row["p_value"] is None else doubt
    return f"{kept}{between}{why}{end}."


def _verdicts(one: Contrast) -> str:
    rows = [row for row in one.of("other") if row["metric"].startswith("outcome.") and is_certain(row)]
    rows.sort(key=lambda row: -abs(row["difference"]))
    if not rows:
        return ""
    said = [
        f"{row['metric'].removeprefix('outcome.').replace('_', ' ')} in {share(row['mean_a'])} for"
        f" {one.side(row, 'a')}, {share(row['mean_b'])} for {one.side(row, 'b')}"
        for row in rows[:MOST_OUTCOMES]
    ]
    return f"Verdicts: {'; '.join(said)}."


def of_pairs(rows: Rows) -> Iterator[str]:
    """Tell how often the stereotypical sentence is the likelier one, by each rule, and ICAT if there is one.

    Args:
        rows: Rows of ``audit_pairs``.
    """
    whole = [row for row in rows if row["category"] is None]
    said = [
        f"in {share(row['stereotype_share'])} of {counted(row['n_pairs'], 'pair')} by {SCORED[row['rule']]}"
        f" ({row['rule']}; {share(row['ci_low'])} to {share(row['ci_high'])}, p {row['p_value']:.2g})"
        for row in whole
    ]
    if said:
        yield f"The stereotypical sentence is the likelier one {'; '.join(said)}. A coin gives 50%."
    scores = [
        f"{row['icat']:.1f} by {row['rule']} (stereotype score {row['ss']:.1f}, ideal 50; language modelling"
        f" {row['lms']:.1f})"
        for row in whole
        if row["icat"] is not None
    ]
    if scores:
        yield f"ICAT of StereoSet, 100 at best: {'; '.join(scores)}."


def is_certain(row: Row) -> bool:
    """Whether a difference is unlike 0 after correction for the tests of its family."""
    return row["p_adjusted"] is not None and row["p_adjusted"] <= ALPHA


def p_words(row: Row) -> str:
    """Write a p-value, as it is and after correction."""
    if row["p_value"] is None:
        return "no p-value"
    how = {"holm": "Holm", "bh": "BH"}[row["adjust"]]
    return f"p {row['p_value']:.2g}, {row['p_adjusted']:.2g} after {how}"


def _units(row: Row) -> str:
    words = "" if row["n_fillers"] is None else f", {counted(row['n_fillers'], 'pair')} of words"
    only = "; about these words only" if row["scope"] == "words" else ""
    return f"{counted(row['n_templates'], 'template')}{words}{only}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _interval(row: Row, digits: int, turned: bool = False) -> str:
    low, high = row["ci_low"], row["ci_high"]
    if low is None:
        return ""
    low, high = (-high, -low) if turned else (low, high)
    return f" ({low:.{digits}f} to {high:.{digits}f})"


def _points(row: Row) -> str:
    low, high = row["ci_low"], row["ci_high"]
    between = "" if low is None else f", {100 * low:.0f} to {100 * high:.0f}"
    return f"{100 * row['difference']:+.0f} points{between}"


def _target(row: Row) -> str:
    return "the target" if row["target"] is None else f"'{row['target']}'"


def _layer(layer: int) -> str:
    return "the embedding" if layer < 0 else f"layer {layer}"


def _onset(row: Row) -> str:
    low, high = row["onset_low"], row["onset_high"]
    return str(low) if low == high else f"{low} to {high}"


def _ranges(rows: Rows) -> str:
    parts = [
        str(row["first_layer"])
        if row["first_layer"] == row["last_layer"]
        else f"{row['first_layer']} to {row['last_layer']}"
        for row in rows
    ]
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]

"""Draw targets against foils at one position: the lead by layer, what makes it, and what parts the two."""

from __future__ import annotations

from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.figures.course import RAW_NOTE
from elimtool.report.figures.figure import Bars, Line, Lines, Listing, Mark
from elimtool.report.figures.parts import drawn
from elimtool.report.figures.words import SCREEN, label, quoted

LEAD_NOTE = (
    "Logit of the target minus that of the foil; above zero the target is ahead. Decision: first layer from"
    " which the sign is that of the output."
)
PARTS_NOTE = (
    "Direct logit attribution of the difference: right of zero favours the target, left of it the foil. It"
    " says what was written in that direction, not what caused it."
)


def contrast(probe: Probe) -> list[Lines]:
    """Plot how far each target is ahead of each foil after each layer."""
    rows = probe.rows("contrast_layers")
    layers = sorted({row["layer"] for row in rows})
    if not layers:
        return []
    leads: dict[tuple[str, str], dict[int, float | None]] = {}
    for row in rows:
        leads.setdefault((row["target"], row["foil"]), {})[row["layer"]] = row["difference"]
    judged = {(row["target"], row["foil"]): row for row in probe.rows("contrasts")}
    lines = [
        Line(name, [lead.get(layer) for layer in layers], marks=_decision(judged.get(pair)))
        for pair, lead in leads.items()
        for name in (f"{quoted(pair[0])} over {quoted(pair[1])}",)
    ]
    told = [LEAD_NOTE, *(_control(row) for row in judged.values())]
    told += [RAW_NOTE] if probe.lens == "raw" else []
    return [
        Lines(
            name="contrast",
            title=f"Targets against foils by layer, lens {probe.lens}",
            note=" ".join(filter(None, told)),
            layers=layers,
            lines=lines,
            unit="nats",
        )
    ]


def _decision(row: Row | None) -> tuple[Mark, ...]:
    layer = row["decision_layer"] if row else None
    return () if layer is None else (Mark("decision", layer),)


def _control(row: Row) -> str:
    """Say how many control pairs have settled by the decision layer."""
    if not row["n_controls"] or row["decision_layer"] is None:
        return ""
    pair = f"{quoted(row['target'])} and {quoted(row['foil'])} settle at layer {row['decision_layer']}"
    return (
        f"{pair}; by then so have {row['n_controls_settled']:,} of {row['n_controls']:,} pairs of tokens as"
        " frequent."
    )


def contrast_components(probe: Probe, target: str | None = None, foil: str | None = None) -> list[Bars]:
    """Draw the heads and MLPs that set each target (or one) apart from each foil (or one)."""
    columns = ("target", "foil", "component", "dla_difference")
    parts: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for name, other, component, value in zip(
        *probe.columns("contrast_components", columns).values(), strict=True
    ):
        if value is not None and target in (None, name) and foil in (None, other):
            parts.setdefault((name, other), []).append((component, value))
    return [
        drawn(
            "contrast_components",
            f"What wrote for {quoted(name)} rather than {quoted(other)}",
            PARTS_NOTE,
            "nats",
            some,
        )
        for (name, other), some in parts.items()
    ]


def contrast_stages(probe: Probe) -> list[Listing]:
    """List the stages that part a target from a foil; nothing where no chain does."""
    rows = probe.rows("contrast_stages")
    parting = [row for row in rows if row["stage"] is not None]
    if not parting:
        return []
    alike = len(rows) - len(parting)
    return [
        Listing(
            name="contrast_stages",
            title="Which sampler stage parts target and foil",
            note="The first stage that removes one of the two and keeps the other."
            + (f" In {alike} more cases a chain keeps both or removes both at one stage." if alike else ""),
            columns=["chain", "stage", "keeps", "removes", "margin of target", "of foil", "why"],
            rows=[_stage(row) for row in parting],
        )
    ]


def _stage(row: Row) -> list[str]:
    unit = f" {row['margin_unit']}" if row["margin_unit"] else ""
    margins = (row[f"{side}_margin"] for side in ("target", "foil"))
    gone = "foil" if row["kept"] == "target" else "target"
    return [
        label(row["chain"]),
        label(row["stage"]),
        quoted(row[row["kept"]]),
        quoted(row[gone]),
        *("none" if one is None else f"{one:+.3g}{unit}" for one in margins),
        SCREEN.visible(row["why"] or ""),
    ]

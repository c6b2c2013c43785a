"""Write how far each target is ahead of each foil, from which layer on, by what, and what parts them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from elimtool.analysis.closing import listed
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Probe
from elimtool.report.screen import Screen

MOST = 4
"""Pairs of a target and a foil that are told."""
NAMED = 3
"""Heads and MLPs that are named on either side."""
NAME = 24


def contrast_lines(probe: Probe, screen: Screen) -> list[Text]:
    """A few lines for each pair of a target and a foil; nothing without foils, but foils alone are told."""
    rows = probe.rows("contrasts")
    if not rows:
        alone = probe.prompt.get("foils") and not probe.prompt.get("targets")
        return screen.wrap("Foils are contrasted with targets, and no target was named.") if alone else []
    lines = screen.titled("Against foils", "logit difference, and its direct attribution to heads and MLPs")
    for row in rows[:MOST]:
        lines += screen.wrap(_lead(row, screen), hang=2)
        for said in (_parts(probe, row, screen), *_chains(probe, row, screen)):
            lines += screen.wrap(said, indent=2, hang=2) if said else []
    if len(rows) > MOST:
        lines.append(Text(f"{len(rows) - MOST:,} more pairs are not shown.", style="dim"))
    return lines


def _lead(row: Row, screen: Screen) -> str:
    target, foil = (screen.quoted(row[name], NAME) for name in ("target", "foil"))
    difference, layer = row["difference"], row["decision_layer"]
    if difference is None:
        return f"{target} and {foil}: one of their logits is infinite"
    if not difference:
        same = row["token_id"] == row["foil_token_id"]
        return f"{target} and {foil} are level" + (": one token stands for both" if same else "")
    first, second = (target, foil) if difference > 0 else (foil, target)
    said = f"{first} over {second} by {abs(difference):.1f} nats; ahead"
    said += f" from layer {layer} on" if layer else " after every layer"
    if row["n_controls"]:
        settled, known = row["n_controls_settled"], row["n_controls"]
        return f"{said} (by then {settled:,} of {known:,} pairs of tokens as frequent have settled)"
    return f"{said} (through the {row['lens']} lens, without control pairs)"


def _parts(probe: Probe, row: Row, screen: Screen) -> str:
    """Name the heads and MLPs with the largest parts of the difference on either side."""
    parts = [one for one in _of_pair(probe.rows("contrast_components"), row) if one["layer"] is not None]
    ordered = sorted(parts, key=lambda one: -float(one["dla_difference"]))
    sides = [
        (row["target"], [one for one in ordered[:NAMED] if one["dla_difference"] > 0]),
        (row["foil"], [one for one in ordered[::-1][:NAMED] if one["dla_difference"] < 0]),
    ]
    told = [f"for {screen.quoted(name, NAME)}: {_named(some)}" for name, some in sides if some]
    return "; ".join(told)


def _named(parts: Rows) -> str:
    return ", ".join(f"{one['component']} ({one['dla_difference']:+.1f})" for one in parts)


def _chains(probe: Probe, row: Row, screen: Screen) -> list[str]:
    """Say which stage parts the two, chain by chain; chains that treat them alike share a sentence."""
    rows = _of_pair(probe.rows("contrast_stages"), row)
    told = []
    for one in rows:
        if one["stage"] is not None:
            gone = screen.quoted(row["foil" if one["kept"] == "target" else "target"], NAME)
            stage = f"{screen.visible(one['stage'])} of {screen.visible(one['chain'])}"
            told.append(f"{stage} removes only {gone}: {one['why']}")
    alike = [one for one in rows if one["stage"] is None]
    for survives, does in ((True, "keep"), (False, "remove")):
        names = [screen.visible(one["chain"]) for one in alike if one["target_survives"] is survives]
        if names:
            told.append(f"{listed(names)} {does if len(names) > 1 else does + 's'} both")
    return told


def _of_pair(rows: Rows, pair: Row) -> Sequence[Row]:
    return [row for row in rows if (row["target"], row["foil"]) == (pair["target"], pair["foil"])]

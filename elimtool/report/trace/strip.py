"""Draw the strip: a prompt's tokens or spans with bars for their retention by band of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from elimtool.prompts.prompt import NULL, SINK
from elimtool.report.facts import Probe
from elimtool.report.numbers import HEAT, heat_step, mean, share, times
from elimtool.report.recovery import recovery_sentence
from elimtool.report.screen import Screen, isolated, padded
from elimtool.report.trace.heat import Band, SpanHeat, bands, span_heat
from elimtool.report.trace.spans import span_lines

MOST_BANDS = 5
BANDS_WHEN_WRAPPED = 3
LONGEST_TOKEN = 20


SINK_IS = "which draws attention whatever the text"
CARRIED = {"norm_share": "what the heads move", "contribution": "the stream behind attention"}
"""What shares of what a part carries are shares of, by column of ``attention``."""
BRIEF_SPANS = 4
"""Spans that are shown one by one where the strip is to be brief."""


@dataclass(frozen=True)
class Cell:
    """One token of the strip: its text, the gap before it, and its heat (None: it belongs to the sink)."""

    gap: int
    text: str
    heat: SpanHeat | None

    @property
    def width(self) -> int:
        """Width of the text, in cells."""
        return cell_len(self.text)


def strip(probe: Probe, screen: Screen) -> list[Text]:
    """Draw the strip, and say which layers have no attention; nothing where the run has none measured."""
    return [*_strip(probe, screen), *_without(probe, screen)]


def _strip(probe: Probe, screen: Screen) -> list[Text]:
    layers = bands(probe, MOST_BANDS)
    if not layers or not probe.rows("attention"):
        return []
    heats = span_heat(probe, layers)
    if not heats:
        return _only_sink(probe, screen)
    if any(heat.token is None for heat in heats):
        return _by_span(heats, layers, probe, screen)
    cells = _cells(probe, heats, screen)
    left = _left_width(layers)
    blocks = _blocks(cells, screen.width - left)
    if len(blocks) > 2:  # fewer bands keep a wrapped prompt on one screen
        layers = bands(probe, BANDS_WHEN_WRAPPED)
        heats = span_heat(probe, layers)
        cells = _cells(probe, heats, screen)
        blocks = _blocks(cells, screen.width - _left_width(layers))
    lines = _title(probe, screen)
    for number, block in enumerate(blocks):
        lines += _block(block, layers, screen, first=number == 0)
    return [*lines, *_extremes(heats, probe, screen), *_sink_note(cells, probe, screen)]


def brief_strip(probe: Probe, screen: Screen) -> list[Text]:
    """Draw the strip of a short prompt in few bands; of a long one, say what got most and least."""
    return [*_brief(probe, screen), *_without(probe, screen)]


def _without(probe: Probe, screen: Screen) -> list[Text]:
    said = probe.without_weights
    return screen.wrap(f"{said[0].upper()}{said[1:]}.", style="dim") if said else []


def _brief(probe: Probe, screen: Screen) -> list[Text]:
    layers = bands(probe, BANDS_WHEN_WRAPPED)
    if not layers or not probe.rows("attention"):
        return []
    heats = span_heat(probe, layers)
    if not heats:
        return _only_sink(probe, screen)
    if any(heat.token is None for heat in heats):
        if len(heats) <= BRIEF_SPANS:
            return _by_span(heats, layers, probe, screen)
        return [
            Text(_heading(probe, screen), style="bold"),
            *_extremes(heats, probe, screen),
            *_sink_share(layers, probe, screen),
        ]
    cells = _cells(probe, heats, screen)
    blocks = _blocks(cells, screen.width - _left_width(layers))
    if len(blocks) > 1:
        return [
            Text(_heading(probe, screen), style="bold"),
            *_extremes(heats, probe, screen),
            *_sink_share(layers, probe, screen),
        ]
    lines = [*_title(probe, screen), *_block(blocks[0], layers, screen, first=True)]
    return [*lines, *_sink_note(cells, probe, screen)]


def _by_span(heats: Sequence[SpanHeat], layers: Sequence[Band], probe: Probe, screen: Screen) -> list[Text]:
    said = screen.wrap(carries, style="dim") if (carries := _carries(probe)) else []
    return [*_title(probe, screen), *span_lines(heats, layers, screen), *said]


def _sink_share(layers: Sequence[Band], probe: Probe, screen: Screen) -> list[Text]:
    part = mean(band.sink_mass for band in layers)
    said = f"The sink, {SINK_IS}, takes {share(part)} and is set apart."
    return screen.wrap(" ".join(filter(None, (said, _carries(probe)))), style="dim")


def _carries(probe: Probe) -> str:
    """Say how much the sink carries beside its share of attention, means over layers; empty if unknown."""
    own = [row for row in probe.rows("attention") if row["span"] == SINK]
    said = [
        f"{share(known)} of {what}"
        for column, what in CARRIED.items()
        if (known := mean(row.get(column) for row in own)) is not None
    ]
    return f"The sink carries {' and '.join(said)}." if said else ""


def null_lines(probe: Probe, screen: Screen) -> list[Text]:
    """Say how much attention goes to no token, for a model with a learned score that has no key."""
    given = [row["mass"] for row in probe.rows("attention") if row["span"] == NULL]
    if not given:
        return []
    layers = "in 1 layer" if len(given) == 1 else f"in {len(given):,} layers"
    said = f"{share(mean(given))} of the attention {layers} went nowhere: to the model's learned null"
    return screen.wrap(f"{said}, which has no token ({NULL}).", style="dim")


def recovery_lines(probe: Probe, screen: Screen) -> list[Text]:
    """Say whether late layers read again what early layers starved, in prompts long enough for that."""
    told = filter(None, map(recovery_sentence, probe.rows("recovery")))
    return [line for said in told for line in screen.wrap(said, hang=2)]


def _title(probe: Probe, screen: Screen) -> list[Text]:
    """Title and legend of the bars."""
    low, even, high = screen.steps[0], screen.steps[3], screen.steps[7]
    line = Text(_heading(probe, screen), style="bold")
    legend = f"{low} under 0.25x, {even} even share, {high} over 5x"
    if line.cell_len + len(legend) + 4 <= screen.width:
        return [line.append(f"  ({legend})", style="not bold dim")]
    return [line, *screen.wrap(legend, style="dim")]


def _heading(probe: Probe, screen: Screen) -> str:
    return f"What {screen.quoted(probe.shown[probe.position], 16)} attends to, by layers"


def _only_sink(probe: Probe, screen: Screen) -> list[Text]:
    sink = screen.quoted(probe.shown[0], 20) if probe.tokens else "the first token"
    return screen.wrap(f"Attention: only the sink ({sink}) is visible, so there is nothing to share out.")


def _cells(probe: Probe, heats: Sequence[SpanHeat], screen: Screen) -> list[Cell]:
    """Cells of the tokens up to the probed one; a leading space becomes a gap, other white space is drawn."""
    by_token = {heat.token: heat for heat in heats}
    cells = []
    for index, token in enumerate(probe.shown[: probe.position + 1]):
        gap = int(token.startswith(" ") and len(token) > 1 and index > 0)
        core = token[gap:]
        inner = core.strip(" ")
        start = len(core) - len(core.lstrip(" "))
        drawn = screen.glyph("␣") * (start if inner else len(core))
        after = screen.glyph("␣") * (len(core) - len(core.rstrip(" ")) if inner else 0)
        text = drawn + screen.shorten(screen.visible(inner), LONGEST_TOKEN) + after
        cells.append(Cell(gap, isolated(text or "''"), by_token.get(index)))
    return cells


def _blocks(cells: Sequence[Cell], width: int) -> list[list[Cell]]:
    """Break the cells into lines of at most ``width``."""
    blocks: list[list[Cell]] = [[]]
    used = 0
    for cell in cells:
        if blocks[-1] and used + cell.gap + cell.width > width:
            blocks.append([])
            used = 0
        used += (cell.gap if blocks[-1] else 0) + cell.width
        blocks[-1].append(cell)
    return blocks


def _left_width(layers: Sequence[Band]) -> int:
    return max(cell_len("layers"), *(len(band.label) for band in layers)) + 2 + 6 + 2


def _block(block: Sequence[Cell], layers: Sequence[Band], screen: Screen, first: bool) -> list[Text]:
    left = _left_width(layers)
    head = padded("layers", left - 8) + padded("sink", 6, right=True) if first else ""
    line = Text(padded(head, left), style="dim")
    for index, cell in enumerate(block):
        line.append(" " * (cell.gap if index else 0))
        line.append(cell.text, style="not dim bold" if cell.heat else "dim")
    lines = [line]
    for number, band in enumerate(layers):
        sink = share(band.sink_mass) if first else ""
        row = Text(padded(band.label, left - 8) + padded(sink, 6, right=True) + "  ", style="")
        for index, cell in enumerate(block):
            row.append(" " * (cell.gap if index else 0))
            row.append_text(_bar(cell, number, screen))
        row.rstrip()
        lines.append(row)
    return lines


def _bar(cell: Cell, band: int, screen: Screen) -> Text:
    if cell.heat is None:
        return Text(" " * cell.width)
    lift = cell.heat.lifts[band]
    if lift is None:
        return Text(("?" if cell.heat.visible[band] else "x") * cell.width, style="dim")
    step = heat_step(lift)
    return Text(screen.steps[step] * cell.width, style=HEAT[step])


def _extremes(heats: Sequence[SpanHeat], probe: Probe, screen: Screen) -> list[Text]:
    """The tokens that got most and least attention over all layers, in words."""
    known = [(heat.overall, heat) for heat in heats if heat.overall is not None]
    if len(known) < 2:
        return []
    ordered = sorted(known, key=lambda pair: -pair[0])
    count = 1 if len(ordered) < 6 else 2
    most = ", ".join(f"{_named(heat, probe, screen)} {times(lift)}" for lift, heat in ordered[:count])
    least = ", ".join(f"{_named(heat, probe, screen)} {times(lift)}" for lift, heat in ordered[-count:])
    return screen.wrap(f"Most attention: {most} an even share; least: {least}.")


def _named(heat: SpanHeat, probe: Probe, screen: Screen) -> str:
    return screen.quoted(heat.name if heat.token is None else probe.shown[heat.token], 16)


def _sink_note(cells: Sequence[Cell], probe: Probe, screen: Screen) -> list[Text]:
    notes = []
    sinks = [index for index, cell in enumerate(cells) if cell.heat is None]
    if sinks:
        names = ", ".join(screen.quoted(probe.shown[index], 14) for index in sinks[:3])
        more = f" and {len(sinks) - 3:,} more" if len(sinks) > 3 else ""
        notes.append(f"Sink: {names}{more}, {SINK_IS}; its share is at the left.")
        notes += filter(None, [_carries(probe)])
    heats = [cell.heat for cell in cells if cell.heat]
    if len(heats) > 1:
        notes.append(f"Even: as if all {'other ' if sinks else ''}tokens got the same.")
    if any(not seen for heat in heats for seen in heat.visible):
        notes.append("x: outside the layers' window (masked, not eliminated).")
    if any(heat.unmeasured for heat in heats):
        notes.append("?: the sink takes all.")
    later = len(probe.shown) - probe.position - 1
    if later:
        notes.append(f"{later:,} later tokens are not seen from here.")
    return screen.wrap(" ".join(notes), style="dim") if notes else []

"""Shade a prompt's text: bars under each part show how much it helps or hurts a target."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.text import Text

from elimtool.prompts.prompt import SINK
from elimtool.report.attribute.rows import Attributed
from elimtool.report.facts import Probe
from elimtool.report.screen import Screen, padded

LEFT = 9
MOST_TOKENS = 160
"""Longer prompts only get the table."""
LEAST = 1 / 16
"""A score under this share of the largest is left blank."""


@dataclass(frozen=True)
class Piece:
    """One token: the gap before it, its text, and its part's score as a share of the largest score."""

    gap: int
    text: str
    share: float | None

    @property
    def width(self) -> int:
        """Width of gap and text, in cells."""
        return self.gap + cell_len(self.text)


def shading(probe: Probe, one: Attributed, screen: Screen) -> list[Text]:
    """Draw bars under the text, by the first method's scores; nothing for long prompts."""
    if probe.position + 1 > MOST_TOKENS:
        return []
    lines: list[Text] = []
    pieces = _pieces(probe, one, screen)
    block: list[Piece] = []
    used = 0
    for piece in pieces:
        if block and used + piece.width > screen.width - LEFT:
            lines += _block(block, screen)
            block, used = [], 0
        block.append(piece if block else replace(piece, gap=0))
        used += block[-1].width
    lines += _block(block, screen)
    largest = max((abs(score) for score in one.methods[0].scores), default=0.0)
    low, high = screen.steps[0], screen.steps[7]
    said = f"{one.methods[0].name}: {high} {largest:.2f} {one.methods[0].unit}, {low} an eighth of it"
    return [*lines, *screen.wrap(said, indent=LEFT, style="dim")]


def _pieces(probe: Probe, one: Attributed, screen: Screen) -> list[Piece]:
    scores = dict(zip(one.spans, one.methods[0].scores, strict=True))
    largest = max((abs(score) for score in scores.values()), default=0.0) or 1.0
    sinks: set[int] = set()
    part: dict[int, float] = {}
    for span in probe.prompt["spans"] or []:
        if span["span"] == SINK:
            sinks |= set(span["tokens"])
        elif span["span"] in scores:
            part |= dict.fromkeys(span["tokens"], scores[span["span"]] / largest)
    found = []
    for at, token in enumerate(probe.shown[: probe.position + 1]):
        gap = int(token.startswith(" ") and len(token) > 1 and at > 0)
        ablated = at not in sinks and at < probe.position
        found.append(Piece(gap, screen.spaced(token[gap:]) or "''", part.get(at) if ablated else None))
    return found


def _block(pieces: list[Piece], screen: Screen) -> list[Text]:
    """A line of text, and under it bars for and against the target where there are any."""
    text = Text(padded("", LEFT), overflow="crop", no_wrap=True)
    for piece in pieces:
        style = "dim" if piece.share is None else "green" if piece.share > LEAST else ""
        text.append(" " * piece.gap)
        text.append(piece.text, style="red" if piece.share is not None and piece.share < -LEAST else style)
    lines = [text]
    for name, sign, style in (("for", 1, "green"), ("against", -1, "red")):
        shares = [(piece.share or 0.0) * sign for piece in pieces]
        if max(shares) <= LEAST:
            continue
        line = Text(padded(name, LEFT), style="dim")
        for index, (piece, share) in enumerate(zip(pieces, shares, strict=True)):
            # neighbours of one part (equal shares) get one unbroken bar, over the gap between them too
            step = screen.steps[max(0, min(7, round(share * 8) - 1))] if share > LEAST else " "
            joined = index > 0 and share > LEAST and shares[index - 1] == share
            line.append(
                (step if joined else " ") * piece.gap + step * cell_len(piece.text), style=f"not dim {style}"
            )
        lines.append(line)
    return lines

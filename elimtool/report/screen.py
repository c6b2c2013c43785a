"""Fit text to a terminal: escape what is invisible or cannot be encoded, quote, shorten, pad and wrap."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from elimtool.report.visible import END_ISOLATE, ISOLATE, JOINERS, VARIATIONS, escaped, misleads

LEAST_WIDTH = 40
"""Least number of columns that a story is laid out for, even on a narrower terminal."""

MOST_PROMPTS = 20
"""Prompts of a run that a story shows one by one."""

GLYPHS = "▁▂▃▄▅▆▇█→←…↵␣─◌"
"""Characters that stories draw with; an encoding that lacks one of them gets plain ASCII."""

PLAIN_GLYPHS = {"→": "->", "←": "<-", "…": "...", "↵": "\\n", "␣": "_", "─": "-", "◌": ""}

STEPS = "▁▂▃▄▅▆▇█"
PLAIN_STEPS = "12345678"

UNBROKEN = re.compile(r"\(?p = \S+|\(?' +\S+|\S+")
"""Words that ``wrap`` never breaks: ``p = 0.5``, and a quoted token with its leading space."""


@dataclass(frozen=True)
class Screen:
    """The terminal that a story is laid out for.

    Attributes:
        width: Columns.
        encoding: Encoding of its stream; a name that Python does not know counts as ASCII.
    """

    width: int = 80
    encoding: str = "utf-8"

    @staticmethod
    def of(width: int, encoding: str) -> Screen:
        """Make the screen of a terminal; one narrower than ``LEAST_WIDTH`` counts as that wide."""
        return Screen(max(width, LEAST_WIDTH), encoding)

    @cached_property
    def rich_glyphs(self) -> bool:
        """Whether block characters and arrows can be written."""
        return self._can_write(GLYPHS)

    @property
    def steps(self) -> str:
        """Eight characters from low to high, readable without colour."""
        return STEPS if self.rich_glyphs else PLAIN_STEPS

    def glyph(self, wanted: str) -> str:
        """One of ``GLYPHS``, or its replacement in ASCII."""
        return wanted if self.rich_glyphs else PLAIN_GLYPHS[wanted]

    def visible(self, text: str) -> str:
        """Escape control, format and unencodable characters, and draw newlines.

        Joiners between letters stay, as scripts need them; a combining mark without a base gets one.
        """
        return "".join(self._shown(text, index) for index in range(len(text)))

    def spaced(self, text: str) -> str:
        """Make the text visible, runs of spaces and a space at its end too."""
        return self.visible(re.sub(r"  +| $", lambda run: self.glyph("␣") * len(run.group()), text))

    def quoted(self, text: str, width: int | None = None) -> str:
        """Put a token in quotes, so that its spaces show, in at most ``width`` cells."""
        shown = self.spaced(text)
        if width is not None:
            shown = self.shorten(shown, max(width - 2, 1))
        return isolated(f"'{shown}'")

    def wrap(self, text: str, indent: int = 0, style: str = "", hang: int = 0) -> list[Text]:
        """Break a sentence into lines of the screen's width, all but the first indented by ``hang`` more."""
        lines: list[str] = []
        line = " " * indent
        empty = True
        for word in UNBROKEN.findall(text):
            if not empty and cell_len(line) + 1 + cell_len(word) > self.width:
                lines.append(line)
                line, empty = " " * (indent + hang), True
            line += word if empty else f" {word}"
            empty = False
        return [Text(one, style=style, overflow="fold") for one in [*lines, line]]

    def titled(self, title: str, legend: str, hang: int = 0) -> list[Text]:
        """Write a bold title and a dim legend in brackets, wrapped like a sentence."""
        lines = self.wrap(f"{title} ({legend})", style="dim", hang=hang)
        lines[0].highlight_words([title], style="not dim bold")
        return lines

    def shorten(self, text: str, width: int) -> str:
        """Cut a visible text in the middle, to at most ``width`` cells."""
        if cell_len(text) <= width:
            return text
        dots = self.glyph("…")
        room = width - len(dots)
        if room < 2:  # no cell for both ends
            return _head(text, max(width, 0))
        tail = _head(text[::-1], room // 2)[::-1]
        return _head(text, room - cell_len(tail)) + dots + tail

    def rule(self, title: str) -> Text:
        """Draw a line across the screen with a title near its left end."""
        line = self.glyph("─")
        title = self.shorten(title, max(self.width - 4, 1))
        rest = max(self.width - cell_len(title) - 4, 0)
        return Text(f"{line * 2} {title} {line * rest}", style="bold")

    def _can_write(self, text: str) -> bool:
        try:
            text.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return text.isascii()  # an unknown encoding is taken to hold ASCII at least
        return True

    def _shown(self, text: str, index: int) -> str:
        char = text[index]
        if " " <= char <= "~":
            return char
        if char == "\n":
            return self.glyph("↵")
        if char in JOINERS and not misleads(text, index):
            return char if self._can_write(char) else escaped(char)
        if char in VARIATIONS and index:  # terminals disagree on the width of what it selects
            return ""
        kind = unicodedata.category(char)
        if kind[0] in "CZ" or not self._can_write(char):
            return escaped(char)
        # a mark without a base would be drawn onto the quote or the space before it
        return f"{self.glyph('◌')}{char}" if kind[0] == "M" and not index else char


def spaced(sections: Iterable[Sequence[RenderableType]]) -> list[RenderableType]:
    """Join sections of lines with a blank line between them; empty ones are left out."""
    lines: list[RenderableType] = []
    for section in filter(None, sections):
        lines += [Text(""), *section] if lines else section
    return lines


def isolated(text: str) -> str:
    """Isolate a text that holds right-to-left letters from the direction of its line."""
    directions = {unicodedata.bidirectional(char) for char in text}
    return f"{ISOLATE}{text}{END_ISOLATE}" if directions & {"R", "AL", "AN"} else text


def padded(text: str, width: int, right: bool = False) -> str:
    """Fill the text with spaces to ``width`` cells, after it or, with ``right``, before it."""
    fill = " " * (width - cell_len(text))
    return fill + text if right else text + fill


def _head(text: str, width: int) -> str:
    """The first characters that fit into ``width`` cells."""
    taken = 0
    for index, char in enumerate(text):
        taken += cell_len(char)
        if taken > width:
            return text[:index]
    return text

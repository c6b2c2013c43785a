"""What a terminal can show: text in, the same text made visible, quoted, shortened and padded to cells."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len
from rich.text import Text

LEAST_WIDTH = 40
"""Columns that a story is laid out for where the terminal has fewer."""

MOST_PROMPTS = 20
"""Prompts of a run that are told one by one."""

GLYPHS = "▁▂▃▄▅▆▇█→…↵␣─◌"
"""Characters of our own; an encoding that lacks one of them gets plain ASCII."""

PLAIN_GLYPHS = {"→": "->", "…": "...", "↵": "\\n", "␣": "_", "─": "-", "◌": ""}

STEPS = "▁▂▃▄▅▆▇█"
PLAIN_STEPS = "12345678"

ISOLATE, END_ISOLATE = "\u2068", "\u2069"
UNBROKEN = re.compile(r"\(?p = \S+|\(?' +\S+|\S+")
"""What stays on one line: ``p = 0.5``, and a quoted token with the space that it begins with."""

JOINERS = "\u200c\u200d"
VARIATIONS = "\ufe0e\ufe0f"


@dataclass(frozen=True)
class Screen:
    """The terminal that a story is laid out for.

    Attributes:
        width: Columns.
        encoding: Encoding of its stream; a name that Python does not know counts as ASCII.
    """

    width: int = 80
    encoding: str = "utf-8"

    @cached_property
    def rich_glyphs(self) -> bool:
        """Whether block characters and arrows can be written."""
        return self._can_write(GLYPHS)

    @property
    def steps(self) -> str:
        """Eight characters from low to high that read without colour."""
        return STEPS if self.rich_glyphs else PLAIN_STEPS

    def glyph(self, wanted: str) -> str:
        """One of ``GLYPHS``, or what stands for it in ASCII."""
        return wanted if self.rich_glyphs else PLAIN_GLYPHS[wanted]

    def visible(self, text: str) -> str:
        """The text with nothing hidden: control, format and unencodable characters escaped, newlines drawn.

        Joiners between letters stay, as scripts need them; a combining mark without a base gets one.
        """
        return "".join(self._shown(text, index) for index in range(len(text)))

    def spaced(self, text: str) -> str:
        """The text made visible, runs of spaces and a space at its end too."""
        return self.visible(re.sub(r"  +| $", lambda run: self.glyph("␣") * len(run.group()), text))

    def quoted(self, text: str, width: int | None = None) -> str:
        """A token in quotes, so that its spaces show, in at most ``width`` cells."""
        shown = self.spaced(text)
        if width is not None:
            shown = self.shorten(shown, max(width - 2, 1))
        return isolated(f"'{shown}'")

    def wrap(self, text: str, indent: int = 0, style: str = "", hang: int = 0) -> list[Text]:
        """A sentence in lines of the screen's width, all but the first indented by ``hang`` more."""
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

    def shorten(self, text: str, width: int) -> str:
        """At most ``width`` cells of a text made visible before, cut in the middle."""
        if cell_len(text) <= width:
            return text
        dots = self.glyph("…")
        room = width - len(dots)
        if room < 2:
            return _head(text, max(width, 0))
        tail = _head(text[::-1], room // 2)[::-1]
        return _head(text, room - cell_len(tail)) + dots + tail

    def rule(self, title: str) -> Text:
        """A line across the screen with a title near its left end."""
        line = self.glyph("─")
        title = self.shorten(title, max(self.width - 4, 1))
        rest = max(self.width - cell_len(title) - 4, 0)
        return Text(f"{line * 2} {title} {line * rest}", style="bold")

    def _can_write(self, text: str) -> bool:
        try:
            text.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return text.isascii()
        return True

    def _shown(self, text: str, index: int) -> str:
        char = text[index]
        if " " <= char <= "~":
            return char
        if char == "\n":
            return self.glyph("↵")
        if char in JOINERS and _between_letters(text, index):
            return char if self._can_write(char) else _escaped(char)
        if char in VARIATIONS and index:
            return ""
        kind = unicodedata.category(char)
        if kind[0] in "CZ" or not self._can_write(char):
            return _escaped(char)
        return f"{self.glyph('◌')}{char}" if kind[0] == "M" and not index else char


def isolated(text: str) -> str:
    """The text, set apart from its line where it holds right-to-left letters."""
    directions = {unicodedata.bidirectional(char) for char in text}
    return f"{ISOLATE}{text}{END_ISOLATE}" if directions & {"R", "AL", "AN"} else text


def padded(text: str, width: int, right: bool = False) -> str:
    """The text filled with spaces to ``width`` cells, at its right end or, with ``right``, its left."""
    fill = " " * (width - cell_len(text))
    return fill + text if right else text + fill


def _between_letters(text: str, index: int) -> bool:
    around = text[index - 1 : index] + text[index + 1 : index + 2]
    return len(around) == 2 and all(unicodedata.category(char)[0] in "LM" for char in around)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _head(text: str, width: int) -> str:
    """As many characters from the start as fit into ``width`` cells."""
    taken = 0
    for index, char in enumerate(text):
        taken += cell_len(char)
        if taken > width:
            return text[:index]
    return text

"""Make text safe for a terminal and for the logs of CI: whatever it holds, it shows and does nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

ISOLATE, END_ISOLATE = "\u2068", "\u2069"
"""What ``isolated`` puts around right-to-left text; the only format characters that lines of ours hold."""

ISOLATES = ISOLATE + END_ISOLATE

JOINERS = "\u200c\u200d"
VARIATIONS = "\ufe0e\ufe0f"

_COMMAND = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_OLD_COMMAND = re.compile(r"#(?=#\[)")


def escaped(char: str) -> str:
    """Write a character as Python does in a literal, as an escape sequence."""
    return char.encode("unicode_escape").decode("ascii")


def misleads(text: str, index: int) -> bool:
    """Tell whether a character does something instead of showing: control, format, line and lone surrogates.

    Joiners between letters do not, as scripts need them.
    """
    char = text[index]
    if char in JOINERS:
        around = text[index - 1 : index] + text[index + 1 : index + 2]
        return len(around) != 2 or any(unicodedata.category(one)[0] not in "LM" for one in around)
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def safe(text: str) -> str:
    """Make lines safe to print: ``shown``, and no line begins as a command of a CI.

    Pairs of isolates stay, which cannot reach beyond themselves.
    """
    paired = _pairs(text)
    return without_commands(
        "".join(_kept_or_escaped(text, index, index in paired) for index in range(len(text)))
    )


def shown(text: str) -> str:
    """Escape every character that does something, but line breaks, tabs and isolates.

    For parts of lines of which the isolates may be in different parts.
    """
    return "".join(_kept_or_escaped(text, index, text[index] in ISOLATES) for index in range(len(text)))


def without_commands(text: str) -> str:
    """Escape what a CI would take for a command: ``::error::`` at the beginning of a line, ``##[error]``.

    Source: GitHub's page "Workflow commands for GitHub Actions".
    """
    return _OLD_COMMAND.sub(r"\\x23", _COMMAND.sub(r"\1\\x3a", text))


def _kept_or_escaped(text: str, index: int, keep: bool) -> str:
    char = text[index]
    return (
        char if keep or " " <= char <= "~" or char in "\n\t" or not misleads(text, index) else escaped(char)
    )


def writable(encoding: str) -> Callable[[str], str]:
    """Make the function that escapes what an encoding cannot write; an unknown one takes ASCII."""

    def written(text: str) -> str:
        try:
            return text.encode(encoding, "backslashreplace").decode(encoding)
        except LookupError:
            return text.encode("ascii", "backslashreplace").decode()

    return written


def _pairs(text: str) -> set[int]:
    """Find the isolates that end on their line."""
    found: set[int] = set()
    opened: int | None = None
    for index, char in enumerate(text):
        if char == ISOLATE:
            opened = index if opened is None else opened
        elif char == END_ISOLATE and opened is not None:
            found |= {opened, index}
            opened = None
        elif char == "\n":
            opened = None
    return found

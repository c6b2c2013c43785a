"""Find fonts for texts of any script, and write characters that none of them has by their code points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, TypeVar

FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Hiragino Sans GB",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Nirmala UI",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Emoji",
)
"""Fonts, where they are installed, for scripts that matplotlib's own lacks."""
SPELLED = "Characters that no installed font has are written as U+ and their code point."

T = TypeVar("T")


@cache
def families() -> tuple[str, ...]:
    """List the fonts to draw with, in the order in which they are asked for a character."""
    from matplotlib.font_manager import fontManager

    known = {font.name for font in fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in FALLBACKS if name in known))


@cache
def _drawn() -> frozenset[int]:
    """Code points for which a font has a glyph."""
    from matplotlib.font_manager import findfont, get_font

    fonts = [get_font(findfont(name)) for name in families()]
    return frozenset(code for font in fonts for code in font.get_charmap())


def spelled(value: T) -> T:
    """Write the characters without a glyph by their code points in a text, or in all texts of a figure."""
    made: Any = value
    if isinstance(value, str):
        made = "".join(one if ord(one) in _drawn() or one.isspace() else f"U+{ord(one):04X}" for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        given = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
        made = replace(value, **spelled(given))
    elif isinstance(value, Mapping):
        made = {key: spelled(one) for key, one in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(spelled(one) for one in value)
    return made  # type: ignore[no-any-return]

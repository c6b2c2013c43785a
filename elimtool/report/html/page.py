"""Write the report of a run or comparison as one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from elimtool.files.destination import write_file
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures import palette
from elimtool.report.html import compare, payload
from elimtool.report.visible import escaped
from elimtool.run.comparison import Comparison
from elimtool.run.reader import Run

SCRIPTS = (
    "elements.js",
    "formats.js",
    "numbers.js",
    "grids.js",
    "lines.js",
    "control.js",
    "bars.js",
    "funnel.js",
    "figures.js",
    "list.js",
    "page.js",
    "theme.js",
    "start.js",
    "report.js",
)
"""Parts of the page's script, in order."""
_DIRECTIONS = re.compile("[\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Characters of the Basic Multilingual Plane that do something where the page's source is looked at."""

UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""What could end a script element, or a line of script, inside a JSON text."""


def page(run: Run | Comparison, *, most: int | None = None) -> str:
    """Write the whole page.

    Args:
        run: A run or a comparison.
        most: Largest number of prompts or pairs to show; None for all.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    return "".join(parts(run, most=most))


def parts(run: Run | Comparison, *, most: int | None = None) -> Iterator[str]:
    """Yield the page in pieces, one for the data of each prompt; the first ones are enough to draw it."""
    if isinstance(run, Comparison):
        first, rest = compare.front(run, most), compare.details(run, most)
    else:
        tables = Tables(run.under(None))
        first, rest = payload.front(tables, most), payload.details(tables, most)
    yield from filled(first, rest)


def filled(first: Row, rest: Iterable[Row]) -> Iterator[str]:
    """Fill the page with what it shows first, and with the data of each prompt."""
    style = colours() + read_asset("page.css")
    script = "\n".join(read_asset(name) for name in SCRIPTS)
    title = escape(f"elimtool: {first['run']['model']}")
    # hashes instead of unsafe-inline: a script that slipped in through a text would not run
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none';"
        " form-action 'none'"
    )
    # split before anything is filled in: texts of the run may hold the placeholders themselves
    head, body = framed("page.html").split("{{data}}")
    head = head.replace("{{title}}", title).replace("{{policy}}", policy).replace("{{style}}", style)
    yield head
    yield _data("front", first)
    before, after = body.split("{{details}}")
    yield before.replace("{{script}}", script)
    for number, one in enumerate(rest):
        yield _data(f"prompt-{number}", one)
    yield after


def write_page(run: Run | Comparison, path: str | Path, overwrite: bool = False) -> int:
    """Write the page to a file, complete or not at all.

    Returns:
        Its size in bytes.

    Raises:
        ElimError: A table cannot be read; the file is there and not to be replaced, or cannot be written.
    """
    content = page(run).encode()
    write_file(Path(path), content, overwrite)
    return len(content)


def _data(name: str, value: Any) -> str:
    return f'<script type="application/json" id="{name}">{safe_json(value)}</script>\n'


def safe_json(value: Any) -> str:
    """Write JSON that is safe inside a script element, whatever the texts in it hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char, written in UNSAFE.items():
        text = text.replace(char, written)
    return _DIRECTIONS.sub(lambda found: escaped(found.group()), text)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def read_asset(name: str) -> str:
    """Read a file of the page."""
    return (files("elimtool.report.html") / "assets" / name).read_text(encoding="utf-8")


def framed(name: str) -> str:
    """Read a page with the list of prompts and the place for what is shown, which several have."""
    return read_asset(name).replace("{{frame}}", read_asset("frame.html"))


def colours() -> str:
    """Write the palette as CSS custom properties, light and dark."""
    light = _properties(palette.HEAT_LIGHT, palette.SHIFT_LIGHT, palette.LINES_LIGHT)
    dark = _properties(palette.HEAT_DARK, palette.SHIFT_DARK, palette.LINES_DARK)
    return (
        f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f":root[data-theme=light] {{ {light} }}\n:root[data-theme=dark] {{ {dark} }}\n"
    )


def _properties(heat: tuple[str, ...], shift: tuple[str, ...], lines: tuple[str, ...]) -> str:
    sets = {"heat": heat, "shift": shift, "line": lines}
    named = {f"--{name}-{index}": one for name, colours in sets.items() for index, one in enumerate(colours)}
    return " ".join(f"{name}: {colour};" for name, colour in named.items())

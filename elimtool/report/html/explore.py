"""Write the page of ``elimtool explore``, whose script and figures are those of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from elimtool.files.rows import Row
from elimtool.report.figures import palette
from elimtool.report.figures.defined import definitions
from elimtool.report.glossary import GLOSSARY
from elimtool.report.html.page import SCRIPTS, colours, framed, read_asset, safe_json

DRAWING = SCRIPTS[: SCRIPTS.index("start.js")]
"""The parts of the report's script that draw."""
ASKING = (*DRAWING, "address.js", "ask.js", "chains.js", "explore.js")
"""The script of the page that asks a model."""
OPENED = (*DRAWING, "start.js", "address.js", "opened.js")
"""The script of the page of a finished run."""
ASSETS = frozenset((*ASKING, *OPENED, "page.css", "explore.css"))
"""Files that the pages ask for."""


def asset(name: str) -> str:
    """Read one of the page's files; the style has the palette before it."""
    text = read_asset(name)
    return colours() + text if name == "page.css" else text


def page(model: str, offered: Mapping[str, Sequence[str]], opened: bool = False) -> str:
    """Write the page that asks a model, before anything was asked.

    Args:
        model: Name of the model.
        offered: Files and models that may be chosen, by kind.
        opened: Whether a finished run can be looked at beside it.
    """
    facts = {"model": model, "facts": [], "finished": "", "fingerprint": "", "heads": ""}
    return _filled(
        "explore.html",
        model,
        {**EMPTY, "alone": True, "run": facts, "offered": offered, "opened": opened},
        ASKING,
    )


def opened_page(front: Row) -> str:
    """Write the page of a finished run, which asks for each prompt when it is opened.

    Args:
        front: What it shows first, as ``payload.front`` has it.
    """
    return _filled("opened.html", front["run"]["model"], {**EMPTY, **front}, OPENED)


EMPTY: Row = {
    "noun": "prompt",
    "together": "",
    "alone": False,
    "notes": [],
    "glossary": GLOSSARY,
    "defined": definitions(),
    "steps": palette.STEPS,
    "bands": palette.RANK_BANDS,
    "analyses": [],
    "overview": [],
    "prompts": [],
    "left_out": 0,
}


def _filled(name: str, title: str, front: Row, scripts: tuple[str, ...]) -> str:
    tags = "\n".join(f'<script src="assets/{one}" defer></script>' for one in scripts)
    before, after = framed(name).split("{{data}}")  # first: texts of a run may hold placeholders
    before = before.replace("{{title}}", escape(f"elimtool: {title}"))
    return before + safe_json(front) + after.replace("{{scripts}}", tags)

"""Hooks of MkDocs: write the pages of commands and Python, and list pages that the navigation lacks.

The two pages are made from the code while the site is built, so they cannot be out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import isclass
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File

import elimtool
from elimtool.cli.app import app

MORE = "More"
"""Heading of the pages that no one has put into the navigation."""


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name behind it."""
    named = set(_named(config.nav))
    docs = Path(config.docs_dir)
    found = [str(path.relative_to(docs)) for path in sorted(docs.rglob("*.md"))]
    if more := [name for name in found if name not in named]:
        config.nav.append({MORE: more})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from the code."""
    for name, text in (("commands.md", commands_page()), ("python.md", python_page())):
        files.append(File.generated(config, name, content=text))
    return files


def _named(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for one in nav:
            yield from _named(one)
    elif isinstance(nav, dict):
        for one in nav.values():
            yield from _named(one)


def commands_page() -> str:
    """Every command with its options, as ``--help`` has them."""
    lines = ["# Commands", "", "What `elimtool COMMAND --help` says, in one place."]
    for name, command in _commands(typer.main.get_command(app)):
        lines += ["", f"## {name}", "", *_help(command.help)]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join(["elimtool", name, "[OPTIONS]", *(_metavar(one) for one in arguments)])
        lines += ["", "```text", usage, "```", ""]
        for one in arguments:
            lines.append(f"- `{_metavar(one)}`: {_cell(one.help or '')}")
        panels: dict[str, list[Any]] = {}
        for one in command.params:
            if one.param_type_name == "option" and not one.hidden:
                panels.setdefault(getattr(one, "rich_help_panel", None) or "Options", []).append(one)
        for panel, options in panels.items():
            lines += ["", f"**{panel}**", "", "| option | default | meaning |", "|---|---|---|"]
            lines += [_option(one) for one in options]
    return "\n".join(lines) + "\n"


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _help(text: str | None) -> list[str]:
    return [_cell(line) for line in (text or "").split("\n")]


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _option(one: Any) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (*one.opts, *one.secondary_opts))
    takes = f" `{one.metavar}`" if one.metavar and not one.is_flag else ""
    plain = isinstance(one.default, str | int | float) and not isinstance(one.default, bool)
    default = f"`{one.default}`" if plain and one.default != "" else ""
    repeat = " Repeatable." if one.multiple and "epeatable" not in (one.help or "") else ""
    return f"| {flags}{_cell(takes)} | {default} | {_cell(one.help or '')}{repeat} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def python_page() -> str:
    """Every public name of the package, by mkdocstrings."""
    public = elimtool._HOMES
    classes = {name for name in public if isclass(getattr(elimtool, name))}
    lines = ["# Python", "", "`import elimtool` is quick: each name is loaded when it is first used."]
    for title, names in (("Functions", public.keys() - classes), ("Classes", classes)):
        lines += ["", f"## {title}"]
        for name in sorted(names):
            lines += ["", f"::: {public[name]}.{name}"]
    return "\n".join(lines) + "\n"

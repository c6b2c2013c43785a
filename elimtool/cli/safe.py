"""Print nothing that does anything: consoles, log and usage errors pass through ``visible.safe``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import typer.core
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typer.exceptions import TyperException

from elimtool.report.visible import safe, shown, without_commands


class SafeConsole(Console):
    """A console on which text only shows; colours are Rich's own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as Rich does, with every text made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """Join the parts of lines, which only now could begin a command of a CI."""
        return without_commands(super()._render_buffer(buffer))


class SafeGroup(typer.core.TyperGroup):
    """The commands; what is wrong with their arguments is said with the arguments made safe."""

    def make_context(self, *args: Any, **named: Any) -> Any:
        """Read the arguments of the group."""
        try:
            return super().make_context(*args, **named)
        except TyperException as error:
            _make_safe(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Read the arguments of the command, and run it."""
        try:
            return super().invoke(ctx)
        except TyperException as error:
            _make_safe(error)
            raise


class SafeFormatter(logging.Formatter):
    """Writes a record of the log, traceback and all, as it shows."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return safe(super().format(record))


def log_safely() -> None:
    """Print warnings of the log on stderr, made safe."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(SafeFormatter())


def _make_safe(error: TyperException) -> None:
    for name in ("message", "option_name", "param_hint"):
        if isinstance(text := getattr(error, name, None), str):
            setattr(error, name, safe(" ".join(text.split("\n"))))

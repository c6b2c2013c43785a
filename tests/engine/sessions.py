"""Traces with settings that no command has an option for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from elimtool.engine.intake import ask
from elimtool.engine.options import TraceOptions
from elimtool.engine.session import Session
from elimtool.run import Run
from elimtool.tasks.trace import traced


def trace_with(
    model: Any,
    prompts: Any,
    options: TraceOptions,
    *,
    targets: Sequence[str] = (),
    extra: Sequence[Any] = (),
    **settings: Any,
) -> Run:
    """As ``elimtool.trace``; ``settings`` replace some of what the metrics are told."""
    session = Session(model, options, compiled=False)
    session.settings = replace(session.settings, **settings)
    asked = ask(prompts, targets, ())
    return traced(session, asked, session.encode_all(asked), extra=extra)

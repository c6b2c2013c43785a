"""Show a run or a comparison in a notebook, which asks the object itself for HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elimtool.run.comparison import Comparison
    from elimtool.run.reader import Run


def drawn(shown: Run | Comparison) -> str:
    """Return the report of a run or comparison as an HTML frame, for ``_repr_html_``."""
    # the one import from a higher room, here and below; linter and tests allow it
    from elimtool.report.html.notebook import frame

    return frame(shown)


def chosen(run: Run, name: str, choices: dict[str, Any]) -> Any:
    """Return one figure of a run, which shows itself; errors as ``elimtool report --figure``."""
    from elimtool.report.html.notebook import Shown

    return Shown.of(run, name, **choices)

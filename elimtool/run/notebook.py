"""Draw a run or a comparison for a notebook, which asks the object itself for HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elimtool.run.comparison import Comparison
    from elimtool.run.reader import Run


def drawn(shown: Run | Comparison) -> str:
    """Return the report of a run or comparison as an HTML frame, for ``_repr_html_``."""
    # the one import that goes up; linter and tests know it by this line
    from elimtool.report.html.page import frame

    return frame(shown)

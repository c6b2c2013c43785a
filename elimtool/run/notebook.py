"""Show a run or a comparison in a notebook, which asks the object itself for HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elimtool.run.comparison import Comparison
    from elimtool.run.reader import Run


def drawn(shown: Run | Comparison) -> str:
    """Return the report of a run or comparison as an HTML frame, for ``_repr_html_``."""
    # the one import from a higher room; linter and tests allow it here
    from elimtool.report.html.page import frame

    return frame(shown)

"""``concepts``: sets of words that are followed in every prompt, tables ``concepts`` and ``associations``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.requests.request import Request

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions


class ConceptRequest(Request):
    """Follows sets of words; a metric does, in the passes that there are."""

    def check(self, options: TraceOptions) -> None:
        """Refuse concepts without a name or words, and two that share some."""
        _ = options.named_concepts

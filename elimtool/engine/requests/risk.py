"""``risk``: how uncertain a generated answer is, table ``risk``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.requests.request import Request
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions


class RiskRequest(Request):
    """Scores what is written, with the walk that writes it."""

    def check(self, options: TraceOptions) -> None:
        """Refuse to score an answer that is not written, and too few samples of it."""
        if options.risk and not options.writes:
            raise ElimError("`risk` needs an answer", "say how many tokens to write with `generate`")
        if options.nli is not None and not options.risk:
            raise ElimError("`nli` says which samples of `risk` mean the same", "ask for `risk` too")
        if options.samples < 2:
            raise ElimError(f"`samples` must be at least 2, got {options.samples}")

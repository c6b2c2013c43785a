"""``watch``: tokens to follow at each step of generated text.

Tables ``stops``, ``stop_tokens`` and ``stop_stages``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.requests.request import Request
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions


class WatchRequest(Request):
    """Follows tokens, with the walk that writes the text."""

    def check(self, options: TraceOptions) -> None:
        """Refuse to follow tokens through a text that is not written."""
        if options.watch and not options.writes:
            raise ElimError(
                "`watch` follows tokens through generated text, and none is generated",
                "say how many tokens to write with `generate`",
            )

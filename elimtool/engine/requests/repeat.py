"""``repeat``: copies of a text, each predicted from those before it, table ``resonance``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.requests.request import Fill, Request
from elimtool.engine.resonance import resonance
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session


class RepeatRequest(Request):
    """Repeats a text."""

    def check(self, options: TraceOptions) -> None:
        """Refuse numbers of copies and of draws that say nothing, and an empty message."""
        if options.repeat < 0 or options.repeat == 1:
            raise ElimError(f"`repeat` must be 2 copies or more, got {options.repeat}")
        if options.repeat_control < 2:
            raise ElimError(f"`repeat_control` must be at least 2 draws, got {options.repeat_control}")
        if not options.repeat_control_text.strip():
            raise ElimError("`repeat_control_text` is empty", "give a message, such as 'Hello'")

    def filler(self, session: Session) -> Fill:
        """Return what fills the table."""
        how = session.options
        counts = how.repeat, how.repeat_control, how.repeat_control_text
        return lambda one, _: resonance(session.model, one, *counts, session.seed_of(one.prompt))

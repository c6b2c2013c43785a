"""``patchscope``: residuals put into a prompt that repeats words, table ``patchscope``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.patchscope import PatchscopeReader
from elimtool.engine.requests.request import Fill, Request

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session


class PatchscopeRequest(Request):
    """Reads layers by the word that the model repeats."""

    def given(self, options: TraceOptions) -> bool:
        """Tell whether the option is given."""
        return options.patchscope

    def filler(self, session: Session) -> Fill:
        """Return what fills the table: made once, as it reads other text too."""
        reader = PatchscopeReader(session.model)
        return lambda one, _: reader.tables(one)

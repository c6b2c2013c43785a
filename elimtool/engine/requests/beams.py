"""``beams``: texts that a beam search holds, tables ``beams``, ``beam_steps`` and ``beam_targets``."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from elimtool.engine.beam_tables import BeamPlan, beam_tables
from elimtool.engine.beams import MOST_BEAMS
from elimtool.engine.requests.request import Fill, Request
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session


class BeamRequest(Request):
    """Searches for texts with beams."""

    def check(self, options: TraceOptions) -> None:
        """Refuse numbers of beams that cannot be held, and a search for no text."""
        if not 0 <= options.beams <= MOST_BEAMS:
            raise ElimError(f"`beams` must be from 1 to {MOST_BEAMS}, got {options.beams}")
        if options.beams and not options.generate:
            raise ElimError("`beams` searches for a text", "say how many tokens with `generate`")
        if not isfinite(options.length_penalty):
            raise ElimError(f"`length_penalty` must be a finite number, got {options.length_penalty}")

    def filler(self, session: Session) -> Fill:
        """Return what fills the tables."""
        how, against = session.options, session.settings.against
        plan = BeamPlan(how.beams, how.generate, how.length_penalty, how.early_stopping)
        return lambda one, _: beam_tables(session.model, one, session.walk_chain, plan, against)

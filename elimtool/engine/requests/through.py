"""``through``: the tokens of a target one after the other through a chain.

Tables ``sequences``, ``sequence_steps`` and ``sequence_stages``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.requests.request import Fill, Request
from elimtool.engine.sequences import sequence_tables
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session


class ThroughRequest(Request):
    """Follows targets through chains."""

    def check(self, options: TraceOptions) -> None:
        """Refuse interventions, which change one pass and not those of the tokens after it."""
        if options.through and options.interventions:
            raise ElimError(
                f"`through` cannot be combined with {options.interventions[0]}",
                "interventions act on the prompt's own pass: leave one of the two out",
            )

    def filler(self, session: Session) -> Fill:
        """Return what fills the tables; nothing of a prompt without targets."""
        chains = [session.settings.chains[index] for index in session.options.followed_through]
        against = session.settings.against
        return lambda one, _: sequence_tables(session.model, one, chains, against)

"""``futures``: survivors by what the model would write after them.

Tables ``survivors``, ``survivor_pairs`` and ``survivor_sets``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.futures import SurvivorFutures
from elimtool.engine.requests.request import Fill, Request
from elimtool.errors import ElimError
from elimtool.samplers import resolve

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session

NUCLEUS = "top_p=0.9"
"""Chain whose survivors are compared in a run without any."""
MOST_FUTURES = 64
"""Most survivors of a chain that are compared: outputs of all are held side by side."""


class FutureRequest(Request):
    """Compares survivors."""

    reads_endings = True

    def check(self, options: TraceOptions) -> None:
        """Refuse numbers of survivors that cannot be compared."""
        for name, least in (("futures", 0), ("future_steps", 1)):
            if getattr(options, name) < least:
                raise ElimError(f"`{name}` must be at least {least}, got {getattr(options, name)}")
        if options.futures == 1:
            raise ElimError("`futures` compares survivors with each other", "give 2 or more")
        if options.futures > MOST_FUTURES:
            raise ElimError(
                f"`futures` compares at most {MOST_FUTURES} survivors, got {options.futures}",
                "each takes a pass, and every two are compared",
            )

    def filler(self, session: Session) -> Fill:
        """Return what fills the tables: made once, as it reads other text and the whole unembedding."""
        how, settings = session.options, session.settings
        many = how.futures, how.future_steps
        chains = settings.chains or (resolve(NUCLEUS),)
        return SurvivorFutures(session.model, chains, *many, settings.against).tables

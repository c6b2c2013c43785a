"""``paths`` and ``continue_with``: ways that a text may go on, tables ``paths`` and ``path_steps``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from elimtool.engine.path_search import SAMPLED, PathSearch, kinds_of
from elimtool.engine.paths import path_tables
from elimtool.engine.requests.request import Fill, Request
from elimtool.errors import ElimError
from elimtool.metrics.columns import Columns

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session
    from elimtool.model.endings import Endings
    from elimtool.model.view import Encoded


class PathRequest(Request):
    """Searches for paths, and follows one that is given."""

    def given(self, options: TraceOptions) -> bool:
        """Tell whether a kind of path or a path is given."""
        return bool(options.paths) or options.continue_with is not None

    def check(self, options: TraceOptions) -> None:
        """Refuse kinds of paths that there are not, or that nothing draws; an empty path."""
        kinds = kinds_of(options.paths)
        if kinds and not options.generate:
            raise ElimError("`paths` needs the length of a path", "say how many tokens with `generate`")
        if not options.samplers and any(one.kind == SAMPLED for one in kinds):
            raise ElimError("sampled `paths` need a sampler chain to draw through", "name one in `samplers`")
        if options.continue_with == "":
            raise ElimError("`continue_with` is empty", "give a text that goes on from the prompt")

    def filler(self, session: Session) -> Fill:
        """Return what fills the tables."""
        how, settings = session.options, session.settings
        kinds = kinds_of(how.paths)
        chain = session.walk_chain if settings.chains else None

        def fill(one: Encoded, _: Endings) -> Mapping[str, Columns]:
            seed = session.seed_of(one.prompt)
            search = PathSearch(session.model, one, how.generate, chain, seed, settings.against)
            return path_tables(session.model, one, settings.chains, kinds, search, how.continue_with)

        return fill

"""``along``: the answer after each part of a text, table ``answers_along``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.engine.along import AnswersAlong
from elimtool.engine.requests.request import Fill, Request
from elimtool.errors import ElimError
from elimtool.prompts.prompt import check_unicode
from elimtool.prompts.segments import parse_along

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session


class AlongRequest(Request):
    """Reads the answer after each part of a text."""

    reads_endings = True

    def given(self, options: TraceOptions) -> bool:
        """Tell whether the option is given."""
        return options.along is not None

    def check(self, options: TraceOptions) -> None:
        """Refuse ways to cut that there are not, and a cue without them."""
        if not self.given(options):
            if options.cue:
                raise ElimError("`cue` is what `along` reads answers after", "give `along` too")
            return
        parse_along(str(options.along))
        if not options.cue:
            raise ElimError("`along` needs a `cue` to read the answer after", "such as ' So the answer is'")
        check_unicode("the cue", options.cue)
        if options.position != "last":
            raise ElimError("`along` reads the answer at the end of the prompt", "use `position='last'`")

    def filler(self, session: Session) -> Fill:
        """Return what fills the table."""
        how, settings = session.options, session.settings
        cut = parse_along(str(how.along))
        reads = AnswersAlong(session.model, settings.chains, cut, how.cue, settings.against)
        return lambda one, endings: reads.tables(one, endings, session.seed_of(one.prompt))

"""What asks a trace for tables of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from elimtool.metrics.columns import Columns
from elimtool.model.endings import Endings
from elimtool.run.selection import asked_by

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.engine.session import Session
    from elimtool.model.view import Encoded

Fill = Callable[["Encoded", Endings], Mapping[str, Columns]]
"""Fills tables of a prompt, given what reads the model after other endings of it."""


class Request:
    """An option of ``TraceOptions`` without which some tables are not filled.

    Those that take no pass of their own are filled by a metric, and need nothing but this class; others say
    what fills them.

    Args:
        option: Name of the option, which the definitions of its tables name too (``Table.asked_by``).
    """

    reads_endings: ClassVar[bool] = False
    """Whether the model is read after other endings of a prompt, so that its keys and values are worth
    keeping."""

    def __init__(self, option: str) -> None:
        self.option = option
        self.tables = asked_by(option)

    def given(self, options: TraceOptions) -> bool:
        """Tell whether the option is given."""
        return bool(getattr(options, self.option))

    def check(self, options: TraceOptions) -> None:
        """Refuse values that cannot be used, before a model is loaded.

        Raises:
            ElimError: One cannot.
        """

    def filler(self, session: Session) -> Fill | None:  # noqa: ARG002  # of those that are filled beside
        """Return what fills the tables, one prompt after another; ``None`` where passes or a walk do."""
        return None

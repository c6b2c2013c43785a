"""Look up a metric by name: the column that it reads, and how its rows are reduced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import pyarrow as pa

from elimtool.errors import ElimError, nearest
from elimtool.run.schema import TABLES, UNTRACED, Column, Table
from elimtool.run.tables.findings import COMMAND_OF, FINDING_TABLES

Kind = Literal["integer", "number", "boolean", "text", "tokens"]
Reduction = Literal[
    "", "last_layer", "last_stage", "all_stages", "first_k", "least_layer", "beginnings", "orders"
]

SELECTORS = ("target", "foil", "chain", "span", "layer", "stage", "head", "component", "position")
"""Columns by which a check can choose rows."""


@dataclass(frozen=True, slots=True)
class CheckMetric:
    """What a check reads.

    Attributes:
        name: Name in the check file.
        table: Table of a run.
        column: Column of that table.
        kind: What its values are.
        meaning: One line that explains it.
        reduction: ``last_layer`` reads the model's output unless the check names layers; ``last_stage`` the
            end of a chain unless it names a stage; ``all_stages`` combines the stages of a chain; ``first_k``
            collects the first tokens of the output; ``least_layer`` is the least over layers; ``beginnings``
            is the share of a text's beginnings where it is false, ``orders`` that of other orders where it is
            true.
        plugin: Definition of the table, where a plugin fills it.
    """

    name: str
    table: str
    column: str
    kind: Kind
    meaning: str
    reduction: Reduction = ""
    plugin: Table | None = None

    @property
    def command(self) -> str | None:
        """Command whose analysis the table belongs to; ``None`` for the tables of a run itself."""
        return COMMAND_OF.get(self.table)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns of its table."""
        return self._table.names

    @property
    def selectors(self) -> tuple[str, ...]:
        """Columns by which its rows can be chosen."""
        return tuple(name for name in SELECTORS if name in self.names)

    @property
    def _table(self) -> Table:
        return self.plugin or _TABLES[self.table]

    @property
    def _definition(self) -> Column:
        return next(column for column in self._table.columns if column.name == self.column)

    @property
    def null_when(self) -> str:
        """What makes a value null; empty if it never is."""
        if self.reduction == "orders":
            return "the text has one segment, and so no other order"
        return self._definition.null_when

    @property
    def unit(self) -> str:
        """Unit of the values; empty for shares, names and truth values."""
        unit = self._definition.unit
        return "" if self.kind == "tokens" or unit in ("share", "probability", "rank", "ratio") else unit


SHORT: dict[str, CheckMetric] = {
    metric.name: metric
    for metric in (
        CheckMetric(
            "final_rank", "lens", "rank", "integer", "rank of the target in the output", "last_layer"
        ),
        CheckMetric(
            "final_prob", "lens", "prob", "number", "probability of the target in the output", "last_layer"
        ),
        CheckMetric(
            "final_logprob", "lens", "logprob", "number", "log-probability of the target (nats)", "last_layer"
        ),
        CheckMetric(
            "survives",
            "sampling_targets",
            "alive_after",
            "boolean",
            "whether a chain leaves the target, or a stage if one is named",
            "last_stage",
        ),
        CheckMetric(
            "retention",
            "attention",
            "mass_no_sink",
            "number",
            "share of a span in the attention that the sinks leave, mean over heads",
        ),
        CheckMetric(
            "content",
            "source_spans",
            "dla_centred",
            "number",
            "what a span wrote for the target through attention, above the mean logit (logits)",
        ),
        CheckMetric(
            "lost_layer", "verdicts", "lost_layer", "integer", "layer from which on the target is lost"
        ),
        CheckMetric(
            "commit_layer", "verdicts", "commit_layer", "integer", "layer from which on the target leads"
        ),
        CheckMetric(
            "pruned_mass",
            "sampling",
            "mass_pruned",
            "number",
            "probability that a chain cuts in all, or a stage if one is named",
            "all_stages",
        ),
        CheckMetric(
            "grammar_mass",
            "grammar",
            "mass_removed",
            "number",
            "probability that a chain's grammar or JSON schema removes",
        ),
        CheckMetric(
            "grammar_accepts",
            "grammar_targets",
            "n_valid",
            "integer",
            "tokens of the target that a grammar accepts, from the first",
        ),
        CheckMetric(
            "nucleus_size",
            "lens_layers",
            "nucleus_size",
            "integer",
            "tokens in the 0.9 nucleus",
            "last_layer",
        ),
        CheckMetric(
            "entropy", "lens_layers", "entropy", "number", "entropy of the output (nats)", "last_layer"
        ),
        CheckMetric(
            "logit_difference",
            "contrasts",
            "difference",
            "number",
            "logit of the target minus that of the foil in the output (nats)",
        ),
        CheckMetric("written", "written", "text", "text", "what the model writes through a chain"),
        CheckMetric(
            "written_prob",
            "written_texts",
            "prob",
            "number",
            "probability that a text is written through a chain",
        ),
        CheckMetric("outcome", "verdicts", "outcome", "text", "what became of the target"),
        CheckMetric("regime", "verdicts", "regime", "text", "regime of the position"),
        CheckMetric(
            "topk_overlap",
            "top_tokens",
            "token_id",
            "tokens",
            "share of the baseline's k first tokens that are still among the k first",
            "first_k",
        ),
        CheckMetric(
            "association",
            "associations",
            "p_adjusted",
            "number",
            "chance that a set as frequent is placed as well as a concept in any layer: the least p_adjusted",
            "least_layer",
        ),
        CheckMetric(
            "area_over_curve",
            "answers_along",
            "same",
            "number",
            "share of a text's beginnings that lead elsewhere than all of it",
            "beginnings",
        ),
        CheckMetric(
            "copied_last",
            "answers_along",
            "copied",
            "number",
            "share of a text's other orders where a word of the last segment begins with the first token",
            "orders",
        ),
    )
}
"""Metrics with short names; ``table.column`` names any other column."""

_TABLES = {**TABLES, **FINDING_TABLES}
_KINDS: dict[pa.DataType, Kind] = {
    pa.int32(): "integer",
    pa.int64(): "integer",
    pa.float32(): "number",
    pa.float64(): "number",
    pa.bool_(): "boolean",
    pa.string(): "text",
}
_KEYS = ("prompt_id", "token_id", "foil_token_id", "stage_index", "intervention")
_NOT_MEASURED = frozenset((*_KEYS, *SELECTORS))


@cache
def columns() -> dict[str, CheckMetric]:
    """List every ``table.column`` that can be judged: numbers, truth values and texts, except keys."""
    traced = [table for table in _TABLES.values() if table.name not in UNTRACED]
    return {name: metric for table in traced for name, metric in _columns_of(table).items()}


def _columns_of(table: Table) -> dict[str, CheckMetric]:
    plugin = table if table.plugin else None
    return {
        (name := f"{table.name}.{column.name}"): CheckMetric(
            name, table.name, column.name, _KINDS[column.type], column.description, plugin=plugin
        )
        for column in table.columns
        if column.type in _KINDS and column.name not in _NOT_MEASURED
    }


Others = Callable[[str], Table | None]
"""Finds the definition of a plugin's table by its name."""


def find(name: str, others: Others | None = None) -> CheckMetric:
    """Find a metric by name.

    Args:
        name: A short name, or ``table.column``.
        others: Finds tables that are not elimtool's own.

    Raises:
        ElimError: There is none; the hint names the nearest.
    """
    if name in SHORT:
        return SHORT[name]
    if name in columns():
        return columns()[name]
    table, dot, _ = name.partition(".")
    if not dot:
        raise ElimError(f"metric '{name}' is unknown", f"{nearest(name, tuple(SHORT))}; or table.column")
    definition = _TABLES.get(table) or (others(table) if others is not None else None)
    if definition is None:
        raise ElimError(f"metric '{name}': there is no table '{table}'", nearest(table, tuple(_TABLES)))
    of_table = _columns_of(definition)
    if name not in of_table or definition.name in UNTRACED:
        judged = [] if definition.name in UNTRACED else [known.partition(".")[2] for known in of_table]
        raise ElimError(
            f"metric '{name}': table '{table}' has no such column to judge",
            nearest(name[len(table) + 1 :], tuple(judged)),
        )
    return of_table[name]

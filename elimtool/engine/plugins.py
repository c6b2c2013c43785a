"""Let stages, metrics and lenses of others take part: find, check and run them, and name them in run.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import pyarrow as pa

from elimtool.engine.records import arrow_column
from elimtool.errors import ElimError
from elimtool.files.plugins import ORIGINS, Plugin, Registry, given, named
from elimtool.lenses.brought import LENSES, BroughtLens
from elimtool.lenses.lens import Lens
from elimtool.metrics import METRICS
from elimtool.metrics.columns import Categorical
from elimtool.metrics.metric import Metric
from elimtool.metrics.wrong import wrong_columns, wrong_values
from elimtool.model.memory import out_of_memory
from elimtool.model.view import Batch
from elimtool.run.columns import INTERVENTION, Table
from elimtool.run.schema import TABLES
from elimtool.samplers import STAGES, Chain, Stage


def plug(plugins: Sequence[Any]) -> tuple[str, ...]:
    """Make parts known by their names, for the rest of the process.

    Args:
        plugins: Subclasses of ``Stage`` and ``Metric``, lenses and classes of lenses, or ``module:name`` of
            such.

    Returns:
        Names of the metrics among them.

    Raises:
        ElimError: One cannot be loaded, is none of these, or has the name of another part.
    """
    metrics: list[str] = []
    known: dict[tuple[int, str], Any] = {}
    for one in plugins:
        made = named(one) if isinstance(one, str) else one
        registry, name = _place_of(made, one)
        if known.setdefault((id(registry), name), made) is not made:
            raise given(name, made).failed(f"{known[id(registry), name]!r} has that name too")
        registry.add(name, made)
        metrics += [name] if registry is METRICS else []
    return tuple(dict.fromkeys(metrics))


def _place_of(made: Any, asked: Any) -> tuple[Registry[Any], str]:
    """Return the registry that an object belongs to, and its name there."""
    if isinstance(made, type) and issubclass(made, Stage):
        return STAGES, str(getattr(made, "kind", made.__name__))
    if isinstance(made, type) and issubclass(made, Metric):
        return METRICS, next(iter(made.tables), made.__name__)
    if callable(getattr(made, "to_final", None)):
        return LENSES, str(getattr(made, "name", None))
    what = f"'{asked}'" if isinstance(asked, str) else repr(asked)
    hint = "give a subclass of elimtool.Stage or elimtool.Metric, or a lens: `name` and to_final"
    if isinstance(made, Stage):
        hint = "give its class, or put the stage itself into `samplers`"
    raise ElimError(f"`plugins`: {what} is neither a stage's class, a metric's, nor a lens", hint)


def brought_tables(tables: Sequence[str] | None, names: Sequence[str]) -> dict[str, type[Metric]]:
    """Find the metrics of others that a run measures, by the tables that they fill.

    Args:
        tables: Tables that are asked for; ``None`` for all, of installed packages too.
        names: Metrics that were given.

    Raises:
        ElimError: One cannot be loaded.
    """
    if tables is None:
        chosen = dict.fromkeys((*names, *METRICS.installed))
        return {table: METRICS[name] for name in chosen for table in METRICS[name].tables}
    found = {table: metric_of(table) for table in tables if table not in TABLES}
    return {table: metric for table, metric in found.items() if metric is not None}


def metric_of(table: str) -> type[Metric] | None:
    """Find the metric of others that fills a table; its name is the table's, or begins it.

    Raises:
        ElimError: It cannot be loaded.
    """
    others = (name for name in METRICS.everything() if name not in METRICS.own)
    likely = (name for name in others if table == name or table.startswith(f"{name}_"))
    return next((METRICS[name] for name in likely if table in METRICS[name].tables), None)


def definitions(metrics: Mapping[str, type[Metric]]) -> dict[str, Table]:
    """Return the definitions of tables of others, with the column that every table of a pass has."""
    return {
        table.name: replace(table.with_column(INTERVENTION), plugin=ORIGINS[metric].distribution)
        for metric in dict.fromkeys(metrics.values())
        for table in metric.defines
    }


def definition_of(table: str) -> Table | None:
    """Return the definition of a table that a metric of others fills; ``None`` where none does.

    Raises:
        ElimError: The metric cannot be loaded.
    """
    metric = metric_of(table)
    return None if metric is None else definitions({table: metric})[table]


def guarded(metric: type[Metric]) -> type[Metric]:
    """Return a metric whose errors name the plugin that it is of."""
    plugin = ORIGINS[metric]
    calls = [
        name
        for name in ("__init__", "observe", "more_residuals", "read_more", "read", "finish")
        if _own(metric, name)
    ]
    return type(metric.__name__, (metric,), {name: _blamed(getattr(metric, name), plugin) for name in calls})


def _own(metric: type[Metric], name: str) -> bool:
    return getattr(metric, name) is not getattr(Metric, name)


def _blamed(method: Callable[..., Any], plugin: Plugin) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:  # code of others may raise anything
            if isinstance(error, ElimError) or out_of_memory(error):
                raise
            raise plugin.failed(f"{type(error).__name__}: {error}") from error

    return call


def filled_by(
    metric: type[Metric], found: Any, batch: Batch, intervention: str | None
) -> dict[str, pa.Table]:
    """Turn what a metric of others gives into tables, as far as it keeps to its definitions.

    Args:
        metric: The metric.
        found: What its ``finish`` returned.
        batch: What it was shown.
        intervention: The interventions of the pass.

    Raises:
        ElimError: A table, column, type, length, null or value is not as defined.
    """
    plugin = ORIGINS[metric]
    if not isinstance(found, Mapping):
        raise plugin.failed(f"finish returns a {type(found).__name__}, not a mapping of columns by table")
    defined = definitions({"": metric})
    if unknown := [name for name in found if name not in defined]:
        raise plugin.failed(f"it fills a table '{unknown[0]}', which it does not define")
    tables = {}
    for name, columns in found.items():
        if isinstance(columns, Mapping) and not columns:
            continue
        if wrong := wrong_columns(defined[name], columns):
            raise plugin.failed(f"table '{name}': {wrong}")
        tables[name] = table = _converted(defined[name], columns, intervention, plugin)
        if wrong := wrong_values(defined[name], table, batch):
            raise plugin.failed(f"table '{name}': {wrong}")
    return tables


def _converted(
    table: Table, columns: Mapping[str, Any], intervention: str | None, plugin: Plugin
) -> pa.Table:
    length = len(columns["prompt_id"])
    given = {**columns, INTERVENTION.name: pa.repeat(pa.scalar(intervention, pa.string()), length)}
    arrays = []
    for column in table.columns:
        try:
            arrays.append(_strictly(given[column.name], column.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            why = f"column '{column.name}' cannot be made {column.type}: {error}"
            raise plugin.failed(f"table '{table.name}': {why}") from error
    return pa.Table.from_arrays(arrays, schema=table.schema)


def _strictly(values: Any, kind: pa.DataType) -> pa.Array:
    """Convert values to an Arrow array without cutting numbers off or reading them from texts."""
    if isinstance(values, Categorical | pa.Array):
        return arrow_column(values, kind)
    found = pa.array(values, from_pandas=True)
    if pa.types.is_string(found.type) and not pa.types.is_string(kind):
        raise TypeError("it holds texts")
    return found.cast(kind)


def stated(metrics: Mapping[str, type[Metric]], lens: Lens, chains: Sequence[Chain]) -> dict[str, Any] | None:
    """Return the entry ``plugins`` of ``run.json``; ``None`` where everything is elimtool's own."""
    found: dict[str, dict[str, Plugin]] = {
        "samplers": {
            stage.kind: ORIGINS[type(stage)]
            for chain in chains
            for stage in chain.stages
            if type(stage) in ORIGINS
        },
        "metrics": {ORIGINS[metric].name: ORIGINS[metric] for metric in metrics.values()},
        "lenses": {lens.name: lens.plugin} if isinstance(lens, BroughtLens) else {},
    }
    return {
        kind: {name: plugin.facts() for name, plugin in sorted(some.items())}
        for kind, some in found.items()
        if some
    } or None

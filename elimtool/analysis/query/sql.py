"""Run one SELECT of SQL over the tables of runs, in DuckDB, which can read nothing else and write nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import Timer
from typing import Any

import pyarrow as pa

from elimtool.errors import ElimError, nearest
from elimtool.run import Run
from elimtool.run.manifest import Manifest
from elimtool.run.rows import dataset

RUNS = "runs"
"""View of the manifests, a row a run."""

LOCKED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
"""Settings of DuckDB: no file, no network, no extension, no variable of Python."""

INSTALL = "pip install 'elimtool[query]'"

FACTS: dict[str, pa.DataType] = {
    "run": pa.string(),
    "model": pa.string(),
    "revision": pa.string(),
    "label": pa.string(),
    "started": pa.timestamp("s", "UTC"),
    "finished": pa.timestamp("s", "UTC"),
    "chains": pa.list_(pa.string()),
    "lens": pa.string(),
    "dtype": pa.string(),
    "device": pa.string(),
    "seed": pa.int64(),
    "n_layers": pa.int64(),
    "n_heads": pa.int64(),
    "n_prompts": pa.int64(),
    "weights_sha256": pa.string(),
    "tokenizer_sha256": pa.string(),
    "elimtool": pa.string(),
    "transformers": pa.string(),
    "torch": pa.string(),
    "fingerprint": pa.string(),
    "config": pa.string(),
}
"""Columns of the view ``runs``; ``config`` is JSON."""

BEFORE = ("run", "model", "revision", "label", "started")
"""Columns of ``runs`` that each table has in front of its own."""


def select(
    sql: str, runs: Mapping[str, Run], *, limit: int | None = None, seconds: float | None = None
) -> tuple[Any, bool]:
    """Run one SELECT over the tables of runs.

    Each table of a run is a view over all runs that have it, with ``run``, ``model``, ``revision``,
    ``label`` and ``started`` in front; ``runs`` has a row for each run. Values that a run lacks are null.

    Args:
        sql: One SELECT statement.
        runs: Runs by name, on disk.
        limit: Most rows to return; ``None`` for all.
        seconds: Most seconds that it may take; ``None`` for any number.

    Returns:
        The rows as a ``pyarrow.Table``, and whether there are more.

    Raises:
        ElimError: DuckDB is not installed; the text is not one SELECT; it names something that is not there,
            wants a file, fails, or takes too long; a run has lost rows.
    """
    duckdb = _duckdb()
    with duckdb.connect(":memory:", config=LOCKED) as database:
        named = _named(database, duckdb, sql, runs)
        _offer(database, runs, named)
        database.execute("SET lock_configuration = true")
        timer = Timer(seconds or 0, database.interrupt)
        if seconds is not None:
            timer.start()
        try:
            return _fetched(database.sql(sql).to_arrow_reader(10_000), limit)
        except duckdb.InterruptException as error:
            raise ElimError(f"the query took more than {seconds:g} s", "ask for less") from error
        except (duckdb.Error, pa.ArrowException) as error:
            raise _refused(error, runs) from error
        finally:
            timer.cancel()


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise ElimError("`elimtool query` needs the package duckdb", INSTALL) from error
    return duckdb


def _named(database: Any, duckdb: Any, sql: str, runs: Mapping[str, Run]) -> set[str]:
    """Check that a text is one SELECT, and name the tables in it."""
    try:
        statements = database.extract_statements(sql)
    except duckdb.Error as error:
        raise _refused(error, runs) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(one.type.name for one in statements) or "nothing"
        raise ElimError(
            f"a query must be one SELECT statement, got {kinds}",
            "such as SELECT outcome, count(*) FROM verdicts GROUP BY outcome",
        )
    try:
        return set(database.get_table_names(sql))
    except duckdb.Error as error:
        raise _refused(error, runs) from error


def _offer(database: Any, runs: Mapping[str, Run], named: set[str]) -> None:
    """Make the views that a query names; those of a thousand runs would take a while."""
    database.register(RUNS, pa.Table.from_pylist([_facts(*one) for one in runs.items()], _SCHEMA))
    for table in sorted(named & available(runs).keys()):
        parts = []
        for number, (name, run) in enumerate(runs.items()):
            if table in (*run.tables, *run.findings):
                data = dataset(run, table)
                _check_whole(data, run, table)
                database.register(source := f"_{number}_{table}", data)
                parts.append(f'SELECT {_before(name, run)}, * FROM "{source}"')
        database.execute(f'CREATE VIEW "{table}" AS {" UNION ALL BY NAME ".join(parts)}')


def available(runs: Mapping[str, Run]) -> dict[str, int]:
    """Count the rows of each table over all runs."""
    counts: dict[str, int] = {}
    for run in runs.values():
        for name in (*run.tables, *run.findings):
            counts[name] = counts.get(name, 0) + run.manifest.counts.get(name, 0)
    return counts


def _check_whole(data: Any, run: Run, table: str) -> None:
    counted = run.manifest.counts.get(table)
    if counted is not None and (rows := data.count_rows()) != counted:
        raise ElimError(
            f"{run.path}: table {table} has {rows:,} rows, and run.json counted {counted:,}",
            "a part is missing or was added: run the command again",
        )


_SCHEMA = pa.schema(list(FACTS.items()))


def _facts(name: str, run: Run) -> dict[str, Any]:
    """Return the row of a run in the view ``runs``."""
    manifest = run.manifest
    stated = manifest.to_dict()
    found = {key: stated.get(key) for key in FACTS}
    chains = manifest.chains if isinstance(manifest.chains, list) else []
    found |= {
        "run": name,
        "chains": [str(one["name"]) for one in chains if isinstance(one, dict) and "name" in one],
        "lens": str(manifest.lens.get("name")) if isinstance(manifest.lens, dict) else str(manifest.lens),
        "n_prompts": manifest.counts.get("prompts"),
        "config": json.dumps(manifest.config, sort_keys=True),
        "started": moment(manifest.started),
        "finished": moment(manifest.finished),
    }
    return found


def moment(text: str | None) -> Any:
    """Read a time of a manifest."""
    from datetime import datetime

    return None if text is None else datetime.fromisoformat(text)


def _before(name: str, run: Run) -> str:
    manifest: Manifest = run.manifest
    given = {
        "run": name,
        "model": manifest.model,
        "revision": manifest.revision,
        "label": manifest.label,
        "started": manifest.started,
    }
    return ", ".join(
        f"{_literal(given[key])}::{'TIMESTAMPTZ' if key == 'started' else 'VARCHAR'} AS {key}"
        for key in BEFORE
    )


def _literal(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def _fetched(reader: Any, limit: int | None) -> tuple[Any, bool]:
    """Read rows until there are enough."""
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += batch.num_rows
        if limit is not None and count > limit:
            break
    table = pa.Table.from_batches(batches, reader.schema)
    return (table, False) if limit is None or count <= limit else (table.slice(0, limit), True)


def _refused(error: Exception, runs: Mapping[str, Run]) -> ElimError:
    """Turn an error of DuckDB into one line."""
    text = str(error)
    first = " ".join(text.partition("\n\n")[0].split())
    if "file system operations are disabled" in text or "disabled by configuration" in text:
        return ElimError(
            "a query reads the tables of the runs and nothing else: no file, network or extension",
            f"the tables are {', '.join((RUNS, *available(runs)))}",
        )
    known = (RUNS, *available(runs))
    wanted = text.partition("Table with name ")[2].partition(" ")[0]
    hint = nearest(wanted, known) if wanted else "DESCRIBE TABLE lists the columns of a table"
    return ElimError(f"the query cannot be run: {first}", hint)

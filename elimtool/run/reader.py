"""Read a run back, its manifest and its tables, from a directory or from memory, without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from elimtool.errors import ElimError, checked_methods, nearest
from elimtool.files.replacing import MOVES, earlier
from elimtool.files.rows import Rows
from elimtool.run import layout
from elimtool.run.analysis import Analysis, open_analysis
from elimtool.run.columns import Table
from elimtool.run.manifest import Manifest
from elimtool.run.notebook import chosen, drawn
from elimtool.run.parts import frame, json_rows, read_parts, schema_of
from elimtool.run.roles import HeadProfile, read_profile
from elimtool.run.schema import ONE_PASS, TABLES, definition
from elimtool.run.tables.findings import COMMAND_OF, FINDING_TABLES, FINDINGS
from elimtool.run.weights import weights_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


def open_run(directory: str | Path) -> Run:
    """Open a finished run directory; each table is read when it is used.

    Args:
        directory: What ``-o`` named.

    Raises:
        ElimError: Not a run directory, an unfinished or damaged run, or one of a newer schema version.
    """
    path = Path(directory)
    if not path.is_dir():
        what = "is a file, not a run directory" if path.exists() else "does not exist"
        raise ElimError(f"{path} {what}", _where_the_run_is(path))
    try:
        contents = layout.look(path)
        manifest = path / layout.MANIFEST
        if not manifest.is_file():
            raise _no_manifest(path, contents)
        text = manifest.read_text(encoding="utf-8")
    except OSError as error:
        raise ElimError(f"cannot read {path}: {error.strerror or error}", "check its permissions") from error
    except UnicodeDecodeError as error:
        raise ElimError(f"{manifest} is damaged: it is not text", "run the command again") from error
    found = {name: files for name, files in contents.tables.items() if files}
    return Run(Manifest.from_json(text, where=str(manifest)), path, files=found)


def as_run(run: Run | str | Path) -> Run:
    """Return a run that is given as itself or as its directory.

    Raises:
        ElimError: As ``open_run``.
    """
    return run if isinstance(run, Run) else open_run(run)


@checked_methods
class Run:
    """One run: its manifest and its tables. Made by ``open_run``, ``Run.from_tables`` or ``elimtool.trace``.

    Args:
        manifest: What was run.
        path: Its directory; ``None`` for a run in memory.
        files: Table name -> the parts to read.
        memory: Table name -> ``pyarrow.Table``.
    """

    def __init__(
        self,
        manifest: Manifest,
        path: Path | None = None,
        files: Mapping[str, list[Path]] | None = None,
        memory: Mapping[str, Any] | None = None,
    ) -> None:
        self.manifest = manifest
        self.path = path
        self._files = dict(files or {})
        self._memory = dict(memory or {})
        self._pass: tuple[str | None] | None = None

    @classmethod
    def from_tables(cls, manifest: Manifest, tables: Mapping[str, Any]) -> Run:
        """Make a run in memory, with the interface of one on disk.

        Args:
            manifest: What was run; ``counts`` are filled in from the tables.
            tables: Table name -> ``pyarrow.Table`` that fits its schema.

        Raises:
            ValueError, TypeError: A table is unknown or does not fit its schema (a bug of the caller).
        """
        checked = {name: definition(name, table).conform(table) for name, table in tables.items()}
        return cls._of_checked(manifest, checked)

    @classmethod
    def _of_checked(cls, manifest: Manifest, memory: Mapping[str, Any]) -> Run:
        """Make a run of tables that were checked, by a run or by ``Table.from_rows``."""
        counts = {name: table.num_rows for name, table in sorted(memory.items())}
        return cls(manifest.model_copy(update={"counts": counts}), memory=memory)

    def with_rows(self, name: str, rows: Rows) -> Run:
        """Return this run, in memory, with one table made of rows added or replaced.

        Args:
            name: A key of ``TABLES``.
            rows: Column name -> value, ``None`` for null.
        """
        tables = {known: self.arrow(known) for known in self.tables}
        return Run._of_checked(self.manifest, {**tables, name: TABLES[name].from_rows(rows)})

    def only(self, names: Collection[str]) -> Run:
        """Return this run, in memory, with the named tables only."""
        tables = {name: self.arrow(name) for name in self.tables if name in names}
        return Run._of_checked(self.manifest, tables)

    def labelled(self, label: str | None) -> Run:
        """Return this run under a name of the user's; ``None`` leaves it as it is."""
        if label is None:
            return self
        one = copy(self)
        one.manifest = self.manifest.model_copy(update={"label": label})
        return one

    @property
    def interventions(self) -> str | None:
        """What was done to the model in the second pass, as in the column ``intervention``; or ``None``."""
        given = self.manifest.config.get("interventions") if isinstance(self.manifest.config, dict) else None
        return "; ".join(map(str, given)) if isinstance(given, list) and given else None

    @property
    def is_map(self) -> bool:
        """Whether it is what a map of a model was measured on, not a run of prompts."""
        return isinstance(self.manifest.config, dict) and "map" in self.manifest.config

    @property
    def noun(self) -> str:
        """What a row of ``prompts`` is called: a prompt, or in a map a passage, be it of text or a probe."""
        return "passage" if self.is_map else "prompt"

    @property
    def roles(self) -> dict[str, str]:
        """Role of each head, such as ``{"29.0": "suppressing"}``, by the map that the run was given."""
        return {head: str(role) for head, role in self._of_map("heads").items()}

    @property
    def head_profiles(self) -> dict[str, HeadProfile]:
        """What that map found of each head, such as of ``29.0``; empty without a map."""
        return {head: read_profile(head, stated) for head, stated in self._of_map("profiles").items()}

    def _of_map(self, key: str) -> dict[str, Any]:
        config = self.manifest.config
        given = config.get("roles") if isinstance(config, dict) else None
        found = given.get(key) if isinstance(given, dict) else None
        return {str(head): value for head, value in found.items()} if isinstance(found, dict) else {}

    @cached_property
    def n_layers(self) -> int | None:
        """Number of blocks; for a run of an earlier elimtool, as far as its tables tell."""
        layered = ("lens_layers", "attention_layers", "lens", "mechanisms")
        stated = self.manifest.n_layers
        return self._counted("layer", layered) if stated is None else stated

    @cached_property
    def n_heads(self) -> int | None:
        """Query heads per block; for a run of an earlier elimtool, as far as its tables tell."""
        stated = self.manifest.n_heads
        return self._counted("head", ("attention_heads",)) if stated is None else stated

    def _counted(self, column: str, names: Collection[str]) -> int | None:
        """Count a column's indices by the largest one in the first table that has rows."""
        filled = (self._whole(name) for name in names if name in self.tables)
        table = next((table for table in filled if table.num_rows), None)
        return None if table is None else int(pc.max(table.column(column)).as_py()) + 1

    def under(self, intervention: str | None) -> Run:
        """Return this run with the rows of one pass only.

        Args:
            intervention: ``None`` for the model's own pass, or ``Run.interventions`` for the other one.
        """
        one = copy(self)
        one._pass = (intervention,)
        return one

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables present, in the order of ``TABLES``."""
        present = self._files.keys() | self._memory.keys()
        known = [name for name in TABLES if name in present]
        return (*known, *sorted(present - set(known)))

    @property
    def analyses(self) -> tuple[str, ...]:
        """Commands, such as ``audit``, whose findings in this run are kept beside its tables."""
        there = () if self.path is None else layout.look(self.path).analyses
        return tuple(command for command in FINDINGS if command in there)

    @property
    def findings(self) -> tuple[str, ...]:
        """Names of the tables of all analyses; ``arrow`` and ``table`` read them like the run's own."""
        return tuple(name for command in self.analyses for name in FINDINGS[command])

    def analysis(self, command: str) -> Analysis:
        """Return what a command found in this run.

        Args:
            command: Such as ``audit``.

        Raises:
            ElimError: It was not run on this run, or what it wrote is damaged.
        """
        if self.path is None:
            raise ElimError("a run in memory has no analyses", "save it, or keep what the command returns")
        return open_analysis(self.path, command, self.manifest)

    def arrow(self, name: str) -> Any:
        """Return one table as a ``pyarrow.Table``: the parts in order, null and NaN as written.

        Columns added since the run was written are null. Tables of analyses have other names than all of the
        run's own.

        Raises:
            ElimError: No such table, or a part is missing or cannot be read.
        """
        table = self._whole(name)
        if self._pass is None or name in ONE_PASS or "intervention" not in table.column_names:
            return table
        wanted, found = self._pass[0], table.column("intervention")
        if wanted is None:  # mostly all rows: spare the copy
            return table if found.null_count == len(found) else table.filter(found.is_null())
        return table.filter(pc.equal(found, wanted))

    def _whole(self, name: str) -> Any:
        if name in self._memory:
            return self._memory[name]
        if name in COMMAND_OF and self.path is not None:
            return self.analysis(COMMAND_OF[name]).arrow(name)
        if name not in self._files:
            raise self._no_table(name)
        files = self._files[name]
        table = read_parts(files, self.manifest.counts.get(name), layout.MANIFEST)
        return TABLES[name].completed(table, str(files[0].parent)) if name in TABLES else table

    def definition(self, name: str) -> Table:
        """Return what a table and its columns mean: by the schema, or, of a plugin's, by what it carries.

        Raises:
            ElimError: No such table, or a part cannot be read.
        """
        if (known := TABLES.get(name) or FINDING_TABLES.get(name)) is not None:
            return known
        if name not in self._files:
            return Table.of_schema(name, self._whole(name).schema)
        return Table.of_schema(name, schema_of(self._files[name][0]))

    def table(self, name: str) -> pd.DataFrame:
        """Return one table as a ``pandas.DataFrame``.

        Types follow the schema, never the data: integers and booleans are ``Int32`` and ``boolean`` if they
        may be null (null is ``pd.NA``), else ``int32`` and ``bool``; floats are ``float64`` or ``float32``,
        with NaN for null; texts are pandas' string type; lists are arrays. ``isna()`` finds every null. To
        tell null from a written NaN, use ``arrow``.

        Raises:
            ElimError: No such table, or a part is missing or cannot be read.
        """
        return frame(self.arrow(name))

    def attention(self, layer: int, head: int, prompt: str | None = None) -> NDArray[np.float32]:
        """Return the attention weights of one head, as far as they were kept.

        They are kept by ``elimtool.trace(..., keep_attention=True)``, or of the heads of ``attention_of``.

        Args:
            layer: The block, from 0.
            head: The query head, from 0.
            prompt: Id of the prompt; ``None`` for the only one.

        Returns:
            Shares, [probed positions in order, keys up to the last of them]; NaN where the query cannot see
            the key: later ones, and those outside a sliding window.

        Raises:
            ElimError: Nothing was kept of this head, or there are several prompts and none is named.
        """
        return weights_of(self.arrow("attention_weights"), self.arrow("prompts"), layer, head, prompt)

    @property
    def prompts(self) -> pd.DataFrame:
        """The table ``prompts``."""
        return self.table("prompts")

    def save(self, directory: str | Path, overwrite: bool = False) -> Manifest:
        """Write the run to a directory, one part per table.

        Raises:
            ElimError: The directory is in use or cannot be written.
        """
        from elimtool.run.writer import RunWriter

        with RunWriter(directory, self.manifest, overwrite=overwrite) as writer:
            for name in self.tables:
                writer.write_part(name, 0, self.arrow(name), checked=name in self._memory)
            return writer.finish(self.manifest.finished)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON's own types: ``{"run": manifest, "tables": {name: [row, ...]}}``.

        NaN and infinities, which JSON cannot express, become ``None``.
        """
        rows = {name: json_rows(self.arrow(name)) for name in self.tables}
        return {"run": self.manifest.to_dict(), "tables": rows}

    def figure(self, name: str, **choices: Any) -> Any:
        """Return one figure, which a notebook shows and ``save`` writes as PNG, SVG or PDF.

        Args:
            name: Its name, such as ``logit_lens``; a wrong one gets the list.
            choices: ``prompt``, ``position``, ``target``, ``layer``, ``span``, ``head`` or ``foil``, as for
                ``elimtool report --figure``.

        Raises:
            ElimError: There is no such figure, or the run lacks what it needs.
        """
        return chosen(self, name, choices)

    def _repr_html_(self) -> str:
        """Return the report of the run, as a notebook shows it."""
        return drawn(self)

    def __repr__(self) -> str:
        where = self.path if self.path is not None else "in memory"
        return f"Run({self.manifest.model}, {where}, tables: {', '.join(self.tables) or 'none'})"

    def _no_table(self, name: str) -> ElimError:
        where = self.path if self.path is not None else "this run"
        if self.manifest.counts.get(name):
            return ElimError(
                f"{where} has lost its table '{name}'", "restore the folder or run the command again"
            )
        if name in COMMAND_OF:
            return ElimError(f"{where} has no table '{name}'", f"elimtool {COMMAND_OF[name]} makes it")
        if name in TABLES:
            return ElimError(f"{where} has no table '{name}'", f"it has: {', '.join(self.tables) or 'none'}")
        return ElimError(f"there is no table '{name}'", nearest(name, self.tables))


def _where_the_run_is(path: Path) -> str:
    for folder in path.parents:
        if (folder / layout.MANIFEST).is_file():
            return f"the run directory is {folder}"
        if folder == path.parent.parent:
            break
    return "give the directory that the run was written to"


def _no_manifest(path: Path, contents: layout.Contents) -> ElimError:
    if (path / layout.COMPARISON).is_file():
        hint = f"elimtool compare {path} tells it; elimtool.open_comparison reads it"
        return ElimError(f"{path} is a comparison, not a run", hint)
    kept = earlier(path)
    if contents.state and not any((one / MOVES).is_file() for one in kept):
        hint = f"elimtool run status {path} says how far; if it was interrupted, its batch command goes on"
        hint += f"; the run that was there is in {kept[-1]} until then" if kept else ""
        return ElimError(f"{path} holds an unfinished batch: there is no {layout.MANIFEST}", hint)
    if kept:
        part = kept[-1] / MOVES
        where = f"partly in {kept[-1]}: move what is there back" if part.is_file() else f"in {kept[-1]}"
        return ElimError(f"{path} was left in the middle of being replaced", f"the earlier run is {where}")
    if contents.is_run:
        hint = "run the command again, with `overwrite`"
        return ElimError(f"{path} holds an unfinished run: there is no {layout.MANIFEST}", hint)
    return ElimError(f"{path} is not a run directory: there is no {layout.MANIFEST}", _where_the_run_is(path))

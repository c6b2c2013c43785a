"""Keep what a command found in a run, as tables beside the run's own: ``DIR/analysis/COMMAND``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from elimtool.errors import ElimError, checked_methods, nearest
from elimtool.run import layout
from elimtool.run.manifest import BaseManifest, Manifest, Plain, canonical_json
from elimtool.run.parts import frame, json_rows, read_parts
from elimtool.run.schema import SCHEMA_VERSION
from elimtool.run.tables.findings import FINDINGS
from elimtool.version import __version__

if TYPE_CHECKING:
    import pandas as pd

LIBRARIES = ("numpy", "pandas", "pyarrow", "scipy")
"""Packages whose versions may change a number of an analysis."""


class AnalysisManifest(BaseManifest):
    """The contents of ``analysis.json``: what was asked of which run, and what was left out."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of the tables' columns and these keys.")
    elimtool: str = Field(description="Version of elimtool.")
    command: str = Field(description="Command that made it.")
    run: str = Field(description="Fingerprint of the run.")
    model: str = Field(description="Model of the run, as it was named.")
    options: Plain = Field(description="All options of the command, in full.")
    seed: int = Field(description="Seed of intervals, p-values and whatever else is drawn.")
    versions: dict[str, str] = Field(description="Versions of the packages that the numbers depend on.")
    notes: list[str] = Field(description="What was left out, and why, a sentence each.")
    together: Plain = Field(
        None,
        description="Of what was found in several runs: what they have in common, as run.json says it. Else"
        " left out.",
    )
    counts: dict[str, int] = Field(default_factory=dict, description="Rows written, by table.")

    def finish(self, counts: dict[str, int], finished: str | None = None) -> Self:
        """Return the finished manifest; it has no times, so that one analysis is always the same bytes."""
        del finished
        return self.model_copy(update={"counts": dict(sorted(counts.items()))})

    def _stated(self) -> dict[str, Any]:
        return self.model_dump(exclude={"together"} if self.together is None else None)

    def _facts(self) -> dict[str, Any]:
        return {key: value for key, value in self._stated().items() if key != "counts"}

    def to_dict(self) -> dict[str, Any]:
        """Return all keys of ``analysis.json``, ``fingerprint`` included, as JSON's own types."""
        return {"fingerprint": self.fingerprint, **self._stated()}

    def parquet_metadata(self) -> dict[str, str]:
        """Return the file metadata of every part: ``elimtool.KEY`` -> the value of each fact as JSON."""
        facts = {"fingerprint": self.fingerprint, **self._facts()}
        return {f"elimtool.{key}": canonical_json(facts[key]) for key in sorted(facts)}


@checked_methods
@dataclass(frozen=True)
class Analysis:
    """What a command found in a run.

    Args:
        manifest: What was asked of which run.
        tables: Table name -> ``pyarrow.Table``, those of ``FINDINGS`` that the command fills.
        path: Its directory; ``None`` for one in memory.
    """

    manifest: AnalysisManifest
    tables: Mapping[str, Any]
    path: Path | None = None

    @classmethod
    def of(
        cls,
        command: str,
        run: Manifest,
        tables: Mapping[str, Any],
        options: Mapping[str, Any],
        seed: int,
        notes: Iterable[str] = (),
        together: bool = False,
    ) -> Analysis:
        """Make an analysis in memory.

        Args:
            command: A key of ``FINDINGS``.
            run: What the analysed run is; of several, ``in_common`` of them.
            tables: Table name -> ``pyarrow.Table`` that fits its schema, all of the command's.
            options: All options of the command.
            seed: Seed of whatever was drawn.
            notes: What was left out, and why, a sentence each.
            together: Whether it is of several runs: what they have in common is kept with it.

        Raises:
            ValueError, TypeError: A table is missing, unknown or does not fit its schema: the caller's bug.
        """
        known = FINDINGS[command]
        if wrong := sorted(set(tables) ^ set(known)):
            raise ValueError(f"tables of '{command}' that are missing or unknown: {wrong}")
        kept = {name: table.conform(tables[name]) for name, table in known.items()}
        manifest = AnalysisManifest(
            elimtool=__version__,
            command=command,
            run=run.fingerprint,
            model=run.model,
            options=dict(options),
            seed=seed,
            versions=dict(_versions()),
            notes=list(notes),
            together=run.facts() if together else None,
        )
        return cls(manifest.finish({name: table.num_rows for name, table in kept.items()}), kept)

    @property
    def command(self) -> str:
        """The command that made it."""
        return self.manifest.command

    def arrow(self, name: str) -> Any:
        """Return one table as a ``pyarrow.Table``.

        Raises:
            ElimError: The analysis has no such table.
        """
        if name not in self.tables:
            raise ElimError(
                f"there is no table '{name}' of {self.command}", nearest(name, tuple(self.tables))
            )
        return self.tables[name]

    def table(self, name: str) -> pd.DataFrame:
        """Return one table as a ``pandas.DataFrame``, with the types that ``Run.table`` describes.

        Raises:
            ElimError: The analysis has no such table.
        """
        return frame(self.arrow(name))

    def save(self, directory: str | Path) -> Path:
        """Write the analysis beside the tables of a run, complete or not at all; an earlier one is replaced.

        Args:
            directory: The run directory.

        Returns:
            Its own directory.

        Raises:
            ElimError: It cannot be written.
        """
        from elimtool.run.writer import RunWriter

        path = analysis_path(Path(directory), self.command)
        with RunWriter(path, self.manifest, overwrite=True, form=form_of(self.command)) as writer:
            for name, table in self.tables.items():
                writer.write_part(name, 0, table, checked=True)
            writer.finish()
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return JSON's own types: ``{"analysis": manifest, "tables": {name: [row, ...]}}``."""
        rows = {name: json_rows(table) for name, table in self.tables.items()}
        return {"analysis": self.manifest.to_dict(), "tables": rows}

    def __repr__(self) -> str:
        where = self.path if self.path is not None else "in memory"
        return f"Analysis({self.command} of {self.manifest.model}, {where})"


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def form_of(command: str) -> layout.Form:
    """Return what the directory of a command's analysis consists of."""
    return layout.Form("analysis", layout.ANALYSIS_FILE, FINDINGS[command])


def analysis_path(directory: Path, command: str) -> Path:
    """Return where the analysis of a command is, in a run directory."""
    return directory / layout.ANALYSIS / command


def open_analysis(directory: Path, command: str, run: Manifest) -> Analysis:
    """Read the analysis of a command from a run directory.

    Args:
        directory: The run directory.
        command: A key of ``FINDINGS``.
        run: The manifest of the run that is there.

    Raises:
        ElimError: There is none, it is damaged, or it is of another run than the one that is there.
    """
    path = analysis_path(directory, command)
    again = f"make it with: elimtool {command} {'MODEL -o ' if command == 'map' else ''}{directory}"
    if command not in FINDINGS:
        raise ElimError(f"there is no analysis '{command}'", nearest(command, tuple(FINDINGS)))
    file = path / layout.ANALYSIS_FILE
    if not file.is_file():
        raise ElimError(f"{directory} has no analysis '{command}'", again)
    try:
        contents = layout.look(path, form_of(command))
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ElimError(f"cannot read {path}: {error.strerror or error}", "check its permissions") from error
    except UnicodeDecodeError as error:
        raise ElimError(f"{file} is damaged: it is not text", again) from error
    manifest = AnalysisManifest.from_json(text, str(file))
    if manifest.run != run.fingerprint:
        raise ElimError(f"{path} is of another run than the one in {directory}", again)
    # a table that came with a later version has no rows in what an earlier one wrote
    if lost := sorted(name for name in manifest.counts if not contents.tables.get(name)):
        raise ElimError(f"{path} has lost its table '{lost[0]}'", again)
    tables = {
        name: table.completed(
            read_parts(contents.tables[name], manifest.counts[name], layout.ANALYSIS_FILE), str(path / name)
        )
        if name in manifest.counts
        else table.schema.empty_table()
        for name, table in FINDINGS[command].items()
    }
    return Analysis(manifest, tables, path)

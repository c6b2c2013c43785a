"""Keep a comparison, its manifest and its tables, in memory or as a directory; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from elimtool.errors import ElimError, checked_methods, nearest
from elimtool.run import layout
from elimtool.run.manifest import BaseManifest, Manifest, Plain, Time, canonical_json, utc_now
from elimtool.run.notebook import drawn
from elimtool.run.parts import frame, json_rows, read_parts
from elimtool.run.schema import SCHEMA_VERSION
from elimtool.run.tables.comparison import COMPARISON_TABLES
from elimtool.version import __version__

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["prompts", "models", "runs", "chains", "maps"]

FORM = layout.Form("comparison", layout.COMPARISON, COMPARISON_TABLES)


class ComparisonManifest(BaseManifest):
    """The contents of ``comparison.json``: both sides, the options, and notes on the result."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of the tables' columns and these keys.")
    elimtool: str = Field(description="Version of elimtool.")
    kind: Kind = Field(description="What the sides are: prompts, models, runs, chains or maps.")
    a: Manifest = Field(description="What made side A: the keys of its run.json, without times and counts.")
    b: Manifest = Field(description="What made side B, likewise.")
    options: Plain = Field(description="All options of the comparison, in full.")
    notes: list[str] = Field(description="What else differs, and what could not be compared.")
    unpaired: dict[str, int] = Field(description="Number of prompts that only side a or b has.")
    started: Time | None = Field(None, description="When the comparison began (UTC, ISO 8601).")
    finished: Time | None = Field(None, description="When it was complete (UTC, ISO 8601).")
    counts: dict[str, int] = Field(default_factory=dict, description="Rows written, by table.")

    def _facts(self) -> dict[str, Any]:
        facts = self.model_dump(exclude={"started", "finished", "counts", "a", "b"})
        return {**facts, "a": self.a.facts(), "b": self.b.facts()}

    def to_dict(self) -> dict[str, Any]:
        """Return all keys of ``comparison.json``, ``fingerprint`` included, as JSON's own types."""
        times = {"started": self.started, "finished": self.finished, "counts": self.counts}
        return {"fingerprint": self.fingerprint, **self._facts(), **times}

    def parquet_metadata(self) -> dict[str, str]:
        """Return the file metadata of every part: which comparison it belongs to."""
        return {
            "elimtool.comparison": self.fingerprint,
            "elimtool.kind": canonical_json(self.kind),
            "elimtool.schema_version": canonical_json(self.schema_version),
        }

    @field_validator("a", "b", mode="before")
    @classmethod
    def _without_fingerprint(cls, side: Any) -> Any:
        """Drop a side's fingerprint, which follows from its facts, before the facts are checked."""
        return {key: side[key] for key in side if key != "fingerprint"} if isinstance(side, dict) else side


class ReadTables(Mapping[str, Any]):
    """Tables of a comparison, each read when it is first used, and then kept.

    Args:
        reads: Table name -> function that reads it.
    """

    def __init__(self, reads: Mapping[str, Callable[[], Any]]) -> None:
        self._reads = reads
        self._kept: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The table, read now if it was not before."""
        if name not in self._kept:
            self._kept[name] = self._reads[name]()
        return self._kept[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is such a table; nothing is read."""
        return name in self._reads

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._reads)

    def __len__(self) -> int:
        """Number of tables."""
        return len(self._reads)


@checked_methods
@dataclass(frozen=True)
class Comparison:
    """Side A compared with side B, pair by pair; every difference is B minus A.

    Args:
        manifest: What was compared.
        tables: Table name -> ``pyarrow.Table``, those of ``COMPARISON_TABLES`` that this kind fills.
        path: Its directory; ``None`` for one in memory.
    """

    manifest: ComparisonManifest
    tables: Mapping[str, Any]
    path: Path | None = None

    @classmethod
    def of(
        cls,
        kind: Kind,
        a: Manifest,
        b: Manifest,
        tables: Mapping[str, Any],
        *,
        options: Mapping[str, Any] | None = None,
        notes: list[str] | None = None,
        unpaired: tuple[int, int] = (0, 0),
        started: str | None = None,
    ) -> Comparison:
        """Make a comparison in memory.

        Args:
            kind: What the sides are.
            a: What made side A; its times and counts are left out.
            b: What made side B.
            tables: Table name -> ``pyarrow.Table`` that fits its schema.
            options: All options of the comparison.
            notes: What else differs, and what could not be compared, a sentence each.
            unpaired: Number of prompts that only side A has, and only side B.
            started: When it began (default: now).

        Raises:
            ValueError, TypeError: A table is unknown or does not fit its schema (a bug of the caller).
        """
        if unknown := sorted(set(tables) - set(COMPARISON_TABLES)):
            raise ValueError(f"no such table: {unknown}")
        kept = {name: one.conform(tables[name]) for name, one in COMPARISON_TABLES.items() if name in tables}
        manifest = ComparisonManifest(
            elimtool=__version__,
            kind=kind,
            a=a.without_times(),
            b=b.without_times(),
            options=dict(options or {}),
            notes=list(notes or ()),
            unpaired={"a": unpaired[0], "b": unpaired[1]},
            started=started or utc_now(),
        )
        counts = {name: table.num_rows for name, table in kept.items()}
        return cls(manifest.finish(counts), kept)

    @property
    def kind(self) -> Kind:
        """What the sides are."""
        return self.manifest.kind

    @property
    def a(self) -> Manifest:
        """What made side A."""
        return self.manifest.a

    @property
    def b(self) -> Manifest:
        """What made side B."""
        return self.manifest.b

    @property
    def options(self) -> Any:
        """All options of the comparison, as JSON's own types."""
        return self.manifest.options

    @property
    def notes(self) -> list[str]:
        """What else differs, and what could not be compared."""
        return self.manifest.notes

    def arrow(self, name: str) -> Any:
        """Return one table as a ``pyarrow.Table``.

        Raises:
            ElimError: This comparison has no such table.
        """
        if name in self.tables:
            return self.tables[name]
        if name in COMPARISON_TABLES:
            raise ElimError(
                f"this comparison has no table '{name}'", f"it has: {', '.join(self.tables) or 'none'}"
            )
        raise ElimError(f"there is no table '{name}'", nearest(name, tuple(COMPARISON_TABLES)))

    def table(self, name: str) -> pd.DataFrame:
        """Return one table as a ``pandas.DataFrame``, with the types that ``Run.table`` describes.

        Raises:
            ElimError: This comparison has no such table.
        """
        return frame(self.arrow(name))

    def save(self, directory: str | Path, overwrite: bool = False) -> ComparisonManifest:
        """Write the comparison to a directory, one part per table, ``comparison.json`` last.

        Raises:
            ElimError: The directory is in use or cannot be written.
        """
        from elimtool.run.writer import RunWriter

        with RunWriter(directory, self.manifest, overwrite=overwrite, form=FORM) as writer:
            for name, table in self.tables.items():
                writer.write_part(name, 0, table)
            return writer.finish(self.manifest.finished)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON's own types: ``{"comparison": manifest, "tables": {name: [row, ...]}}``."""
        rows = {name: json_rows(table) for name, table in self.tables.items()}
        return {"comparison": self.manifest.to_dict(), "tables": rows}

    def _repr_html_(self) -> str:
        """Return the report of the comparison, as a notebook shows it."""
        return drawn(self)

    def __repr__(self) -> str:
        where = self.path if self.path is not None else "in memory"
        return f"Comparison({self.kind}: {self.a.model} and {self.b.model}, {where})"


def is_comparison(directory: str | Path) -> bool:
    """Return whether a directory holds a finished comparison."""
    return (Path(directory) / layout.COMPARISON).is_file()


def open_comparison(directory: str | Path) -> Comparison:
    """Open a comparison directory; each table is read when it is first used.

    Args:
        directory: What ``-o`` of ``elimtool compare`` named.

    Raises:
        ElimError: Not a comparison, a damaged one, or one of a newer schema version.
    """
    path = Path(directory)
    file = path / layout.COMPARISON
    if not file.is_file():
        what = "is not a comparison: there is no comparison.json" if path.is_dir() else "does not exist"
        raise ElimError(f"{path} {what}", "give the directory that the comparison was written to")
    try:
        contents = layout.look(path, FORM)
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ElimError(f"cannot read {path}: {error.strerror or error}", "check its permissions") from error
    except UnicodeDecodeError as error:
        raise ElimError(f"{file} is damaged: it is not text", "run the command again") from error
    manifest = ComparisonManifest.from_json(text, str(file))
    if lost := sorted(name for name in manifest.counts if not contents.tables.get(name)):
        raise ElimError(
            f"{path} has lost its table '{lost[0]}'", "restore the folder or run the command again"
        )

    def read(name: str) -> Any:
        table = read_parts(contents.tables[name], manifest.counts[name], layout.COMPARISON)
        return completed(name, table, path)

    known = [name for name in COMPARISON_TABLES if name in manifest.counts]
    names = [*known, *(name for name in manifest.counts if name not in COMPARISON_TABLES)]
    return Comparison(manifest, ReadTables({name: partial(read, name) for name in names}), path)


def completed(name: str, table: Any, path: Path) -> Any:
    """Check a table of a comparison's directory, and add the columns that an earlier version lacks.

    Raises:
        ElimError: It was changed after it was written.
    """
    known = COMPARISON_TABLES.get(name)
    return table if known is None else known.completed(table, str(path / name))

"""Read a run's tables by prompt and position, for stories and figures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import isnan
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elimtool.files.rows import Row, Rows
from elimtool.report.pieces import joined
from elimtool.run.reader import Run
from elimtool.run.selection import WALKS

UNKNOWN = -1
"""Stands for a token id that a run does not keep."""
WHOLE = ("lens_layers", "top_tokens", "lens", "attention_layers")
"""Tables with rows at every probed position, whatever is followed there."""


@dataclass(frozen=True)
class Trajectory:
    """Ranks of one followed token over the layers.

    Attributes:
        target: The string as it was asked for.
        token_id: Its first token, the one that is read.
        is_foil: Whether it is only contrasted with the targets.
        ambiguous: Whether another target or foil has the same token.
        ranks: (layer, rank), the embedding (-1) first, the model's output last; none without the table lens.
        rank: Rank in the model's output.
        prob: Probability in the model's output.
        ties: Other tokens with the same logit in the output.
        whole_logprob: Joint log-probability of all tokens of the target; None where not measured.
    """

    target: str
    token_id: int
    is_foil: bool
    ambiguous: bool
    ranks: tuple[tuple[int, int], ...]
    rank: int
    prob: float
    ties: int
    whole_logprob: float | None


class TableSource(Protocol):
    """Where tables come from: a run or a comparison."""

    @property
    def tables(self) -> Collection[str]:
        """Names of the tables present."""

    def arrow(self, name: str) -> Any:
        """One table as a ``pyarrow.Table``."""


class Keyed:
    """Tables that are read once and looked up by a key; a missing table has no rows.

    Args:
        source: A run or a comparison.
        key: The column that joins its tables.
    """

    def __init__(self, source: TableSource, key: str) -> None:
        self._source = source
        self._key = key
        self._read: dict[str, Any] = {}
        self._stretches: dict[str, dict[str, list[tuple[int, int]]]] = {}

    def arrow(self, name: str) -> Any:
        """The table, or None."""
        if name not in self._read:
            table = self._source.arrow(name) if name in self._source.tables else None
            # one chunk, so that the slices of a key need no copies
            self._read[name] = None if table is None else table.combine_chunks()
        return self._read[name]

    def all(self, name: str) -> Rows:
        """All rows of a table."""
        table = self.arrow(name)
        rows: Rows = [] if table is None else table.to_pylist()
        return rows

    def rows(self, name: str, key: str, position: int | None = None) -> Rows:
        """Rows of one key, and one position if given; NaN reads as None."""
        part = self.part(name, key, position)
        if part is None:
            return []
        return [{key: _known(value) for key, value in row.items()} for row in part.to_pylist()]

    def part(self, name: str, key: str, position: int | None = None) -> Any:
        """The same as an Arrow table; None where there is no table."""
        table = self.arrow(name)
        if table is None:
            return None
        slices = [table.slice(start, count) for start, count in self._places(name).get(key, ())]
        part = pa.concat_tables(slices) if slices else table.slice(0, 0)
        return part if position is None else part.filter(pc.equal(part.column("position"), position))

    def _places(self, name: str) -> dict[str, list[tuple[int, int]]]:
        """The (first row, count) of every unbroken stretch of rows with the same key."""
        if name not in self._stretches:
            ids = self.arrow(name).column(self._key).combine_chunks().dictionary_encode()
            codes = ids.indices.to_numpy(zero_copy_only=False)
            borders = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
            # one pass over the ids: filtering the table for each prompt would be quadratic in prompts
            stretches: dict[str, list[tuple[int, int]]] = {}
            for start, end in pairwise(borders):
                if end > start:
                    key = ids.dictionary[int(codes[start])].as_py()
                    stretches.setdefault(key, []).append((start, end - start))
            self._stretches[name] = stretches
        return self._stretches[name]


class Tables(Keyed):
    """A run's tables by prompt."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, "prompt_id")
        self.run = run

    def positions(self, prompt_id: str) -> list[int]:
        """Probed positions of a prompt, ascending."""
        # a run may hold only some tables (--tables): the first of these that has rows says what was probed
        probed = (name for name in self.run.tables if name not in WALKS)
        for name in sorted(probed, key=lambda one: one not in WHOLE):
            table = self.arrow(name)
            if table is not None and table.num_rows and "position" in table.column_names:
                return sorted(set(self.part(name, prompt_id).column("position").to_pylist()))
        return []


def without_weights(layers: Sequence[int], reasons: Sequence[str | None]) -> str:
    """Say which layers have no attention weights and why; empty where all have.

    Args:
        layers: Layers, each once or more.
        reasons: The reason of each, ``None`` where it has weights.
    """
    by_reason: dict[str, set[int]] = {}
    for layer, reason in zip(layers, reasons, strict=True):
        if reason is not None:
            by_reason.setdefault(reason, set()).add(layer)
    every = set(layers)
    return "; ".join(
        f"no attention in {'any layer' if some == every else 'layers ' + _ranges(sorted(some))} ({reason})"
        for reason, some in by_reason.items()
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers, such as 0-2, 4."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


class Probe:
    """What was measured at one position of one prompt."""

    def __init__(self, tables: Tables, prompt: Row, position: int) -> None:
        self.prompt = prompt
        self.position = position
        self._tables = tables
        self._rows: dict[str, Rows] = {}

    @property
    def run(self) -> Run:
        """The run."""
        return self._tables.run

    def rows(self, name: str) -> Rows:
        """Rows of a table at this position."""
        if name not in self._rows:
            self._rows[name] = self._tables.rows(name, self.prompt["prompt_id"], self.position)
        return self._rows[name]

    def part(self, name: str) -> Any:
        """The same as an Arrow table; None where there is no table."""
        return self._tables.part(name, self.prompt["prompt_id"], self.position)

    @property
    def without_weights(self) -> str:
        """Say which layers have no attention weights and why; empty where all have."""
        found = self.columns("attention_layers", ("layer", "no_weights"))
        return without_weights(found["layer"], found["no_weights"])

    def notes(self, key: str) -> list[str]:
        """Notes on this prompt, from one list of notes in ``run.json``."""
        config = self.run.manifest.config
        notes = config.get(key, []) if isinstance(config, dict) else []
        start = f"{self.prompt['prompt_id']}: "
        listed = [str(note) for note in notes] if isinstance(notes, list) else []
        return [note.removeprefix(start) for note in listed if note.startswith(start)]

    def columns(self, name: str, wanted: Sequence[str]) -> dict[str, list[Any]]:
        """Columns of a table at this position; a column that the table lacks is all None."""
        return _columns(self.part(name), wanted)

    def of_prompt(self, name: str, wanted: Sequence[str]) -> dict[str, list[Any]]:
        """The same at all probed positions of the prompt."""
        return _columns(self._tables.part(name, self.prompt["prompt_id"]), wanted)

    @property
    def asked(self) -> bool:
        """Whether the user named targets; else the model's own candidates are followed."""
        return bool(self.prompt["targets"])

    @property
    def tokens(self) -> list[str]:
        """Tokens of the prompt."""
        return list(self.prompt["tokens"] or [])

    @cached_property
    def spellings(self) -> dict[str, str]:
        """Targets and foils that were asked for, each with its text as it was scored."""
        asked = [*(self.prompt["targets"] or ()), *(self.prompt["foils"] or ())]
        return dict(zip(asked, self.prompt["spellings"] or asked, strict=True))

    @cached_property
    def shown(self) -> list[str]:
        """Tokens of the prompt for people, pieces of a character joined on the first of them."""
        return joined(self.tokens)

    @cached_property
    def lens(self) -> str:
        """Name of the lens."""
        rows = self.rows("lens_layers") or self.rows("lens")
        return str(rows[0]["lens"]) if rows else str(self.run.manifest.lens)

    @cached_property
    def trajectories(self) -> list[Trajectory]:
        """Followed tokens in the order of the request, foils last; without ``lens`` the end of targets."""
        survival = {(row["target"], row["token_id"]): row for row in self.rows("survival")}
        followed: dict[tuple[str, int], Rows] = {}
        for row in self.rows("lens"):
            followed.setdefault((row["target"], row["token_id"]), []).append(row)
        if not followed:
            return [_ended(row) for row in self.rows("survival") or self.rows("verdicts")]
        tokens = [token for _, token in followed]
        found = [
            _trajectory(rows, survival.get(key, {}), tokens.count(key[1]) > 1)
            for key, rows in followed.items()
        ]
        return sorted(found, key=lambda one: one.is_foil)


def _trajectory(rows: Rows, survival: Row, ambiguous: bool) -> Trajectory:
    ordered = sorted(rows, key=lambda row: int(row["layer"]))
    last = ordered[-1]
    return Trajectory(
        target=last["target"],
        token_id=last["token_id"],
        is_foil=last["is_foil"],
        ambiguous=bool(survival.get("ambiguous", ambiguous)),
        ranks=tuple((row["layer"], row["rank"]) for row in ordered),
        rank=last["rank"],
        prob=last["prob"] or 0.0,
        ties=last["rank_ties"],
        whole_logprob=survival.get("target_logprob"),
    )


def _ended(row: Row) -> Trajectory:
    """A target of which only the end is known, from its row of ``survival`` or of ``verdicts``."""
    return Trajectory(
        target=row["target"],
        token_id=row.get("token_id", UNKNOWN),
        is_foil=False,
        ambiguous=bool(row.get("ambiguous")),
        ranks=(),
        rank=row["rank"] if "rank" in row else row["final_rank"],
        prob=(row["prob"] if "prob" in row else row["final_prob"]) or 0.0,
        ties=0,
        whole_logprob=row.get("target_logprob"),
    )


def _columns(part: Any, wanted: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of an Arrow table, or of none, as lists."""
    if part is None:
        return {column: [] for column in wanted}
    return {
        column: [_known(value) for value in part.column(column).to_pylist()]
        if column in part.column_names
        else [None] * part.num_rows
        for column in wanted
    }


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and isnan(value) else value

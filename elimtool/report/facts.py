"""Read a run's tables by prompt and position, for stories and figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from elimtool.files.rows import Row, Rows
from elimtool.report.followed import Trajectory, ended, named_once, trajectory
from elimtool.report.keyed import Keyed, known
from elimtool.report.pieces import joined
from elimtool.run.reader import Run
from elimtool.run.selection import WALKS

WHOLE = ("lens_layers", "top_tokens", "lens", "attention_layers")
"""Tables with rows at every probed position, whatever is followed there."""


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
            return named_once([ended(row) for row in self.rows("survival") or self.rows("verdicts")])
        tokens = [token for _, token in followed]
        found = [
            trajectory(rows, survival.get(key, {}), tokens.count(key[1]) > 1)
            for key, rows in followed.items()
        ]
        return named_once(sorted(found, key=lambda one: one.is_foil))


def _columns(part: Any, wanted: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of an Arrow table, or of none, as lists."""
    if part is None:
        return {column: [] for column in wanted}
    return {
        column: [known(value) for value in part.column(column).to_pylist()]
        if column in part.column_names
        else [None] * part.num_rows
        for column in wanted
    }

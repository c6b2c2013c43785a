"""The rows of one prompt and position out of a run's tables, as the pieces of a story need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any

import pyarrow.compute as pc

from elimtool.run.reader import Run

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Trajectory:
    """One followed token's way through the layers.

    Attributes:
        target: The string as it was scored.
        token_id: The token that stands for it.
        is_foil: It is only contrasted with the targets.
        ambiguous: Another target or foil has the same token.
        ranks: (layer, rank), the embedding (-1) first, the model's output last.
        prob: Probability in the model's output.
        ties: Other tokens with the same logit in the output.
        whole_logprob: Joint log-probability of all tokens of the target; None where not measured.
    """

    target: str
    token_id: int
    is_foil: bool
    ambiguous: bool
    ranks: tuple[tuple[int, int], ...]
    prob: float
    ties: int
    whole_logprob: float | None


class Tables:
    """A run's tables, each read once; a table that the run lacks has no rows."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._read: dict[str, Any] = {}

    def arrow(self, name: str) -> Any:
        """The table, or None."""
        if name not in self._read:
            self._read[name] = self.run.arrow(name) if name in self.run.tables else None
        return self._read[name]

    def rows(self, name: str, prompt_id: str, position: int | None = None) -> list[dict[str, Any]]:
        """Rows of one prompt, and one position if given; NaN reads as None."""
        table = self.arrow(name)
        if table is None or not table.num_rows:
            return []
        wanted = pc.field("prompt_id") == prompt_id
        if position is not None:
            wanted = wanted & (pc.field("position") == position)
        found = table.filter(wanted).to_pylist()
        return [{key: _known(value) for key, value in row.items()} for row in found]

    def positions(self, prompt_id: str) -> list[int]:
        """Probed positions of a prompt, ascending."""
        for name in ("lens_layers", "lens", "attention_layers"):
            table = self.arrow(name)
            if table is not None and table.num_rows:
                found = table.filter(pc.field("prompt_id") == prompt_id).column("position")
                return sorted(set(found.to_pylist()))
        return []


class Probe:
    """What was measured at one position of one prompt."""

    def __init__(self, tables: Tables, prompt: Row, position: int) -> None:
        self.prompt = prompt
        self.position = position
        self._tables = tables

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of a table at this position."""
        return self._tables.rows(name, self.prompt["prompt_id"], self.position)

    @property
    def tokens(self) -> list[str]:
        """Tokens of the prompt."""
        return list(self.prompt["tokens"] or [])

    @cached_property
    def lens(self) -> str:
        """Name of the lens."""
        rows = self.rows("lens_layers") or self.rows("lens")
        return str(rows[0]["lens"]) if rows else str(self._tables.run.manifest.lens)

    @cached_property
    def trajectories(self) -> list[Trajectory]:
        """Followed tokens in the order in which they were asked for, foils last."""
        survival = {(row["target"], row["token_id"]): row for row in self.rows("survival")}
        followed: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for row in self.rows("lens"):
            followed.setdefault((row["target"], row["token_id"]), []).append(row)
        twice = _repeated([token for _, token in followed])
        found = [_trajectory(rows, survival.get(key, {}), key[1] in twice) for key, rows in followed.items()]
        return sorted(found, key=lambda one: one.is_foil)

    @cached_property
    def n_layers(self) -> int:
        """Blocks of the model, as far as the tables show."""
        seen = [row["layer"] for name in ("lens_layers", "attention_layers") for row in self.rows(name)]
        return max(seen, default=-1) + 1


def _trajectory(rows: list[dict[str, Any]], survival: Row, ambiguous: bool) -> Trajectory:
    ordered = sorted(rows, key=lambda row: int(row["layer"]))
    last = ordered[-1]
    return Trajectory(
        target=last["target"],
        token_id=last["token_id"],
        is_foil=last["is_foil"],
        ambiguous=bool(survival.get("ambiguous", ambiguous)),
        ranks=tuple((row["layer"], row["rank"]) for row in ordered),
        prob=last["prob"] or 0.0,
        ties=last["rank_ties"],
        whole_logprob=survival.get("target_logprob"),
    )


def _repeated(tokens: list[int]) -> set[int]:
    return {token for token in tokens if tokens.count(token) > 1}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and isnan(value) else value

"""Read the records of a population: the template, tuple, words and group that each prompt stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.files.rows import Row
from elimtool.run.reader import Run

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
NEUTRAL = "neutral"
"""Role of a record without the group."""


@dataclass(frozen=True, slots=True)
class PopulationRecord:
    """One prompt of a population.

    Attributes:
        prompt_id: Its prompt.
        template: Wording that it was made from; where the record names none, its tuple.
        tuple: Records that differ in the group alone.
        filler: Words of the tuple; ``None`` where there are none.
        group: Its group; ``None`` for a neutral wording.
        category: Path of its category.
        slots: Values of the template's other slots, as JSON.
        role: ``neutral``, ``good``, ``bad`` or ``None``.
        row: Row of the table ``prompts``.
    """

    prompt_id: str
    template: str
    tuple: str | None
    filler: str | None
    group: str | None
    category: str | None
    slots: str | None
    role: str | None
    row: Row


@dataclass(frozen=True)
class Population:
    """The records of a run that say where they stand among others.

    Attributes:
        records: Those that can be used, in the run's order.
        n_failed: Prompts that were not measured.
        n_duplicates: Records equal to others in text, group and targets, which are left out.
        suite: What was wrong or doubtful in the suite, as ``run.json`` has it; ``None`` for other prompts.
        n_merged: Records of the suite that equalled others, and are not in the run.
    """

    records: tuple[PopulationRecord, ...]
    n_failed: int
    n_duplicates: int
    suite: Sequence[Mapping[str, Any]] | None
    n_merged: int = 0

    @classmethod
    def of(cls, run: Run) -> Population:
        """Read the records of a run.

        Raises:
            ElimError: The run has no table ``prompts``.
        """
        names = ["prompt_id", "status", "text", "template", "tuple", "filler", "group", "category", "slots"]
        names += ["role", "targets", "foils", "spans", "tokens", "n_appended"]
        names += ["token_priors", "scored", "tags", "answers"]
        rows = run.arrow("prompts").select(names).to_pylist()
        seen: set[tuple[Any, ...]] = set()
        records, failed, duplicates = [], 0, 0
        for row in rows:
            failed += row["status"] != "ok"
            template = row["template"] or row["tuple"]
            if row["status"] != "ok" or template is None:
                continue
            own_wording = (row["template"], row["slots"]) if row["role"] == NEUTRAL else ()
            if row["filler"] is None and row["tuple"] is not None:  # pairs may share a sentence
                own_wording = (*own_wording, row["tuple"], row["scored"])
            asked = row["text"], row["group"], row["role"], *map(tuple, (row["targets"], row["foils"]))
            asked = (*asked, *own_wording)
            if asked in seen:
                duplicates += 1
                continue
            seen.add(asked)
            own = {name: row[name] for name in ("tuple", "filler", "group", "category", "slots", "role")}
            records.append(PopulationRecord(row["prompt_id"], template, **own, row=row))
        config = run.manifest.config if isinstance(run.manifest.config, dict) else {}
        suite: Any = config.get("suite")
        merged: Any = config.get("suite_duplicates", 0)
        return cls(tuple(records), failed, duplicates, suite, merged)

    def parted(self) -> tuple[Population, Population]:
        """Divide it into prompts that are continued and sentences of pairs that are scored whole."""
        parts: tuple[list[PopulationRecord], list[PopulationRecord]] = ([], [])
        for one in self.records:
            parts[one.row["scored"] is not None].append(one)
        return replace(self, records=tuple(parts[0])), replace(self, records=tuple(parts[1]))

    def left_out(self) -> list[str]:
        """Say what of the run is not among the records, a sentence each."""
        said = {"could not be measured": self.n_failed, "equal others and count once": self.n_duplicates}
        return [f"{count:,} prompts {why}." for why, count in said.items() if count]

    @cached_property
    def place(self) -> dict[str, int]:
        """Index of each record by its prompt."""
        return {one.prompt_id: index for index, one in enumerate(self.records)}

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Groups: of a suite in its order, else in alphabetical order."""
        found = dict.fromkeys(one.group for one in self.records if one.group is not None)
        return tuple(found) if self.suite is not None else tuple(sorted(found))

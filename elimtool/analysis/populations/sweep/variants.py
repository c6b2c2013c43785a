"""Find the variants of one thing in runs: wordings of an item, edits of a tuple, seeds of a prompt, runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from elimtool.analysis.populations.records import NEUTRAL
from elimtool.analysis.populations.sweep.grid import COLUMNS, place_of
from elimtool.files.rows import Row
from elimtool.run.reader import Run

VARIANTS, EDITS, SEEDS, RUNS = "variants", "edits", "seeds", "runs"
"""What variants may differ in."""
OF_PAIRS = ("good", "bad", "abstain")
"""Roles of prompts that are no edits of each other."""

Place = tuple[str, str, int]
"""Run, prompt and position."""


@dataclass
class Varied:
    """Variants of things of one kind.

    Attributes:
        keys: Thing -> name of each of its variants -> where that is read, in the order of the run.
        first: Name of the variant that all others are set against; ``None`` where there is none.
    """

    keys: dict[str, dict[str, Place]] = field(default_factory=lambda: defaultdict(dict))
    first: str | None = None

    def add(self, key: str, name: str, place: Place) -> None:
        """Add a variant, unless there is one of that name; the very first is the one set against."""
        self.first = name if self.first is None else self.first
        self.keys[key].setdefault(name, place)

    def several(self) -> dict[str, dict[str, Place]]:
        """Return the things of which there are two variants or more."""
        return {key: some for key, some in self.keys.items() if len(some) > 1}


def varied(runs: Mapping[str, Run]) -> dict[str, Varied]:
    """Find all variants of runs, by what they differ in.

    Args:
        runs: Runs by name; of several the run is what differs.
    """
    found: dict[str, Varied] = defaultdict(Varied)
    several = len(runs) > 1
    for name, run in runs.items():
        names = [*COLUMNS, "tuple", "n_tokens", "n_written", "seed"]
        rows = run.arrow("prompts").select(names).to_pylist()
        neutral = {(row["template"], row["slots"]): row for row in reversed(rows) if row["role"] == NEUTRAL}
        for row in (one for one in rows if one["status"] == "ok"):
            last = int(row["n_tokens"]) - int(row["n_written"] or 0) - 1
            place = name, row["prompt_id"], last
            if several:
                found[RUNS].add(row["prompt_id"], name, place)
                continue
            if row["seed"] is not None:
                _add_seed(found[SEEDS], row, place)
                if row["seed"]:
                    continue
            if (where := place_of(row, ())) is not None:
                found[VARIANTS].add(where[1], where[0].name, place)
            if row["tuple"] is not None and row["group"] is not None and row["role"] not in OF_PAIRS:
                _add_edit(found[EDITS], row, place, neutral.get((row["template"], row["slots"])))
    return found


def _add_seed(found: Varied, row: Row, place: Place) -> None:
    """Add what is read where each written token but the first was predicted: that place is the prompt's."""
    key = row["prompt_id"].removesuffix(f"/seed {row['seed']}")
    run, prompt, last = place
    for step in range(1, int(row["n_written"] or 0)):
        found.add(f"{key} +{step}", f"seed {row['seed']}", (run, prompt, last + step))


def _add_edit(found: Varied, row: Row, place: Place, neutral: Row | None) -> None:
    """Add a member of a tuple, and before the first one the wording without the group's word, if there is."""
    if neutral is not None and neutral["status"] == "ok" and row["tuple"] not in found.keys:
        last = int(neutral["n_tokens"]) - int(neutral["n_written"] or 0) - 1
        found.add(row["tuple"], NEUTRAL, (place[0], neutral["prompt_id"], last))
    found.add(row["tuple"], row["group"], place)

"""Put a run's prompts into a grid of variants and items, with one outcome of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from elimtool.analysis.statistics.base import Values
from elimtool.analysis.statistics.crossed import whole
from elimtool.errors import ElimError, Exit, nearest
from elimtool.run.reader import Run

T = TypeVar("T")
OUTCOMES = ("survives", "logprob", "rank")
"""Outcomes by name; ``margin:STAGE`` beside them."""
MARGIN = "margin:"
ITEM = "item"
"""Slot that says what is asked: all others are factors."""
TEMPLATE, RUN = "template", "run"
"""Factors that are no slots."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to ask.

    Attributes:
        template: Its template; empty where the records name none.
        factors: Values of its slots by name, and of ``run`` where there are several.
    """

    template: str
    factors: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """Template and values, joined by slashes."""
        return "/".join([*filter(None, [self.template]), *(value for _, value in self.factors)])


@dataclass(frozen=True)
class SweepGrid:
    """Outcomes of variants on the same items.

    Attributes:
        metric: As in the column ``metric``.
        chain: Sampler chain; ``None`` where the metric is of the output.
        values: [variants, items] outcomes; NaN where a search asked for none.
        variants: The rows.
        items: The columns, in order of name; of a search in the order in which they were scored.
        n_calls: Prompts that were read.
        notes: What was left out, a sentence each.
    """

    metric: str
    chain: str | None
    values: Values
    variants: tuple[Variant, ...]
    items: tuple[str, ...]
    n_calls: int
    notes: tuple[str, ...]

    @property
    def yes_no(self) -> bool:
        """Whether outcomes are truth values, or shares of them."""
        return self.metric == "survives"

    @property
    def best(self) -> int:
        """1 where larger is better, -1 where smaller is."""
        return -1 if self.metric == "rank" else 1


def grid_of(runs: Mapping[str, Run], metric: str, chain: str | None) -> SweepGrid:
    """Read a grid from runs.

    Args:
        runs: Runs by name; with several the run is a factor.
        metric: ``survives``, ``logprob``, ``rank`` or ``margin:STAGE``.
        chain: Sampler chain; ``None`` for the first of the run.

    Raises:
        ElimError: The metric or the chain is unknown, a run lacks a table, or there are not two variants of
            two items (exit code 5).
    """
    check_outcome(metric)
    cells: SweepCells[float] = SweepCells()
    left, chosen = 0, None
    for name, run in runs.items():
        values, chosen = outcomes(run, metric, chain)
        more = ((RUN, name),) if len(runs) > 1 else ()
        for row in run.arrow("prompts").select([*COLUMNS]).to_pylist():
            place = place_of(row, more)
            if place is None or row["prompt_id"] not in values:
                left += 1
                continue
            cells.add(place, values[row["prompt_id"]])
    variants, items = cells.whole()
    notes = [f"{left:,} prompts have no item or no {metric} and are left out."] if left else []
    if dropped := len(cells.there) - len(variants) * len(items):
        notes.append(f"{dropped:,} prompts are left out so that all variants have the same items.")
    refuse_few(len(variants), len(items))
    return SweepGrid(
        metric,
        chosen,
        np.array([[np.mean(cells.there[variant, item]) for item in items] for variant in variants]),
        tuple(variants),
        tuple(items),
        sum(map(len, cells.there.values())),
        tuple(notes),
    )


def check_outcome(metric: str) -> None:
    """Refuse an outcome that does not exist.

    Raises:
        ElimError: It is neither in ``OUTCOMES`` nor ``margin:STAGE``.
    """
    if metric not in OUTCOMES and not metric.startswith(MARGIN):
        raise ElimError(f"`outcome` '{metric}' is not valid", nearest(metric, (*OUTCOMES, f"{MARGIN}min_p")))


def refuse_few(variants: int, items: int) -> None:
    """Refuse a sweep with nothing to compare.

    Raises:
        ElimError: There are not two variants of two items (exit code 5).
    """
    if variants < 2 or items < 2:
        raise ElimError(
            f"there are {variants} variants of {items} items: a sweep compares two of two at least",
            f"give templates a slot '{ITEM}' and others, or groups (docs/sweep.md)",
            Exit.NOTHING,
        )


@dataclass(frozen=True, slots=True)
class SweepCells(Generic[T]):
    """What there is of each variant and item.

    Attributes:
        there: By variant and item; there may be several of one cell.
    """

    there: dict[tuple[Variant, str], list[T]] = field(default_factory=dict)

    def add(self, place: tuple[Variant, str], what: T) -> None:
        """Put something into a cell."""
        self.there.setdefault(place, []).append(what)

    def whole(self) -> tuple[list[Variant], list[str]]:
        """Choose variants and items, in order of name, that have something in every cell."""
        variants = list(dict.fromkeys(variant for variant, _ in self.there))
        items = sorted({item for _, item in self.there})
        present = np.array([[(one, item) in self.there for one in variants] for item in items], bool)
        columns, rows = whole(present.reshape(len(items), len(variants)))  # of equal gaps an item goes
        return [variants[index] for index in rows], [items[index] for index in columns]


COLUMNS = ("prompt_id", "template", "slots", "filler", "group", "role", "status")


def place_of(row: Mapping[str, Any], more: tuple[tuple[str, str], ...]) -> tuple[Variant, str] | None:
    """Find the variant and the item (slot and group's word) of a prompt.

    Args:
        row: Its row of ``prompts``, with ``COLUMNS``.
        more: Further factors.

    Returns:
        ``None`` for a prompt that failed, is a neutral wording, or has no item.
    """
    slots = {name: str(value) for name, value in json.loads(row["slots"] or "{}").items()}
    item = slots.pop(ITEM, None)
    parts = [one for one in (item, row["filler"], row["group"]) if one is not None]
    if row["status"] != "ok" or row["role"] == "neutral" or not parts:
        return None
    return Variant(row["template"] or "", (*slots.items(), *more)), "/".join(parts)


def outcomes(run: Run, metric: str, chain: str | None) -> tuple[dict[str, float], str | None]:
    """Read one outcome of each prompt with named targets: their mean, at its last position.

    Args:
        run: A run.
        metric: As for ``grid_of``.
        chain: Sampler chain; ``None`` for the first.

    Returns:
        The outcome by prompt, and the chain that it is of.

    Raises:
        ElimError: The chain or stage is unknown, or the run lacks a table.
    """
    if metric in ("logprob", "rank"):
        rows = _asked(run, "survival", ["rank", "target_logprob"])
        values = rows["target_logprob"] if metric == "logprob" else np.log10(rows["rank"].astype(float))
        return _means(rows, values), None
    names = ["chain", "stage_index", "stage", "kind", "alive_after", "margin"]
    rows = _asked(run, "sampling_targets", names)
    chains = tuple(dict.fromkeys(rows["chain"]))
    if not chains:
        return {}, chain
    if chain is not None and chain not in chains:
        raise ElimError(f"`chain` '{chain}' is not in the run", nearest(chain, chains))
    chosen = chain or chains[0]
    rows = rows[rows["chain"] == chosen]
    if metric == "survives":
        rows = rows[rows["stage_index"] == rows["stage_index"].max()]
        return _means(rows, rows["alive_after"].astype(float)), chosen
    stage = metric.removeprefix(MARGIN)
    known = tuple(dict.fromkeys(rows["stage"]))
    rows = rows[(rows["stage"] == stage) | (rows["kind"] == stage)]
    if not len(rows):
        raise ElimError(f"`outcome`: {chosen} has no stage '{stage}'", nearest(stage, known))
    return _means(rows, rows["margin"]), chosen


def _asked(run: Run, table: str, columns: list[str]) -> Any:
    """Rows of named targets at the last position of their prompts, as a frame."""
    prompts = run.arrow("prompts").select(["prompt_id", "n_tokens", "n_written", "targets"]).to_pylist()
    asked = {
        (row["prompt_id"], int(row["n_tokens"]) - int(row["n_written"] or 0) - 1, target)
        for row in prompts
        for target in row["targets"] or ()
    }
    rows = run.arrow(table).select(["prompt_id", "position", "target", *columns]).to_pandas()
    keys = zip(rows["prompt_id"], rows["position"], rows["target"], strict=True)
    return rows[np.array([key in asked for key in keys], bool)]  # an empty list would choose no columns


def _means(rows: Any, values: Any) -> dict[str, float]:
    means = values.astype(float).groupby(rows["prompt_id"], sort=False).mean().dropna()
    return {str(name): float(value) for name, value in means.items()}

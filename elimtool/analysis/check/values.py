"""Read one value per prompt from the rows of a check, or say why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, prod
from typing import Any

from elimtool.analysis.check.aggregate import aggregate
from elimtool.analysis.check.metrics import CheckMetric
from elimtool.analysis.check.rows import RunTables, analysed_rows, chosen_rows, names_of
from elimtool.analysis.check.spec import Check
from elimtool.errors import ElimError
from elimtool.files.rows import Row
from elimtool.run.schema import TABLES

Value = float | int | bool | str | tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class CheckedValue:
    """One value that a check judges.

    Attributes:
        prompt: Id of the prompt; ``None`` for one value of all prompts.
        value: The value; ``None`` if it could not be measured.
        rows: The rows it was made from: the columns that chose them, and ``value``.
        missing: Why the value is null; empty if it is not.
        error: Message of a prompt that could not be measured at all.
    """

    prompt: str | None
    value: Value
    rows: tuple[Row, ...] = ()
    missing: str = ""
    error: str = ""


def read(
    source: RunTables, check: Check, metric: CheckMetric, prompts: Sequence[str], position: Any
) -> list[CheckedValue]:
    """Read the values that a check judges, one per prompt, or one in all with ``scope: all`` or an analysis.

    Args:
        source: The run.
        check: The check.
        metric: Its metric.
        prompts: Ids of the prompts, from ``chosen_prompts``.
        position: ``last``, ``all``, an index or a list of them.

    Raises:
        ElimError: The run lacks the table, a chain, a layer or the position, or a prompt has several values
            and the check does not say how to reduce them.
    """
    if metric.command is not None:
        chosen = analysed_rows(source, check, metric)
        missing = "the analysis has no such row"
        return [_one(None, chosen, check, metric) if chosen else CheckedValue(None, None, missing=missing)]
    found: dict[str, list[Row]] = {}
    for row in chosen_rows(source, check, metric, position):
        found.setdefault(row["prompt_id"], []).append(row)
    for column in ("target", "foil"):
        if (wanted := getattr(check, column)) is not None:
            found = {one: _named(rows, source.prompts[one], column, wanted) for one, rows in found.items()}
    found = {one: rows for one, rows in found.items() if rows}
    asked = {name: source.prompts[name] for name in prompts}
    failed = {name: row["error_message"] for name, row in asked.items() if row["status"] != "ok"}
    if check.scope == "all":
        rows = [row for name in prompts for row in _reduced(check, metric, found.get(name, []))]
        absent = [name for name in prompts if name not in found and name not in failed]
        for name in [*failed, *absent][:1]:
            why = f"prompt '{name}' has no value"
            return [CheckedValue(None, None, missing=why, error=failed.get(name, ""))]
        return [_one(None, rows, check, metric)]
    return [
        CheckedValue(name, None, error=failed[name])
        if name in failed
        else _one(name, _reduced(check, metric, found[name]), check, metric)
        if name in found
        else CheckedValue(name, None, missing=_absent(source, check, name))
        for name in prompts
    ]


def _named(rows: list[Row], prompt: Row, column: str, wanted: str) -> list[Row]:
    """Keep the rows of the target or foil that a selector means."""
    there = {row[column] for row in rows}
    named = next((name for name in names_of(prompt, wanted) if name in there), None)
    return [row for row in rows if row[column] == named]


def _reduced(check: Check, metric: CheckMetric, rows: list[Row]) -> list[Row]:
    """Apply the metric's own reduction over stages or places."""
    if metric.reduction in ("last_stage", "all_stages") and check.stage is None:
        groups = _groups(rows, "position", "chain", "target")
        ordered = [sorted(group, key=lambda row: int(row["stage_index"])) for group in groups]
        join = _end_of_chain if metric.reduction == "last_stage" else _cut_in_all
        return [join(group) for group in ordered]
    if metric.reduction == "least_layer":
        return [_least(group) for group in _groups(rows, "position", "concept")]
    if metric.reduction in ("beginnings", "orders"):
        return _along(_groups(rows, "answer")[0], metric.reduction)  # the same of all answers
    if metric.reduction == "first_k" and rows:
        placed = sorted(rows, key=lambda row: (row["position"], row["place"]))
        least = placed[: check.k][-1]["logprob"] - check.tie
        # tokens almost as probable as the k-th may change places with it: they count as first too
        near = tuple(row["value"] for row in placed if row["logprob"] >= least)
        told = tuple((row["value"], row["token"]) for row in placed[: check.k])
        return [{**placed[0], "value": tuple(one for one, _ in told), "near": near, "told": told}]
    return rows


def _groups(rows: list[Row], *columns: str) -> list[list[Row]]:
    """Put rows together that are alike in some columns, of those that they have."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(one) for one in columns), []).append(row)
    return list(groups.values())


def _least(layers: list[Row]) -> Row:
    """Take the layer with the least value; the embedding has none."""
    known = [row for row in layers if not _is_null(row["value"])]
    return min(known, key=lambda row: float(row["value"]), default=layers[0])


def _along(rows: list[Row], reduction: str) -> list[Row]:
    """Count what holds over a text's beginnings, all of it left out, or over its other orders."""
    if reduction == "beginnings":
        text = [row for row in rows if row["arrangement"] == "text"]
        told = [not row["value"] for row in text if row["k"] < max(one["k"] for one in text)]
    else:
        told = [bool(row["value"]) for row in rows if row["arrangement"] == "shuffled"]
    return [{**rows[-1], "value": sum(told) / len(told) if told else None}]


def _end_of_chain(stages: list[Row]) -> Row:
    """Take the last stage's row; its ``stage`` becomes the one that removed the target, if one did."""
    cut = next((row["stage"] for row in stages if not row["value"]), None)
    return {**stages[-1], "stage": cut}


def _cut_in_all(stages: list[Row]) -> Row:
    """Multiply what the stages keep to get what the chain cuts; ``stage`` is the one that cuts most."""
    most = max(stages, key=lambda row: float(row["value"]))
    return {**most, "value": 1 - prod(1 - row["value"] for row in stages)}


def _one(prompt: str | None, rows: Sequence[Row], check: Check, metric: CheckMetric) -> CheckedValue:
    """Reduce rows to one value."""
    kept = tuple(rows)
    null = next((row for row in kept if _is_null(row["value"])), None)
    if null is not None:
        where = f" at layer {null['layer']}" if len(kept) > 1 and null.get("layer") is not None else ""
        return CheckedValue(
            prompt, None, kept, missing=f"not measurable{where}: {metric.null_when or 'the value is NaN'}"
        )
    if check.agg is None:
        if len(kept) > 1:
            raise _ambiguous(prompt, kept, check)
        return CheckedValue(prompt, kept[0]["value"], kept)
    return CheckedValue(prompt, aggregate(check.agg, [row["value"] for row in kept], check.where), kept)


def _ambiguous(prompt: str | None, rows: Sequence[Row], check: Check) -> ElimError:
    columns = [name for name in rows[0] if name not in ("prompt_id", "value")]
    varying = [name for name in columns if len({row[name] for row in rows}) > 1]
    name = varying[0] if varying else "row"
    seen = list(dict.fromkeys(str(row.get(name)) for row in rows))
    shown = ", ".join(repr(one) for one in seen[:4]) + (" ..." if len(seen) > 4 else "")
    key = "layers" if name == "layer" else name
    of, how = (f" for prompt '{prompt}'", f"{key}:") if prompt is not None else ("", f"rows: {{{name}: ...}}")
    return ElimError(
        f"check '{check.id}' has {len(rows):,} values{of} ({key}: {shown})",
        f"name one with {how}, or join them with agg:",
    )


def _absent(source: RunTables, check: Check, prompt: str) -> str:
    """Say why a prompt has no row: it lacks what the check asks for."""
    row = source.prompts[prompt]
    for kind, wanted, known, found in (
        ("span", check.span, [span["span"] for span in row["spans"] or ()], [check.span]),
        ("target", check.target, list(row["targets"] or ()), names_of(row, check.target or "")),
        ("foil", check.foil, list(row["foils"] or ()), names_of(row, check.foil or "")),
    ):
        if wanted is not None and not set(found) & set(known):
            there = ", ".join(repr(one) for one in known[:12]) or "none"
            return f"the prompt has no {kind} {wanted!r}; it has: {there}"
    return "the run has no row of it"


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def tables_of(metrics: Iterable[CheckMetric]) -> tuple[str, ...]:
    """List the tables that metrics read, in the order of ``TABLES``, those of plugins last."""
    plugins = {metric.table: metric.plugin for metric in metrics}
    wanted = {*plugins, "prompts"}
    brought = sorted(table for table, plugin in plugins.items() if plugin is not None)
    return (*(name for name in TABLES if name in wanted), *brought)

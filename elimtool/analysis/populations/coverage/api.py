"""Cover a run: what is right, what survives, and whether doubt is preserved, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from elimtool.analysis.populations.coverage.abstention import abstention
from elimtool.analysis.populations.coverage.answers import answers
from elimtool.analysis.populations.coverage.calibration import calibration
from elimtool.analysis.populations.coverage.conformal import conformal
from elimtool.analysis.populations.coverage.gold import gold_places, measured_prompts
from elimtool.analysis.populations.coverage.items import items
from elimtool.analysis.populations.coverage.nodes import Tree
from elimtool.analysis.populations.coverage.taxonomy import read_taxonomy
from elimtool.errors import ElimError, Exit, checked_fields
from elimtool.files.rows import Rows
from elimtool.prompts.prompt import LM_EVAL
from elimtool.run.analysis import Analysis
from elimtool.run.reader import Run, as_run
from elimtool.run.tables.findings import FINDINGS

TABLES = ("lens", "lens_layers", "survival", "sampling", "sampling_targets", "falloff")
"""Tables of a run that are read."""


@checked_fields
@dataclass(frozen=True, slots=True)
class CoverageOptions:
    """What must be covered.

    Attributes:
        taxonomy: YAML file of a taxonomy; ``None`` for the categories as they are.
    """

    taxonomy: str | None = None


def coverage(run: Run | str | Path, options: CoverageOptions = CoverageOptions(), seed: int = 0) -> Analysis:
    """Find which items a model gets right, what chains leave of right answers, and how calibrated both are.

    Args:
        run: A run of minimal pairs, facts, texts that are scored, or any prompts with targets; or its
            directory.
        options: What must be covered.
        seed: Seed of drawn positions and labels, and of p-values.

    Returns:
        The tables of ``FINDINGS["coverage"]``.

    Raises:
        ElimError: Nothing in the run can be judged (exit code 5), or the taxonomy cannot be used.
    """
    run = as_run(run)
    taxonomy = None if options.taxonomy is None else read_taxonomy(Path(options.taxonomy))
    prompts = measured_prompts(run)
    if "survival" not in run.tables:
        where = f"{run.path or 'the run'} has no table survival"
        raise ElimError(where, "measure it with `tables` lens, survival, sampling, sampling_targets")
    judged, places = items(run, prompts), gold_places(run, prompts) if prompts else None
    unknown = abstention(run, prompts, seed)
    if places is None or (not judged and places.empty and not unknown):
        raise ElimError(
            f"{run.path or 'the run'} has no item with a right answer",
            "give records `targets` or `scored`, or a suite of minimal pairs (docs/coverage.md)",
            Exit.NOTHING,
        )
    rows, bins = calibration(run, places, seed)
    found = {
        "coverage": Tree.of(judged, taxonomy).rows(seed) if judged else [],
        "coverage_items": judged,
        "answers": answers(run, prompts),
        "conformal": conformal(places, seed, run),
        "calibration": rows,
        "calibration_bins": bins,
        "abstention": unknown,
    }
    tables = {name: table.from_rows(found[name]) for name, table in FINDINGS["coverage"].items()}
    notes = list(left_out(run, prompts, found, places))
    return Analysis.of("coverage", run.manifest, tables, asdict(options), seed, notes)


def left_out(run: Run, prompts: Rows, found: Mapping[str, Rows], places: pd.DataFrame) -> Iterator[str]:
    """Say what sentences are scored behind, and what of a run was left out and why, a sentence each."""
    if first := {one["tokens"][0] for one in prompts if one["scored"] == LM_EVAL}:
        named = ", ".join(map(repr, sorted(first)))
        yield f"sentences are scored behind {named}, which lm-eval puts before them"
    failed = run.arrow("prompts").num_rows - len(prompts)
    if failed:
        yield f"{failed:,} prompts could not be measured"
    alone = [one for one in prompts if one["role"] is None and one["scored"] is None]
    asked = sum(bool(one["targets"]) for one in alone)
    lost = asked + sum(one["role"] == "good" for one in prompts) - len(found["coverage_items"])
    if lost:
        yield f"{lost:,} items lack a side or a score, and are not judged"
    if several := sum(len(one["targets"]) > 1 for one in alone):
        yield f"{several:,} prompts have several targets: calibration does not count them"
    if untold := len(alone) - asked:
        yield f"{untold:,} prompts name no target: give texts `scored`, so that their tokens are followed"
    answering = {one["prompt_id"] for one in prompts if one["answers"] is not None and one["scored"] is None}
    followed = {one["prompt_id"] for one in found["answers"]}
    if found["calibration"] and (other := len(answering - followed)):
        yield f"{other:,} prompts have answers of which none is among their targets: leave `targets` out"
    if any(one["setting"] is not None and one["mean_size"] is None for one in found["conformal"]):
        yield "how many tokens top_p and min_p keep is not known: measure with falloff among the `tables` too"
    if unknown := int(places["confidence"].isna().sum()):
        yield f"{unknown:,} right tokens have probability 0"

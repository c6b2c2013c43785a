"""Compare two runs by their tables, without torch or a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.analysis.compare.join import Pair
from elimtool.analysis.compare.notes import notes_of
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import Side
from elimtool.analysis.compare.statistics import statistics
from elimtool.analysis.compare.tables import differences
from elimtool.errors import ElimError, Exit
from elimtool.prompts.position import OnePosition
from elimtool.run.comparison import Comparison
from elimtool.run.manifest import Manifest, OtherSchema, utc_now
from elimtool.run.reader import as_run

if TYPE_CHECKING:
    from elimtool.run import Run

BOTH_CHAINS = "the two chains"
"""Name that joins two chains of different names."""


def compare_runs(
    run_a: Run | str | Path,
    run_b: Run | str | Path,
    *,
    position: OnePosition = "last",
    intervened: bool = False,
    seed: int = 0,
    chains: Sequence[tuple[str, str]] = (),
) -> Comparison:
    """Compare two runs prompt by prompt, joined by ``prompt_id``; every difference is B minus A.

    Args:
        run_a: A run or its directory.
        run_b: Another, or the same.
        position: Which probed position of each prompt: ``last``, or an index from 0.
        intervened: Compare the pass under interventions, if a run has one; else the model's own.
        seed: Seed of the statistics.
        chains: Chains of A and of B to compare with each other. Without: those of one name, or the only ones.

    Raises:
        ElimError: A run cannot be read or has another schema (exit code 4), or both measured no common prompt
            (exit code 5).
    """
    started = utc_now()
    a, b = opened(run_a), opened(run_b)
    if a.manifest.schema_version != b.manifest.schema_version:
        raise ElimError(
            f"the runs have schema versions {a.manifest.schema_version} and {b.manifest.schema_version}",
            "run the older one again with this elimtool",
            Exit.BASELINE,
        )
    if intervened and not (a.interventions or b.interventions):
        raise ElimError("neither run has interventions", "leave `intervened` out")
    passes = [run.under(run.interventions if intervened else None) for run in (a, b)]
    setting, unpaired = _setting(passes[0], passes[1], position, chains)
    refuse_nothing(setting, unpaired)
    tables = differences(setting)
    tables["statistics"] = statistics(tables, seed)
    options = {"position": position, "intervened": intervened, "seed": seed}
    return Comparison.of(
        "runs",
        a.manifest,
        b.manifest,
        tables,
        options=options,
        notes=notes_of(setting, unpaired, intervened),
        unpaired=unpaired,
        started=started,
    )


def same_vocabulary(a: Manifest, b: Manifest) -> bool:
    """Return whether token ids mean the same in two runs, as far as the manifests say."""
    return a.tokenizer_sha256 is not None and a.tokenizer_sha256 == b.tokenizer_sha256


def opened(run: Run | str | Path) -> Run:
    """Open a run if it is given as a directory.

    Raises:
        ElimError: It cannot be read; exit code 4 if its schema is newer.
    """
    try:
        return as_run(run)
    except OtherSchema as error:
        raise OtherSchema(error.message, error.hint, Exit.BASELINE) from error


def _setting(
    a: Run, b: Run, position: OnePosition, paired: Sequence[tuple[str, str]]
) -> tuple[Setting, tuple[int, int]]:
    """Join the two sides by prompt, and count the prompts that only one has."""
    left, right = Side(a, position), Side(b, position)
    chains = None
    names = list(left.chains), list(right.chains)
    if paired:
        both = [one if one == other else f"{one} → {other}" for one, other in paired]
        left, right = (
            Side(run, position, dict(zip([pair[at] for pair in paired], both, strict=True)))
            for at, run in enumerate((a, b))
        )
    elif [len(one) for one in names] == [1, 1] and names[0] != names[1]:
        chains = names[0][0], names[1][0]
        left = Side(a, position, {chains[0]: BOTH_CHAINS})
        right = Side(b, position, {chains[1]: BOTH_CHAINS})
    ids: list[dict[str, Any]] = [dict.fromkeys(side.prompts["prompt_id"]) for side in (left, right)]
    pairs = tuple(Pair(name, name, name) for name in ids[0] if name in ids[1])
    unpaired = len(ids[0]) - len(pairs), len(ids[1]) - len(pairs)
    return Setting(left, right, pairs, same_vocabulary(a.manifest, b.manifest), chains), unpaired


def refuse_nothing(setting: Setting, unpaired: tuple[int, int]) -> None:
    """Refuse two sides that have nothing to compare.

    Args:
        setting: What is compared.
        unpaired: Number of prompts that only side A has, and only side B.

    Raises:
        ElimError: No pair, or none that both sides measured (exit code 5).
    """
    if not setting.given:
        raise ElimError(
            f"the runs have no prompt in common: {unpaired[0]:,} in A, {unpaired[1]:,} in B, joined by id",
            "give both runs the same prompts, or the same ids to prompts that correspond",
            Exit.NOTHING,
        )
    if setting.pairs.empty:
        where = "" if setting.a.position == "last" else f" at position {setting.a.position}"
        raise ElimError(
            f"none of the {len(setting.given):,} prompts in common was measured in both runs{where}",
            "table prompts of the runs says why"
            if not where
            else "`position='last'` compares the last probed one",
            Exit.NOTHING,
        )

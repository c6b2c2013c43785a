"""Sum up over prompts whether late layers come back to tokens that early layers starved."""

from __future__ import annotations

from typing import Any

import numpy as np

from elimtool.analysis.statistics.base import LEVEL, RECOVERED, generator
from elimtool.analysis.statistics.bootstrap import RESAMPLES, draw_weights
from elimtool.analysis.statistics.crossed import FEWEST
from elimtool.files.rows import Row, Rows
from elimtool.run.reader import Run

COUNTS = ("n_keys", "starved", "recovered", "expected")


def recovery_summary(run: Run, seed: int = 0) -> Rows:
    """Sum up table ``recovery``, as JSON's own types.

    Args:
        run: A run with the table.
        seed: Seed of the intervals.

    Returns:
        For each kind of share (``by``) that some prompt has counts of: ``n_prompts``; the sums over prompts
        and positions of ``n_keys``, ``starved``, ``recovered`` and ``expected``; ``ratio``, recovered over
        expected (1: chance); ``carry_over``, the mean over prompts; and the ends of 95 % bootstrap intervals
        over prompts, ``ratio_low``, ``ratio_high``, ``carry_over_low`` and ``carry_over_high`` (percentiles),
        null in fewer than six prompts. Ratios are null where no recovery is expected.
    """
    table = run.table("recovery")
    return [_summary(str(by), rows, seed) for by, rows in table.dropna(subset="starved").groupby("by")]


def _summary(by: str, rows: Any, seed: int) -> Row:
    each = rows.groupby("prompt_id", observed=True)
    counts = each[list(COUNTS)].sum().to_numpy(float)
    carried = each["carry_over"].mean().to_numpy(float)
    totals = dict(zip(COUNTS, counts.sum(0), strict=True))
    prompts = len(counts)
    draws = np.concatenate(list(draw_weights(prompts, RESAMPLES, generator(seed, RECOVERED))))
    sums, known = draws @ counts, ~np.isnan(carried)
    with np.errstate(invalid="ignore"):
        ratios = sums[:, 2] / sums[:, 3]
        means = draws[:, known] @ carried[known] / draws[:, known].sum(1)
    enough = prompts >= FEWEST
    found: Row = {"by": by, "n_prompts": prompts}
    found |= {name: int(totals[name]) for name in COUNTS[:-1]} | {"expected": float(totals["expected"])}
    found["ratio"] = found["recovered"] / found["expected"] if found["expected"] > 0 else None
    found |= _interval("ratio", ratios, enough and found["ratio"] is not None)
    found["carry_over"] = float(carried[known].mean()) if known.any() else None
    return found | _interval("carry_over", means, enough and int(known.sum()) >= FEWEST)


def _interval(name: str, draws: Any, enough: bool) -> dict[str, float | None]:
    """Return the ends of a percentile interval; null where it is not to be given or some draw has none."""
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    known = draws[np.isfinite(draws)]
    ends = np.quantile(known, tails) if enough and len(known) else (None, None)
    return {
        f"{name}_{which}": None if end is None else float(end)
        for which, end in zip(("low", "high"), ends, strict=True)
    }

"""Compare what two sampler chains of one run cut, without torch or a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from elimtool.analysis.compare.join import Pair
from elimtool.analysis.compare.notes import notes_of
from elimtool.analysis.compare.runs import BOTH_CHAINS, opened, refuse_nothing
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import Side
from elimtool.analysis.compare.statistics import statistics
from elimtool.analysis.compare.tables import differences
from elimtool.errors import ElimError, nearest
from elimtool.prompts.position import OnePosition
from elimtool.run.comparison import Comparison
from elimtool.run.manifest import utc_now

if TYPE_CHECKING:
    from elimtool.run import Run
    from elimtool.samplers import Chain, Stage

COMPARED = ("flips", "stage_differences", "sampling_differences", "survivor_differences")
"""Tables in which two chains of one output can differ."""


def compare_chains(
    run: Run | str | Path,
    chain_a: str | Chain | Stage,
    chain_b: str | Chain | Stage,
    *,
    position: OnePosition = "last",
    unread: Mapping[str, ElimError] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare what two sampler chains leave of the same output of a run; every difference is B minus A.

    Args:
        run: A run or its directory.
        chain_a: The chain that is side A, or its name.
        chain_b: The other, or the same.
        position: Which probed position of each prompt: ``last``, or an index from 0.
        unread: Errors of unusable prompt records, by id: they become failed pairs.
        seed: Seeds the resampling of the statistics.

    Raises:
        ElimError: The run cannot be read, lacks a chain or the table ``sampling``, or measured no prompt.
    """
    started = utc_now()
    found = opened(run)
    own = found.under(None)
    known = tuple(Side(own).chains)
    first, second = (one if isinstance(one, str) else one.name for one in (chain_a, chain_b))
    for name in (first, second):
        if name not in known:
            raise ElimError(f"the run has no chain '{name}'", nearest(name, known))
    if "sampling" not in found.tables:
        raise ElimError(
            "the run has no table 'sampling'", "trace with it: leave out `tables`, or name it there"
        )
    a, b = (Side(own, position, {name: BOTH_CHAINS}) for name in (first, second))
    pairs = tuple(Pair(name, name, name) for name in a.prompts["prompt_id"])
    pairs += tuple(Pair(name, None, None, error=str(error)) for name, error in (unread or {}).items())
    names = (first, second) if first != second else None
    setting = Setting(a, b, pairs, True, names)
    refuse_nothing(setting, (0, 0))
    filled = differences(setting, COMPARED)
    filled["statistics"] = statistics(filled, seed)
    options = {"position": position, "seed": seed, "names": [first, second]}
    return Comparison.of(
        "chains",
        found.manifest,
        found.manifest,
        filled,
        options=options,
        notes=notes_of(setting, (0, 0)),
        started=started,
    )

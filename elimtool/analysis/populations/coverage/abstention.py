"""Compare how probable it is that a model says that it does not know, where it should and where not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from elimtool.analysis.populations.coverage.answers import joint_mass
from elimtool.analysis.statistics.crossed import FEWEST
from elimtool.analysis.statistics.flips import sign_flips
from elimtool.analysis.statistics.proportions import t_interval
from elimtool.files.rows import Row, Rows
from elimtool.prompts.design import ABSTAIN
from elimtool.run.reader import Run

ANSWERABLE = "answerable"
"""Group that others are set against, where there is one of this name."""


def abstention(run: Run, prompts: Rows, seed: int) -> list[Row]:
    """Make the rows of ``abstention``.

    Args:
        run: The run; ``survival`` is read.
        prompts: Its measured prompts.
        seed: Seed of p-values.
    """
    asked = {one["prompt_id"]: one for one in prompts if one["role"] == ABSTAIN}
    if not asked:
        return []
    names = ["prompt_id", "position", "target", "target_logprob", "spelling"]
    rows: pd.DataFrame = run.arrow("survival").select(names).to_pandas()
    found = []
    for name, own in rows[rows["prompt_id"].isin(set(asked))].groupby("prompt_id", sort=False):
        last = own[own["position"] == own["position"].max()]
        one = asked[str(name)]
        mass = joint_mass([[target] for target in one["targets"]], last, one)
        if mass is not None:
            found.append({"group": one["group"], "tuple": one["tuple"], "mass": mass})
    masses = pd.DataFrame(found, columns=["group", "tuple", "mass"])
    groups = sorted({one["group"] for one in found}, key=lambda group: (group is not None, group or ""))
    named = [one for one in groups if one is not None]
    reference = ANSWERABLE if ANSWERABLE in named else named[0] if len(named) > 1 else None
    return [_row(masses, group, reference, seed) for group in groups]


def _row(masses: pd.DataFrame, group: str | None, reference: str | None, seed: int) -> Row:
    mine = masses["group"].isna() if group is None else masses["group"] == group
    own = masses["mass"][mine].to_numpy(float)
    low, high = t_interval(own) if len(own) > 1 else (None, None)
    row: Row = {
        "group": group,
        "n_prompts": len(own),
        "mass": float(own.mean()),
        "ci_low": low,
        "ci_high": high,
    }
    names = ("reference", "n_tuples", "difference", "difference_low", "difference_high", "p_value")
    row |= dict.fromkeys(names)
    if reference is None or group in (None, reference):
        return row
    means = masses.groupby(["tuple", "group"], sort=False)["mass"].mean().unstack("group")
    if not {group, reference} <= set(means.columns):  # no prompt of it names a tuple
        return row
    sides = [means[one] for one in (group, reference)]
    gaps = (sides[0] - sides[1]).dropna().to_numpy(float)
    if not len(gaps):
        return row
    row |= {"reference": reference, "n_tuples": len(gaps), "difference": float(gaps.mean())}
    if len(gaps) > 1:
        row["difference_low"], row["difference_high"] = t_interval(gaps)
    if len(gaps) >= FEWEST:
        row["p_value"] = float(sign_flips(np.ascontiguousarray(gaps[:, None]), seed)[0])
    return row

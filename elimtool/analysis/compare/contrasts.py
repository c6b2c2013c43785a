"""Compare how far targets are ahead of their foils on two sides."""

from __future__ import annotations

from typing import Any

import numpy as np

from elimtool.analysis.compare.join import joined, table_of, with_differences
from elimtool.analysis.compare.setting import Setting
from elimtool.run.tables.comparison.contrasts import CONTRAST_DIFFERENCES

READ = ("target", "foil", "target_token", "foil_token", "difference", "decision_layer")


def contrast_differences(setting: Setting) -> Any:
    """Make the table of contrasts: logit differences of target and foil, and theirs between the sides."""
    a, b = (
        side.rows("contrasts", READ).rename(columns={"difference": "contrast"})
        for side in (setting.a, setting.b)
    )
    rows = with_differences(joined(setting.pairs, a, b, ["target", "foil"]), ["contrast"])
    known = rows["contrast_difference"].notna()
    signs = [np.sign(rows[f"contrast_{side}"].astype("float64")) for side in "ab"]
    rows["changed"] = (signs[0] != signs[1]).astype("boolean").where(known)
    return table_of(CONTRAST_DIFFERENCES, rows)

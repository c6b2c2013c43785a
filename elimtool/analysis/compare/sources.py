"""Compare what each part of the prompt wrote for each target on two sides."""

from __future__ import annotations

from typing import Any

from elimtool.analysis.compare.join import joined, table_of, with_differences
from elimtool.analysis.compare.setting import Setting
from elimtool.run.tables.comparison.sources import SOURCE_DIFFERENCES

VALUES = ("dla_centred", "z", "promoted", "opposed")


def source_differences(setting: Setting) -> Any:
    """Make the table of what each part wrote for each target on the two sides; parts are joined by name."""
    columns = ["span", "target", "target_token", *VALUES, "top_layer", "top_head"]
    a, b = (
        setting.keyed(side, side.rows("source_spans", columns), ["span"]) for side in (setting.a, setting.b)
    )
    rows = joined(setting.pairs, a, b, ["span", "target", "key"])
    return table_of(SOURCE_DIFFERENCES, with_differences(rows, VALUES))

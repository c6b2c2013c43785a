"""Fill every table of a comparison that the tables of two runs allow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from elimtool.analysis.compare.contrasts import contrast_differences
from elimtool.analysis.compare.fates import flips, verdict_differences
from elimtool.analysis.compare.join import table_of
from elimtool.analysis.compare.layers import attention_differences, layer_differences, lens_differences
from elimtool.analysis.compare.pairs import pair_rows
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.sources import source_differences
from elimtool.analysis.compare.stages import sampling_differences, stage_differences, survivor_differences
from elimtool.run.tables.comparison.pairs import PAIRS

NEEDS: Mapping[str, tuple[Callable[[Setting], Any], tuple[str, ...]]] = {
    "verdict_differences": (verdict_differences, ("verdicts",)),
    "contrast_differences": (contrast_differences, ("contrasts",)),
    "flips": (flips, ("verdicts", "survival", "sampling_targets")),
    "lens_differences": (lens_differences, ("lens",)),
    "layer_differences": (layer_differences, ("lens_layers", "attention_layers")),
    "attention_differences": (attention_differences, ("attention",)),
    "source_differences": (source_differences, ("source_spans",)),
    "stage_differences": (stage_differences, ("sampling_targets",)),
    "sampling_differences": (sampling_differences, ("sampling",)),
    "survivor_differences": (survivor_differences, ("sampling",)),
}
"""How each table is filled, and the tables of a run that it needs: any one of them on both sides will do."""


def differences(setting: Setting, names: Collection[str] = tuple(NEEDS)) -> dict[str, Any]:
    """Fill the tables of a comparison, without statistics, from those of the two sides.

    Args:
        setting: What is compared.
        names: Tables to fill, besides ``pairs``.

    Returns:
        Table name -> ``pyarrow.Table``; tables that the sides lack the data for are absent.
    """
    filled = {"pairs": table_of(PAIRS, pair_rows(setting))}
    for name, (fill, needed) in NEEDS.items():
        if name in names and any(map(setting.both, needed)):
            filled[name] = fill(setting)
    return filled

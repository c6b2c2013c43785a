"""Sum what the lens makes of right and wrong sides, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from elimtool.analysis.statistics.base import Values
from elimtool.files.rows import Rows
from elimtool.run.reader import Run


@dataclass(frozen=True)
class LensSums:
    """What the lens reads of the prompts of a run.

    Attributes:
        layers: Layers, ascending.
        sums: Prompt -> [layers] sum over its rows of the log-probability of what is followed.
        best: Prompt -> [layers, 2] best log-probability of a target and of a foil at the last position; NaN
            without one.
        first: Prompt -> [layers] whether a target ranks first there.
        tokens: Prompt -> tokens of its targets.
    """

    layers: tuple[int, ...]
    sums: Mapping[str, Values]
    best: Mapping[str, Values]
    first: Mapping[str, Values]
    tokens: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, run: Run, prompts: Rows) -> LensSums:
        """Read the table ``lens``.

        Args:
            run: The run.
            prompts: Its measured prompts: of those whose texts are not scored the last position is read.
        """
        if "lens" not in run.tables:
            return cls((), {}, {}, {}, {})
        scored = {one["prompt_id"] for one in prompts if one["scored"] is not None}
        ends = {one["prompt_id"]: one["last"] for one in prompts}
        # where the model has written, what it wrote is followed too, and is no right answer
        named = {(one["prompt_id"], target) for one in prompts for target in one["targets"] or ()}
        names = ["prompt_id", "position", "layer", "logprob", "is_foil", "rank", "token_id", "target"]
        rows: pd.DataFrame = run.arrow("lens").select(names).to_pandas()
        layers = np.unique(rows["layer"].to_numpy())
        whole = rows["prompt_id"].isin(scored)
        summed = rows[whole].groupby(["prompt_id", "layer"], sort=False)["logprob"].sum(min_count=1)
        others = rows[~whole]
        others = others[others["position"] == others["prompt_id"].map(ends)]
        pairs = zip(others["prompt_id"], others["target"], strict=True)
        asked = np.fromiter((pair in named for pair in pairs), bool, len(others))
        others = others[others["is_foil"] | asked]
        best = others.groupby(["prompt_id", "layer", "is_foil"], sort=False)["logprob"].max()
        first = others[~others["is_foil"]].groupby(["prompt_id", "layer"], sort=False)["rank"].min()
        wide = best.unstack("is_foil").reindex(columns=[False, True])
        tokens = others[~others["is_foil"]].groupby("prompt_id", sort=False)["token_id"].unique()
        return cls(
            tuple(layers.tolist()),
            _by_prompt(summed.to_frame(), layers),
            _by_prompt(wide, layers),
            _by_prompt(first.to_frame(), layers),
            {str(name): tuple(map(int, found)) for name, found in tokens.items()},
        )

    def decided(self, differences: Values) -> int | None:
        """Return the first layer from which on the sign is the final one; ``None`` where it is 0.

        Args:
            differences: [layers] right minus wrong.
        """
        signs = np.sign(differences)
        if signs[-1] == 0 or np.isnan(signs).any():
            return None
        other = np.flatnonzero(signs != signs[-1])
        return self.layers[int(other[-1]) + 1] if len(other) else self.layers[0]


def _by_prompt(found: pd.DataFrame, layers: Values) -> dict[str, Values]:
    """Split values by prompt, [layers] or [layers, columns] each."""
    made: dict[str, Values] = {}
    for name, rows in found.groupby(level="prompt_id", sort=False):
        values = rows.droplevel("prompt_id").reindex(layers).to_numpy(float)
        made[str(name)] = values[:, 0] if values.shape[1] == 1 else values
    return made

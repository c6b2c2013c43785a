"""Work out how many tokens a top-p or min-p keeps, applied alone, from the falloff of outputs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log

import numpy as np
import pandas as pd

from elimtool.analysis.populations.coverage.gold import KEY
from elimtool.analysis.statistics.base import Values
from elimtool.files.rows import Row
from elimtool.run.reader import Run
from elimtool.run.tables.falloff import EDGES, STEPS

ROUNDING = 1e-3
"""Part of a step by which a distance may be rounded."""
SINGLE = 1e-6
"""Part of a probability by which it may be: masses are kept in single precision."""


@dataclass(frozen=True)
class Falloffs:
    """Falloffs of some outputs, see the table ``falloff``.

    Attributes:
        counts: [places, edges + 1] tokens within each distance, and all of them.
        masses: [places, edges + 1] their probability.
        weights: [places] part of each in a mean in which a prompt or text counts once; they sum to 1.
    """

    counts: Values
    masses: Values
    weights: Values

    @classmethod
    def of(cls, run: Run, places: pd.DataFrame) -> Falloffs | None:
        """Read those of some places; ``None`` where there is none of some prompt or text.

        Args:
            run: The run.
            places: Rows with ``prompt_id`` and ``position``. Of a text one has a falloff, drawn by its id and
                not by who reads it: in a mean it stands for any.
        """
        if "falloff" not in run.tables or places.empty:
            return None
        table = run.arrow("falloff")
        at = table.select(KEY).to_pandas()
        at["row"] = np.arange(len(at))
        found = places[KEY].drop_duplicates().merge(at, on=KEY, how="inner")
        if found["prompt_id"].nunique() < places["prompt_id"].nunique():
            return None
        kept = table.select(["n_within", "mass_within"]).take(found["row"].to_numpy(np.int64))
        counts, masses = (np.stack(kept.column(name).to_numpy()).astype(float) for name in kept.column_names)
        each = found.groupby("prompt_id")["row"].transform("size").to_numpy(float)
        return cls(counts, masses, 1 / each / found["prompt_id"].nunique())

    def sizes(self, sampler: str, setting: float) -> Row:
        """Average the number of tokens that a setting keeps over the places.

        Args:
            sampler: ``top_p`` or ``min_p``.
            setting: Its setting, above 0.

        Returns:
            ``mean_size``, and bounds of the exact mean: ``size_low`` and ``size_high``.
        """
        bounds = (self.top_p if sampler == "top_p" else self.min_p)(setting)
        names = ("size_low", "size_high", "mean_size")
        return dict(zip(names, (float(self.weights @ one) for one in bounds), strict=True))

    def min_p(self, setting: float) -> tuple[Values, Values, Values]:
        """Bound the tokens that min-p keeps: those within -ln(setting) of the most probable one.

        Returns:
            [places] fewest and most, and as if tokens lay evenly between two edges.
        """
        distance = -log(setting) * STEPS
        low, high = floor(distance - ROUNDING), ceil(distance + ROUNDING)
        fewest = self.counts[:, min(max(low, 0), EDGES - 1)]
        most = self.counts[:, min(high, EDGES)]
        share = 0.5 if high >= EDGES else (distance - low) / (high - low)
        return fewest, most, fewest + share * (most - fewest)

    def top_p(self, setting: float) -> tuple[Values, Values, Values]:
        """Bound the tokens that top-p keeps: those with less than the setting before them.

        Between two edges all tokens are nearly as probable, so that few numbers of them make up what is left.

        Returns:
            [places] fewest and most, and their mean.
        """
        rows = np.arange(len(self.masses))
        edge = np.minimum((self.masses < setting).sum(1), EDGES)
        inner = np.maximum(edge - 1, 0)
        before, mass = (np.where(edge > 0, some[rows, inner], 0.0) for some in (self.counts, self.masses))
        top = self.masses[:, 0] / self.counts[:, 0]
        largest = top * np.exp(-inner / STEPS)
        smallest = np.where(edge < EDGES, top * np.exp(-edge / STEPS), 0.0)
        within = self.counts[rows, edge]
        left = np.maximum(setting - mass, 0.0)
        slack = SINGLE * setting
        fewest = np.clip(before + np.ceil((left - slack) / largest), before, within)
        with np.errstate(divide="ignore"):
            most = np.clip(before + np.ceil((left + slack) / smallest), before, within)
        return fewest, most, (fewest + most) / 2

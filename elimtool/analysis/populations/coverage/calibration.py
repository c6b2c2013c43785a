"""Compare what a model claims with how often it is right, and what a chain kills with what it should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from elimtool.analysis.populations.coverage.gold import KEY, fates
from elimtool.analysis.statistics.base import AT_ONCE, LABELS, ROUNDING, Values, generator
from elimtool.analysis.statistics.crossed import FEWEST
from elimtool.analysis.statistics.flips import sign_flips
from elimtool.analysis.statistics.proportions import t_interval, wilson
from elimtool.files.rows import Row
from elimtool.run.reader import Run

BINS = 10
"""Bins of equal count."""
DRAWS = 1000
"""Sets of labels drawn for the calibration error of a calibrated model."""
PEAKED = 0.5
"""Collision probability from which an output counts as peaked."""

Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Claims:
    """The first choices at some places.

    Attributes:
        where: Chain, stage index and stage; all ``None`` at the output.
        frame: A row a place: ``prompt_id``, ``confidence``, ``hit``, and after a stage ``alive`` and
            ``output_mass``.
    """

    where: tuple[str | None, int | None, str | None]
    frame: pd.DataFrame

    def row(self, subset: str, seed: int) -> Row:
        """Make its row of ``calibration``."""
        confidence, hit = self.frame["confidence"].to_numpy(float), self.frame["hit"].to_numpy(bool)
        null = null_errors(confidence, seed)
        return {
            **self.place(),
            "subset": subset,
            "n": len(hit),
            "n_units": self.frame["prompt_id"].nunique(),
            "accuracy": float(hit.mean()),
            "confidence": float(confidence.mean()),
            "ece": calibration_error(confidence, hit),
            "ece_null": float(null.mean()),
            "ece_null_95": float(np.quantile(null, 0.95)),
            "brier": float(np.square(confidence - hit).mean()),
            **self._over_elimination(seed),
        }

    def place(self) -> Row:
        """Return the columns that say where it is."""
        return dict(zip(("chain", "stage_index", "stage"), self.where, strict=True))

    def bins(self) -> Iterator[Row]:
        """Make its rows of ``calibration_bins``."""
        confidence, hit = self.frame["confidence"].to_numpy(float), self.frame["hit"].to_numpy(bool)
        for number, part in enumerate(equal_bins(confidence)):
            low, high = wilson(float(hit[part].sum()), len(part))
            yield {
                **self.place(),
                "bin": number,
                "n": len(part),
                "confidence": float(confidence[part].mean()),
                "accuracy": float(hit[part].mean()),
                "ci_low": low,
                "ci_high": high,
            }

    def _over_elimination(self, seed: int) -> Row:
        names = ("gold_pruned", "expected", "excess", "ci_low", "ci_high", "p_value")
        found: Row = dict.fromkeys(names)
        if self.where[0] is None:
            return found
        pruned = ~self.frame["alive"].to_numpy(bool)
        found["gold_pruned"] = float(pruned.mean())
        lost = 1 - self.frame["output_mass"].to_numpy(float)
        lost = np.where(lost < ROUNDING, 0.0, lost)  # where nothing is removed the sum may miss 1
        if np.isnan(lost).any():
            return found
        found["expected"] = float(lost.mean())
        excess = pd.Series(pruned - lost).groupby(self.frame["prompt_id"].to_numpy(), sort=False).mean()
        units = excess.to_numpy(float)
        found["excess"] = float(units.mean())
        if len(units) > 1:
            found["ci_low"], found["ci_high"] = t_interval(units)
        if len(units) >= FEWEST:
            found["p_value"] = float(sign_flips(units[:, None], seed)[0])
        return found


def calibration(run: Run, places: pd.DataFrame, seed: int) -> tuple[list[Row], list[Row]]:
    """Make the rows of ``calibration`` and ``calibration_bins``.

    Args:
        run: The run.
        places: From ``gold_places``.
        seed: Seed of drawn labels and p-values.
    """
    places = places[places["confidence"].notna()]
    if places.empty:
        return [], []
    rows: list[Row] = []
    bins: list[Row] = []
    collisions = _collisions(run)
    for one in _claims(run, places):
        rows.append(one.row("all", seed))
        bins += one.bins()
        if collisions is None:
            continue
        collision = one.frame[KEY].merge(collisions, on=KEY, how="left")["collision"].to_numpy(float)
        for subset, chosen in (("spread", collision < PEAKED), ("peaked", collision >= PEAKED)):
            if chosen.any():
                rows.append(Claims(one.where, one.frame[chosen]).row(subset, seed))
    return rows, bins


def _claims(run: Run, places: pd.DataFrame) -> Iterator[Claims]:
    yield Claims((None, None, None), places)
    if not {"sampling", "sampling_targets"} <= set(run.tables):
        return
    found = fates(run, places)
    for _, part in found.groupby(["chain", "stage_index"], sort=False):
        first = part.iloc[0]
        where = str(first["chain"]), int(first["stage_index"]), str(first["stage"])
        yield Claims(where, part.reset_index(drop=True))


def _collisions(run: Run) -> pd.DataFrame | None:
    """Return the collision probability of the output at each place; ``None`` if the run has none."""
    if "lens_layers" not in run.tables:
        return None
    rows: pd.DataFrame = run.arrow("lens_layers").select([*KEY, "layer", "collision"]).to_pandas()
    last: pd.DataFrame = rows[rows["layer"] == rows["layer"].max()].drop(columns="layer")
    return last


def equal_bins(confidence: Values) -> list[npt.NDArray[np.intp]]:
    """Split places into bins of equal count by rising confidence; ties in the order of places."""
    order = np.argsort(confidence, kind="stable")
    return [part for part in np.array_split(order, BINS) if len(part)]


def calibration_error(confidence: Values, hit: Truths) -> float:
    """Compute the expected calibration error over bins of equal count.

    Source: Guo et al. 2017, "On calibration of modern neural networks"; bins of equal count as in Nixon et
    al. 2019, "Measuring calibration in deep learning".

    Args:
        confidence: [places] probability of the first choice.
        hit: [places] whether it is right.
    """
    parts = equal_bins(confidence)
    gaps = [abs(float((hit[part] - confidence[part]).sum())) for part in parts]
    return sum(gaps) / len(confidence)


def null_errors(confidence: Values, seed: int) -> Values:
    """Draw the calibration errors of a model that is right as often as it claims.

    Args:
        confidence: [places] probability of the first choice.
        seed: Seed of the labels.

    Returns:
        ``DRAWS`` errors.
    """
    parts = equal_bins(confidence)
    ordered = confidence[np.concatenate(parts)]
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    random, found = generator(seed, LABELS), []
    step = max(1, AT_ONCE // len(ordered))
    for begin in range(0, DRAWS, step):
        labels = random.random((min(step, DRAWS - begin), len(ordered))) < ordered
        gaps = np.abs(np.add.reduceat(labels - ordered, starts, axis=1))
        found.append(gaps.sum(1) / len(ordered))
    return np.concatenate(found)

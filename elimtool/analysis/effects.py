"""Compare every target with and without the interventions, from the two passes of one run."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING

from elimtool.analysis.culprits import KEY, Key, key_of
from elimtool.files.rows import Rows

if TYPE_CHECKING:
    from elimtool.run import Run


def effects(run: Run) -> Rows:
    """Make the rows of the table ``effects``: each target in the model's own pass and under interventions.

    Args:
        run: A run with interventions that has ``lens``, ``lens_layers``, ``survival`` and ``verdicts``.
    """
    label = run.interventions
    before, after = _Pass(run.under(None)), _Pass(run.under(label))
    rows = []
    for key, row in before.targets.items():
        later = after.targets[key]
        versus = before.versus(key)
        rows.append(
            {
                **dict(zip(KEY, key, strict=True)),
                "target_token": row["target_token"],
                "intervention": label,
                "rank_before": row["rank"],
                "rank_after": later["rank"],
                "prob_before": row["prob"],
                "prob_after": later["prob"],
                "logprob_change": _change(before.final[key]["logprob"], after.final[key]["logprob"]),
                "versus": versus,
                "logit_difference_before": before.difference(key, versus),
                "logit_difference_after": after.difference(key, versus),
                "outcome_before": before.outcomes[key],
                "outcome_after": after.outcomes[key],
                "top_before": before.tops[key[:2]],
                "top_after": after.tops[key[:2]],
            }
        )
    return rows


class _Pass:
    """The output of one pass by target."""

    def __init__(self, run: Run) -> None:
        self.targets = {key_of(row): row for row in run.arrow("survival").to_pylist()}
        self.outcomes = {key_of(row): row["outcome"] for row in run.arrow("verdicts").to_pylist()}
        last = (run.n_layers or 0) - 1
        self.final = {key_of(row): row for row in run.arrow("lens").to_pylist() if row["layer"] == last}
        tops = (row for row in run.arrow("lens_layers").to_pylist() if row["layer"] == last)
        self.tops = {(row["prompt_id"], row["position"]): row["top_token"] for row in tops}

    def versus(self, key: Key) -> str | None:
        """Choose what to compare with: the first foil there, else the most probable other target."""
        token = self.targets[key]["token_id"]
        others = [row for other, row in self.final.items() if other[:2] == key[:2]]
        others = [row for row in others if row["token_id"] != token]
        foils = [row for row in others if row["is_foil"]]
        best = foils[0] if foils else max(others, key=lambda row: float(row["logit"]), default=None)
        return None if best is None else str(best["target"])

    def difference(self, key: Key, versus: str | None) -> float | None:
        """Return the logit of a target minus that of another."""
        if versus is None:
            return None
        return float(self.final[key]["logit"] - self.final[key[0], key[1], versus]["logit"])


def _change(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or isinf(before) or isinf(after):  # probability 0
        return None
    return after - before

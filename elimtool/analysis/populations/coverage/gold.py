"""Find the places of a run whose right token is known, and what happens to it at each stage."""

from __future__ import annotations

import numpy as np
import pandas as pd

from elimtool.files.rows import Rows
from elimtool.prompts.design import ABSTAIN
from elimtool.run.reader import Run

KEY = ["prompt_id", "position"]


def measured_prompts(run: Run) -> Rows:
    """Return the prompts that were measured, in the run's order, each with the place ``last`` of its end.

    That is where a target would follow; what the model wrote comes after it.
    """
    names = ["prompt_id", "status", "tuple", "group", "category", "role", "scored", "answers", "targets"]
    names += ["foils", "n_tokens", "n_written", "tokens", "token_ids", "n_appended", "appended_logprob"]
    rows: Rows = run.arrow("prompts").select(names).to_pylist()
    return [
        {**one, "last": one["n_tokens"] - (one["n_written"] or 0) - 1}
        for one in rows
        if one["status"] == "ok"
    ]


def gold_places(run: Run, prompts: Rows) -> pd.DataFrame:
    """Return the rows of ``survival`` of right tokens, where each place has one.

    That is every position of a text that is scored, and the last one of a prompt with one target. The wrong
    sides of minimal pairs are left out.

    Args:
        run: The run.
        prompts: Its measured prompts.

    Returns:
        A row a place, in the run's order, with ``confidence`` (probability of the most probable token) and
        ``hit`` (whether that is the right one).
    """
    names = ["target", "token_id", "rank", "prob", "min_top_k", "min_top_p", "max_min_p", "target_logprob"]
    rows: pd.DataFrame = run.arrow("survival").select([*KEY, *names]).to_pandas()
    facts = pd.DataFrame(
        {
            "prompt_id": [one["prompt_id"] for one in prompts],
            "whole": [one["scored"] is not None for one in prompts],
            "only": [one["targets"][0] if len(one["targets"]) == 1 else None for one in prompts],
            "last": [one["last"] for one in prompts],
            "right": [one["role"] not in ("bad", ABSTAIN) for one in prompts],
        }
    )
    rows = rows.merge(facts, on="prompt_id", how="inner")
    asked = (rows["target"] == rows["only"]) & (rows["position"] == rows["last"])
    rows = rows[(rows["whole"] | asked) & rows["right"]].reset_index(drop=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        rows["confidence"] = (rows["prob"] / rows["max_min_p"]).clip(upper=1.0)
    rows["hit"] = rows["rank"] == 1
    return rows


def fates(run: Run, places: pd.DataFrame) -> pd.DataFrame:
    """Return what each stage does to the right token of each place.

    Args:
        run: The run.
        places: Rows with ``prompt_id``, ``position`` and ``token_id``.

    Returns:
        A row a place, chain and stage: ``alive``, ``confidence`` and ``hit`` after it, and ``output_mass``.
    """
    at = [*KEY, "chain", "stage_index"]
    targets = run.arrow("sampling_targets").select([*at, "stage", "token_id", "alive_after", "prob_after"])
    stages = run.arrow("sampling").select([*at, "top_prob", "output_mass"]).to_pandas()
    # two targets may share a token: their fates are one
    found = targets.to_pandas().drop_duplicates([*at, "token_id"])
    found = found.merge(places[[*KEY, "token_id"]], on=[*KEY, "token_id"], how="inner")
    found = found.merge(stages, on=at, how="inner")
    # rounding: both are the same softmax, of a token and of the largest
    near = found["prob_after"] >= found["top_prob"] * (1 - 1e-9)
    found["hit"] = found["alive_after"] & near
    named: pd.DataFrame = found.rename(columns={"alive_after": "alive", "top_prob": "confidence"})
    return named

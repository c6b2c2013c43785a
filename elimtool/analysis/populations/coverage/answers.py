"""Follow many right answers through the stages of each chain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import exp

import numpy as np
import pandas as pd

from elimtool.analysis.populations.coverage.gold import KEY
from elimtool.analysis.statistics.base import Values
from elimtool.files.rows import Row, Rows
from elimtool.run.reader import Run

Tokens = list[frozenset[int]]
"""First tokens of each answer that can be told apart."""


def answers(run: Run, prompts: Rows) -> list[Row]:
    """Make the rows of ``answers``.

    Args:
        run: The run; its chains' tables and ``survival`` are read.
        prompts: Its measured prompts.
    """
    asked = {one["prompt_id"]: one for one in prompts if one["answers"] is not None and one["scored"] is None}
    lists = {name: json.loads(one["answers"]) for name, one in asked.items()}
    if not lists or not {"sampling", "sampling_targets", "survival"} <= set(run.tables):
        return []
    ids = set(lists)
    survival = _some(run, "survival", ids, ["target", "token_id", "target_logprob", "spelling"])
    named = {key: rows for key, rows in survival.groupby(KEY, sort=False)}
    fate = _some(run, "sampling_targets", ids, ["chain", "stage_index", *_FATE])
    fated = {key: rows for key, rows in fate.groupby([*KEY, "chain", "stage_index"], sort=False)}
    stages = _some(run, "sampling", ids, ["chain", "stage_index", "stage", *_STAGE])
    before = _hill2_before(run, ids)
    found: list[Row] = []
    for one in stages.to_dict("records"):
        key = one["prompt_id"], one["position"]
        given = lists[key[0]]
        distinct = told_apart(given, dict(zip(named[key]["target"], named[key]["token_id"], strict=True)))
        if not distinct:  # the record names other targets, so that no answer was followed
            continue
        common = {"prompt_id": key[0], "position": key[1], "chain": one["chain"], "n_answers": len(given)}
        rows = fated[(*key, one["chain"], one["stage_index"])]
        if one["stage_index"] == 0:
            joint = joint_mass(given, named[key], asked[key[0]])
            start = {"stage_index": -1, "stage": None, "joint_mass": joint}
            hills = _hills(one["n_before"], one["entropy_before"], before.get(key))
            found.append({**common, **start, **_standing(distinct, rows, "before"), **hills})
        hill2 = None if np.isnan(one["collision_after"]) else one["collision_after"]
        after = {"stage_index": one["stage_index"], "stage": one["stage"], "joint_mass": None}
        hills = _hills(one["n_after"], one["entropy_after"], hill2)
        found.append({**common, **after, **_standing(distinct, rows, "after"), **hills})
    return found


_FATE = ("token_id", "alive_before", "alive_after", "prob_before", "prob_after")
_STAGE = ("n_before", "n_after", "entropy_before", "entropy_after", "collision_after")


def _some(run: Run, name: str, ids: set[str], columns: Sequence[str]) -> pd.DataFrame:
    rows: pd.DataFrame = run.arrow(name).select([*KEY, *columns]).to_pandas()
    return rows[rows["prompt_id"].isin(ids)]


def _hill2_before(run: Run, ids: set[str]) -> dict[tuple[str, int], float]:
    """Return the collision probability of the output at each place."""
    if "lens_layers" not in run.tables:
        return {}
    rows = _some(run, "lens_layers", ids, ["layer", "collision"])
    rows = rows[rows["layer"] == rows["layer"].max()]
    keys = zip(rows["prompt_id"], rows["position"], strict=True)
    return dict(zip(keys, rows["collision"], strict=True))


def told_apart(given: Sequence[Sequence[str]], tokens: Mapping[str, int]) -> Tokens:
    """Merge answers that share a first token with one of their aliases.

    Args:
        given: Aliases of each answer.
        tokens: First token of each alias that was followed.

    Returns:
        The first tokens of each answer that is left; none without a token.
    """
    merged: Tokens = []
    for aliases in given:
        own = frozenset(tokens[one] for one in aliases if one in tokens)
        if not own:
            continue
        same = [one for one in merged if one & own]
        merged = [one for one in merged if not one & own] + [own.union(*same)]
    return merged


def joint_mass(given: Sequence[Sequence[str]], rows: pd.DataFrame, prompt: Row) -> float | None:
    """Sum the probabilities of whole answers after a prompt, of which none begins another.

    Args:
        given: Aliases of each answer.
        rows: Rows of ``survival`` of one place.
        prompt: The row of ``prompts``. The place is after what all answers begin with, which must follow too.

    Returns:
        The sum; ``None`` where an answer was not measured.
    """
    wanted = {alias for aliases in given for alias in aliases}
    chosen = rows[rows["target"].isin(wanted)]
    before = prompt["appended_logprob"] if prompt["n_appended"] else 0.0
    if chosen.empty or chosen["target_logprob"].isna().any() or before is None:
        return None
    logprobs = dict(zip(chosen["spelling"], chosen["target_logprob"], strict=True))
    return min(1.0, sum(exp(before + logprobs[one]) for one in prefix_free(logprobs)))


def prefix_free(texts: Mapping[str, float]) -> Iterator[str]:
    """Iterate over the texts that do not begin with another: what follows one is counted with it."""
    kept: list[str] = []
    for text in sorted(texts):  # a text sorts right after its beginnings
        if not any(text.startswith(one) for one in kept):
            kept.append(text)
            yield text


def _standing(distinct: Tokens, rows: pd.DataFrame, side: str) -> Row:
    """Count the answers that are alive before or after a stage, and sum their probabilities."""
    tokens = rows.drop_duplicates("token_id").set_index("token_id")
    alive, prob = tokens[f"alive_{side}"].to_dict(), tokens[f"prob_{side}"].to_dict()
    masses: Values = np.array([sum(prob[token] for token in sorted(one)) for one in distinct])
    n_alive = sum(any(alive[token] for token in one) for one in distinct)
    shares = masses[masses > 0] / masses.sum() if masses.sum() > 0 else masses[:0]
    return {
        "n_distinct": len(distinct),
        "n_alive": n_alive,
        "alive_share": n_alive / len(distinct),
        "mass": min(1.0, float(masses.sum())),
        "answers_hill1": exp(float(-(shares * np.log(shares)).sum())) if len(shares) else None,
    }


def _hills(n: int, entropy: float, collision: float | None) -> Row:
    """Return the Hill numbers, in their order whatever the rounding."""
    hill1 = min(float(n), max(1.0, exp(entropy)))
    hill2 = None if collision is None else min(hill1, max(1.0, 1 / collision))
    return {"hill0": n, "hill1": hill1, "hill2": hill2}

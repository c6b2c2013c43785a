"""Judge the items of a run: minimal pairs, facts, and other prompts with targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from elimtool.analysis.populations.coverage.gold import KEY
from elimtool.analysis.populations.coverage.lens import LensSums
from elimtool.files.rows import Row, Rows
from elimtool.run.reader import Run
from elimtool.suites.sentences import CONTINUATION

FIRST_TOKEN = "first-token"
"""Rule of items that are no pairs: a target's first token against a foil's."""
Cut = tuple[str, str]


@dataclass(frozen=True)
class Fates:
    """What chains do to the tokens that are followed.

    Attributes:
        cuts: Prompt, position and token -> the chain and stage that cut it, in the order of chains.
        chains: Number of chains.
    """

    cuts: Mapping[tuple[str, int, int], Sequence[Cut]]
    chains: tuple[str, ...]

    @classmethod
    def of(cls, run: Run) -> Fates:
        """Read them from ``sampling_targets``; nothing if the run has none."""
        if "sampling_targets" not in run.tables:
            return cls({}, ())
        table = run.arrow("sampling_targets")
        chains = tuple(str(one) for one in pc.unique(table.column("chain")).to_pylist())
        cut = table.filter(pc.and_(table.column("alive_before"), pc.invert(table.column("alive_after"))))
        found: dict[tuple[str, int, int], list[Cut]] = {}
        columns = [cut.column(name).to_pylist() for name in (*KEY, "token_id", "chain", "stage")]
        for prompt, position, token, chain, stage in zip(*columns, strict=True):
            cuts = found.setdefault((prompt, position, token), [])
            if (chain, stage) not in cuts:  # two targets may share a token
                cuts.append((chain, stage))
        return cls(found, chains)

    def columns(self, prompt: str, position: int, tokens: Sequence[int]) -> Row:
        """Say whether one of some tokens survives every chain, and else what cuts the last of them."""
        if not self.chains or not tokens:
            return {"alive": None, "cut_chain": None, "cut_stage": None}
        cut = [dict(self.cuts.get((prompt, position, token), ())) for token in tokens]
        for chain in self.chains:
            if all(chain in one for one in cut):
                return {"alive": False, "cut_chain": chain, "cut_stage": cut[0][chain]}
        return {"alive": True, "cut_chain": None, "cut_stage": None}


def items(run: Run, prompts: Rows) -> list[Row]:
    """Make the rows of ``coverage_items``.

    Args:
        run: The run; ``survival`` is read, and ``lens`` and ``sampling_targets`` where it has them.
        prompts: Its measured prompts.
    """
    fates = Fates.of(run)
    survival: pd.DataFrame = (
        run.arrow("survival").select([*KEY, "target", "token_id", "target_logprob", "prob"]).to_pandas()
    )
    own = {str(name): rows for name, rows in survival.groupby("prompt_id", sort=False)}
    sides: dict[str, dict[str, Row]] = {}
    for one in prompts:
        if one["role"] in ("good", "bad"):
            sides.setdefault(one["tuple"], {})[one["role"]] = one
    lens = LensSums.of(run, prompts)
    found: list[Row | None] = []
    for one in prompts:
        if one["role"] == "good" and "bad" in sides[one["tuple"]]:
            bad = sides[one["tuple"]]["bad"]
            found.append(_pair(one, bad, (own[one["prompt_id"]], own[bad["prompt_id"]]), lens, fates))
        elif one["role"] is None and one["scored"] is None and one["targets"]:
            found.append(_fact(one, lens, fates))
    return [one for one in found if one is not None]


def _pair(
    good: Row, bad: Row, own: tuple[pd.DataFrame, pd.DataFrame], lens: LensSums, fates: Fates
) -> Row | None:
    scores = [float(rows["target_logprob"].sum(skipna=False)) for rows in own]
    if np.isnan(scores).any():
        return None
    difference = scores[0] - scores[1]
    tie = difference == 0
    row = {
        "item": good["tuple"],
        "category": good["category"],
        "rule": good["scored"] or CONTINUATION,
        "score_good": scores[0],
        "score_bad": scores[1],
        "difference": difference,
        "correct": difference >= 0,
        "tie": tie,
    }
    return {
        **row,
        **_first_token(good, bad, own, None if tie else difference, fates),
        "decided_layer": None if tie else _decided(lens, good, bad),
    }


def _first_token(
    good: Row, bad: Row, own: tuple[pd.DataFrame, pd.DataFrame], difference: float | None, fates: Fates
) -> Row:
    """Say what the first token that differs is worth, and what chains do to it."""
    ids = [list(one["token_ids"]) for one in (good, bad)]
    if good["scored"] is None:  # the token after the prompts, if these are the same
        place = len(ids[0]) if ids[0] == ids[1] else None
    else:
        place = next((at for at, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), None)
    rows = [one[one["position"] == place - 1] if place else one.iloc[:0] for one in own]
    nothing = {"first_difference": None, "token_share": None, "decides_there": None}
    if place is None or rows[0].empty or rows[1].empty:
        return {**nothing, **fates.columns(good["prompt_id"], 0, ())}
    right, wrong = rows[0].iloc[0], rows[1].iloc[0]
    alive = fates.columns(good["prompt_id"], place - 1, [int(right["token_id"])])
    if good["scored"] is None and right["token_id"] == wrong["token_id"]:
        return {**nothing, **alive}
    if difference is None:
        return {**nothing, "first_difference": place, **alive}
    share = float(np.log(right["prob"]) - np.log(wrong["prob"])) / difference
    return {"first_difference": place, "token_share": share, "decides_there": share > 0, **alive}


def _decided(lens: LensSums, good: Row, bad: Row) -> int | None:
    """Return the layer from which on the sums over both sentences have the final sign."""
    if good["prompt_id"] not in lens.sums or bad["prompt_id"] not in lens.sums:
        return None
    return lens.decided(lens.sums[good["prompt_id"]] - lens.sums[bad["prompt_id"]])


def _fact(one: Row, lens: LensSums, fates: Fates) -> Row | None:
    """Judge a prompt with targets by their first tokens, against its foils if it has any."""
    if one["prompt_id"] not in lens.best:
        return None
    best, foiled = lens.best[one["prompt_id"]], len(one["foils"]) > 0
    good, bad = best[-1]
    difference = float(good - bad) if foiled else None
    first = lens.first[one["prompt_id"]] == 1
    differences = best[:, 0] - best[:, 1] if foiled else np.where(first, 1.0, -1.0)
    return {
        "item": one["prompt_id"],
        "category": one["category"],
        "rule": FIRST_TOKEN,
        "score_good": float(good),
        "score_bad": float(bad) if foiled else None,
        "difference": difference,
        "correct": bool(first[-1]) if difference is None else difference >= 0,
        "tie": None if difference is None else difference == 0,
        "first_difference": None,
        "token_share": None,
        "decides_there": None,
        "decided_layer": lens.decided(differences),
        **fates.columns(one["prompt_id"], one["last"], lens.tokens[one["prompt_id"]]),
    }

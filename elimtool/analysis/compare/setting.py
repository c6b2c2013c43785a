"""Hold two sides and their pairs, and work out what they share: vocabulary, depth, targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from elimtool.analysis.compare.join import Pair, joined, pair_frame
from elimtool.analysis.compare.side import TARGET, Side, without_foils

TOLD = ["outcome", "regime", "entry_layer", "commit_layer", "lost_layer", "best_rank", "final_rank"]
TOLD += ["final_prob", "cut_chain", "cut_stage", "eliminator", "eliminator_dla", "promoter", "promoter_dla"]
"""Columns of ``verdicts`` that are compared."""


@dataclass(frozen=True)
class Setting:
    """What is compared with what.

    Args:
        a: Side A.
        b: Side B.
        given: The pairs, in order.
        same_tokens: Whether token ids mean the same on both sides; else targets are joined as strings.
        chains: Names of A's chain and of B's, if two of different names are compared.
    """

    a: Side
    b: Side
    given: tuple[Pair, ...]
    same_tokens: bool
    chains: tuple[str, str] | None = None

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Pairs that both sides measured: ``order``, ``pair_id`` and the rest of ``Pair``."""
        known = pair_frame(self.given)
        at_a, at_b = (set(side.positions["prompt_id"]) for side in (self.a, self.b))
        return known[known["prompt_id_a"].isin(at_a) & known["prompt_id_b"].isin(at_b)]

    @property
    def same_depth(self) -> bool:
        """Whether layers can be compared by their index."""
        depths = self.a.run.n_layers, self.b.run.n_layers
        return depths[0] == depths[1] or None in depths

    @property
    def unnamed(self) -> dict[str, None]:
        """``{"chain": None}`` if the chains of the two sides have different names."""
        return {"chain": None} if self.chains else {}

    def both(self, name: str) -> bool:
        """Return whether both sides have a table."""
        return self.a.has(name) and self.b.has(name)

    @cached_property
    def finals(self) -> pd.DataFrame:
        """Targets and foils that both sides followed, with their numbers in the output."""
        a, b = (self.keyed(side, side.finals) for side in (self.a, self.b))
        return joined(self.pairs, a, b, ["target", "is_foil", "key"])

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Verdicts of both sides, joined by target, with the log-probability in the output (nats)."""
        keys = ["target", "key"]
        found = []
        for side in (self.a, self.b):
            rows = self.keyed(side, side.rows("verdicts", [*TARGET[:2], *TOLD]))
            finals = self.keyed(side, without_foils(side.finals).drop(columns=["is_foil", "rank", "prob"]))
            finals = finals.rename(columns={"logprob": "final_logprob"}).drop(columns=TARGET[1:])
            found.append(rows.merge(finals, on=["prompt_id", *keys], how="left", sort=False))
        return joined(self.pairs, found[0], found[1], keys)

    def keyed(self, side: Side, rows: pd.DataFrame, within: Sequence[str] = ()) -> pd.DataFrame:
        """Add a column ``key`` that tells targets with the same text apart.

        Args:
            side: Whose rows they are.
            rows: ``prompt_id``, ``target`` and, unless they are verdicts, ``token_id``.
            within: Other columns that tell rows of one prompt apart, such as the layer.

        Returns:
            ``key`` is the token's id if ids can be compared, else a number from 0 among targets of that text.
            A target that was asked for has its token's text without white space in place of the id: the same
            answer, which one side may write with a space and the other without.
        """
        by = ["prompt_id", "target", *within, *(["is_foil"] if "is_foil" in rows else [])]
        number = rows.groupby(by, sort=False).cumcount()
        if "token_id" not in rows:
            known = without_foils(side.finals)[["prompt_id", "target", "token_id"]]
            known = known.assign(number=known.groupby(["prompt_id", "target"], sort=False).cumcount())
            found = rows.assign(number=number).merge(
                known, on=["prompt_id", "target", "number"], how="left", sort=False
            )
            rows, number = found.drop(columns="number"), found["number"]
        if not self.same_tokens:
            return rows.assign(key=number.astype("string"))
        key, bare = rows["token_id"].astype("string"), rows["target_token"].str.strip()
        asked = rows["prompt_id"].isin(self._asked[side is self.b]) & (bare != "") & (number == 0)
        return rows.assign(key=key.where(~asked, bare))

    @cached_property
    def _asked(self) -> tuple[set[str], set[str]]:
        """Prompts of A and of B in pairs where both have targets or foils of the user."""
        both = self.pairs[["prompt_id_a", "prompt_id_b"]]
        both = both[both["prompt_id_a"].isin(self.a.asked) & both["prompt_id_b"].isin(self.b.asked)]
        return set(both["prompt_id_a"]), set(both["prompt_id_b"])

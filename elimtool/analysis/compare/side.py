"""Read one side of a comparison: the rows of a run at the compared positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from elimtool.errors import ElimError
from elimtool.run.parts import frame

if TYPE_CHECKING:
    from elimtool.prompts.position import OnePosition
    from elimtool.run import Run

PROBED = (
    "top_tokens",
    "lens_layers",
    "survival",
    "verdicts",
    "sampling",
    "attention_layers",
    "regimes",
    "mechanisms",
    "lens",
    "attention",
)
"""Tables that show which positions were probed, small ones first."""


TARGET = ["target", "target_token", "token_id"]
"""Columns that say what a row of a target is of."""


class Side:
    """One side of a comparison.

    Args:
        run: The run; one pass of it.
        position: Which probed position of each prompt: the last one, or an index.
        chains: Chain of the run -> its name in the comparison; other chains are left out. ``None`` keeps all
            under their own names.
    """

    def __init__(
        self, run: Run, position: OnePosition = "last", chains: Mapping[str, str] | None = None
    ) -> None:
        self.run = run
        self.position = position
        self.renamed = chains

    @cached_property
    def prompts(self) -> pd.DataFrame:
        """The table ``prompts``, with the compared position (null if there is none)."""
        columns = ["prompt_id", "status", "error_message", "text", "n_tokens", "token_ids"]
        columns += ["group", "category", "tags", "template"]
        prompts = frame(self.run.arrow("prompts").select(columns))
        found = self.positions.set_index("prompt_id")["position"]
        prompts["position"] = prompts["prompt_id"].map(found).astype("Int32")
        return prompts

    @cached_property
    def appended(self) -> dict[str, str]:
        """Text that was appended for the targets of each prompt, empty for nothing."""
        table = self.run.arrow("prompts").select(["prompt_id", "tokens", "n_appended"])
        return {
            row["prompt_id"]: "".join(row["tokens"][-row["n_appended"] :] if row["n_appended"] else ())
            for row in table.to_pylist()
        }

    @cached_property
    def asked(self) -> set[str]:
        """Ids of the prompts with targets or foils of the user."""
        table = self.run.arrow("prompts").select(["prompt_id", "spellings"])
        return {row["prompt_id"] for row in table.to_pylist() if row["spellings"]}

    @cached_property
    def positions(self) -> pd.DataFrame:
        """``prompt_id`` and the compared ``position`` of the prompts that have one.

        Raises:
            ElimError: The run has no table with positions.
        """
        filled = [name for name in PROBED if name in self.run.tables and self.run.arrow(name).num_rows]
        for name in filled[:1]:
            table = self.run.arrow(name).select(["prompt_id", "position"])
            if self.position != "last":
                table = table.filter(pc.equal(table.column("position"), self.position))
            last = table.group_by("prompt_id", use_threads=False).aggregate([("position", "max")])
            return frame(last).rename(columns={"position_max": "position"})
        if len(self.run.arrow("prompts").filter(pc.field("status") == "ok")):
            where = self.run.path or f"the run of {self.run.manifest.model}"
            raise ElimError(
                f"{where} has no table to compare: only {', '.join(self.run.tables)}",
                "trace with more tables: leave out `tables`, or name lens and survival",
            )
        return pd.DataFrame({"prompt_id": pd.Series(dtype="str"), "position": pd.Series(dtype="int32")})

    def has(self, name: str) -> bool:
        """Return whether the run has a table, with or without rows."""
        return name in self.run.tables

    def rows(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        """Read one table at the compared positions: ``prompt_id`` and some columns, in the run's order."""
        table = self.run.arrow(name).select(["prompt_id", "position", *columns])
        renamed = self.renamed if "chain" in columns else None
        if renamed is not None:
            table = table.filter(pc.is_in(table.column("chain"), pa.array(list(renamed))))
        found = frame(table).merge(self.positions, on=["prompt_id", "position"], how="inner", sort=False)
        if renamed is not None:
            found["chain"] = found["chain"].map(dict(renamed))
        return found.drop(columns="position")

    @property
    def chains(self) -> dict[str, Any]:
        """Sampler chains by their names in the comparison, each in full; those that it leaves out too."""
        stated, renamed = self.run.manifest.chains, self.renamed or {}
        listed = stated if isinstance(stated, list) else []
        found = {str(one["name"]): one for one in listed if isinstance(one, dict) and "name" in one}
        return {renamed.get(name, name): one for name, one in found.items()}

    @cached_property
    def finals(self) -> pd.DataFrame:
        """Rank, probability and log-probability (nats) in the output: a row per prompt and target or foil.

        From ``lens`` if the run has it, else ``survival``, else ``verdicts``.
        """
        if self.has("lens") and self.run.n_layers is not None:
            columns = ["layer", *TARGET, "is_foil", "rank", "prob", "logprob"]
            rows = self.rows("lens", columns)
            return rows[rows["layer"] == self.run.n_layers - 1].drop(columns="layer").reset_index(drop=True)
        if self.has("survival"):
            rows = self.rows("survival", [*TARGET, "rank", "prob"])
        elif self.has("verdicts"):
            rows = self.rows("verdicts", ["target", "target_token", "final_rank", "final_prob"])
            rows = rows.rename(columns={"final_rank": "rank", "final_prob": "prob"})
            rows["token_id"] = pd.array([None] * len(rows), dtype="Int32")
        else:
            names = ["prompt_id", *TARGET, "is_foil", "rank", "prob", "logprob"]
            return pd.DataFrame({name: pd.Series(dtype="object") for name in names})
        rows["is_foil"] = False
        rows["logprob"] = logarithm(rows["prob"])
        return rows

    @cached_property
    def tops(self) -> pd.DataFrame:
        """Most probable token of the output and its probability, a row per prompt."""
        if self.has("top_tokens"):
            rows = self.rows("top_tokens", ["place", "token", "prob"])
            rows = rows[rows["place"] == 1].drop(columns="place")
        elif self.has("lens_layers") and self.run.n_layers is not None:
            rows = self.rows("lens_layers", ["layer", "top_token", "top_prob"])
            rows = rows[rows["layer"] == self.run.n_layers - 1].drop(columns="layer")
            rows = rows.rename(columns={"top_token": "token", "top_prob": "prob"})
        else:
            return pd.DataFrame({"prompt_id": [], "top_token": [], "top_prob": []})
        return rows.rename(columns={"token": "top_token", "prob": "top_prob"})


def without_foils(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of targets."""
    return rows[~rows["is_foil"].astype(bool)]  # ~ does not negate object dtype


def logarithm(values: pd.Series[float]) -> pd.Series[float]:
    """Take the natural logarithm, null for 0."""
    numbers = values.astype("float64")
    return pd.Series(np.log(numbers.where(numbers > 0)), index=values.index)

"""Sum up a finished batch: outcomes by count, the first errors, the prompts that came out worst."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

from elimtool.analysis.experts import by_layer
from elimtool.analysis.recovery import recovery_summary
from elimtool.analysis.risk.summary import risk_summary
from elimtool.files.rows import Rows
from elimtool.run.reader import Run
from elimtool.run.rows import select_rows

ERRORS = 3
WORST = 5
TEXT = 200
"""Characters that are kept of a prompt's text."""
JUDGED = ("prompt_id", "position", "target", "outcome", "final_rank", "final_prob")


def batch_results(run: Run) -> dict[str, Any]:
    """Gather what a batch found, as JSON's own types.

    Args:
        run: A finished run on disk.

    Returns:
        ``outcomes``, targets and positions counted by outcome, the most frequent first; ``first_errors``, id
        and message of the first prompts that failed; ``worst``, the prompts whose first followed token has
        the largest final rank at the last probed position, of equal ranks the least probable first. Without
        the table ``verdicts`` the first and the last are empty. With the table ``experts``, ``experts`` is
        its summary by layer, see ``elimtool.analysis.experts.by_layer``; with ``risk``, ``risk`` is that of
        ``elimtool.analysis.risk.summary``; with rows of ``recovery``, ``recovery`` is that of
        ``elimtool.analysis.recovery``. Where prompts lack tables, ``left_out`` has their number, and id and
        reasons of the first of them.
    """
    errors = select_rows(
        run, "prompts", where=["status=error"], columns=["prompt_id", "error_message"], limit=ERRORS
    )
    found: dict[str, Any] = {"outcomes": {}, "first_errors": errors.rows.to_pylist(), "worst": []}
    if lacking := _left_out(run):
        found["left_out"] = {"prompts": len(lacking), "first": lacking[:ERRORS]}
    if "experts" in run.tables:
        columns = ("layer", "expert", "chosen", "dropped_mass")
        found["experts"] = by_layer(
            select_rows(run, "experts", where=["intervention=null"], columns=columns).rows
        )
    if "risk" in run.tables:
        found["risk"] = risk_summary(run)
    if "recovery" in run.tables and (recovered := recovery_summary(run.under(None))):
        found["recovery"] = recovered
    if "verdicts" not in run.tables:
        return found
    judged = select_rows(run, "verdicts", where=["intervention=null"], columns=JUDGED).rows
    counts = pc.value_counts(judged.column("outcome")).to_pylist()
    counts.sort(key=lambda one: (-one["counts"], one["values"]))
    worst = [{**row, "text": _text(run, row["prompt_id"])} for row in _worst(judged)]
    return found | {"outcomes": {one["values"]: one["counts"] for one in counts}, "worst": worst}


def _left_out(run: Run) -> Rows:
    """Id and reasons of the prompts that lack tables which others have."""
    rows = select_rows(run, "prompts", columns=["prompt_id", "left_out"]).rows
    return [
        {"prompt_id": one["prompt_id"], "reasons": one["left_out"]}
        for one in rows.filter(pc.greater(pc.list_value_length(rows.column("left_out")), 0)).to_pylist()
    ]


def _text(run: Run, prompt_id: str) -> str | None:
    """The beginning of a prompt's text, of a chat what the user says last."""
    (row,) = select_rows(run, "prompts", where=[f"prompt_id='{prompt_id}'"], limit=1).rows.to_pylist()
    said = [one["text"] for one in row.get("turns") or () if one["role"] == "user"]
    text = said[-1] if said else row["text"]
    return None if text is None else str(text)[:TEXT]


def _worst(judged: Any) -> Rows:
    if not judged.num_rows:
        return []
    prompts = judged.column("prompt_id").combine_chunks().dictionary_encode().indices
    codes = prompts.to_numpy(zero_copy_only=False)
    positions = judged.column("position").to_numpy()
    # rows are in order of prompt, position and target: a prompt's last position is the last of its blocks
    starts = np.flatnonzero(np.diff(codes, prepend=-1) | np.diff(positions, prepend=-1))
    first = judged.take(starts[np.flatnonzero(np.diff(codes[starts], append=-1))])
    ranks, probs = (first.column(name).to_numpy() for name in ("final_rank", "final_prob"))
    order = np.lexsort((probs, -ranks))[:WORST]
    rows: Rows = (
        first.select(["prompt_id", "target", "outcome", "final_rank", "final_prob"]).take(order).to_pylist()
    )
    return rows

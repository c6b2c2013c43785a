"""Fill the tables of a walk.

``walk`` has one row a step, ``walk_stages`` one a step and stage, ``walk_rewinds`` one for each time that the
text was taken back, ``walk_grammar`` one a step and grammar.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from elimtool.engine.records import columns_of
from elimtool.engine.sequences import lost
from elimtool.engine.taking_back import Undone
from elimtool.engine.walk import Step, Walk
from elimtool.files.rows import Row
from elimtool.metrics.columns import Columns
from elimtool.metrics.grammars import grammar_rows
from elimtool.metrics.stage_fates import notes_of
from elimtool.samplers import Ledger, StageRecord

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain


def walk_tables(model: Model, one: Encoded, steps: Walk) -> dict[str, Columns]:
    """Fill the tables of walks for the walk of one prompt."""
    chain = steps.chain
    rows = [_step_row(model, one, chain, index, step) for index, step in enumerate(steps)]
    ledgers = [(step.position, step.ledger) for step in steps]
    ledgers += [] if steps.emptied is None else [steps.emptied]
    stages = [
        _stage_row(model, one, chain, index, at, *where)
        for index, where in enumerate(ledgers)
        for at in range(len(chain.stages))
    ]
    filled = {"walk": rows, "walk_stages": stages, "walk_grammar": _grammar_rows(model, one, chain, steps)}
    key = {"prompt_id": one.prompt_id, "chain": chain.name}
    filled["walk_rewinds"] = [
        {**key, **_undone_row(model, back, number)} for number, back in enumerate(steps.undone)
    ]
    return {name: columns_of(some) for name, some in filled.items() if some}


def _grammar_rows(model: Model, one: Encoded, chain: Chain, steps: Sequence[Step]) -> list[Row]:
    found: list[Row] = []
    sums: dict[int, float | None] = {}
    for index, step in enumerate(steps):
        written = [earlier.token for earlier in steps[:index]]
        for row in grammar_rows(chain, step.ledger, written, lambda token: model.tokenizer.texts([token])[0]):
            before = sums.get(row["stage_index"], 0.0)
            new = row["distortion"]
            sums[row["stage_index"]] = so_far = None if before is None or new is None else before + new
            place = {"prompt_id": one.prompt_id, "step": index, "position": step.position}
            found.append({**place, **row, "distortion_so_far": so_far})
    return found


def _step_row(model: Model, one: Encoded, chain: Chain, index: int, step: Step) -> Row:
    before = step.logits.log_softmax(-1)[0]
    after, kept = step.ledger.probs()[0], step.ledger.kept[0]
    almost = _almost(before, kept)
    rival = int(before.index_fill(0, torch.tensor([step.token]), -torch.inf).argmax())
    spelled = model.tokenizer.texts([step.token, rival, *([] if almost is None else [almost])])
    return {
        "prompt_id": one.prompt_id,
        "step": index,
        "position": step.position,
        "chain": chain.name,
        "token": spelled[0],
        "token_id": step.token,
        "prob": float(after[step.token]),
        "model_prob": float(before[step.token].exp()),
        "model_rank": int((before > before[step.token]).sum()) + 1,
        "n_survivors": int(kept.sum()),
        "almost": None if almost is None else spelled[2],
        "almost_id": almost,
        "almost_prob": None if almost is None else float(before[almost].exp()),
        "almost_why": None if almost is None else why_removed(model, step.ledger, almost),
        "runner_up": spelled[1],
        "runner_up_id": rival,
        "runner_up_prob": float(before[rival].exp()),
        "runner_up_cut": None if kept[rival] else _removed_by(step.ledger, rival).stage,
        "runner_up_left": float(after[rival]),
    }


def _almost(before: Float64[Tensor, "vocab"], kept: Bool[Tensor, "vocab"]) -> int | None:
    """Find the model's most probable token among those that the chain removed."""
    removed = before.masked_fill(kept, -torch.inf)  # a survivor's probability may underflow to 0
    token = int(removed.argmax())
    return None if float(removed[token]) == -torch.inf else token


def why_removed(model: Model, ledger: Ledger, token: int) -> str:
    """Say which stage removed a token, and why."""
    record = _removed_by(ledger, token)
    return f"{record.stage}: {record.why(token, spell=lambda one: model.tokenizer.texts([one])[0])}"


def _removed_by(ledger: Ledger, token: int) -> StageRecord:
    for record in ledger.records:
        if bool(record.removed_mask[0, token]):
            return record
    raise ValueError(f"no stage removed token {token}")


def _stage_row(
    model: Model, one: Encoded, chain: Chain, index: int, at: int, position: int, ledger: Ledger
) -> Row:
    record = ledger.records[at]
    return {
        "prompt_id": one.prompt_id,
        "step": index,
        "position": position,
        "chain": chain.name,
        "stage_index": at,
        "stage": record.stage,
        "active": bool(record.active[0]),
        "params": json.dumps(record.params, sort_keys=True),
        "n_before": int(record.n_before[0]),
        "n_after": int(record.n_after[0]),
        "mass_pruned": float(record.mass_pruned[0]),
        "threshold": float(record.threshold[0]),
        "entropy_before": float(record.entropy_before[0]),
        "entropy_after": float(record.entropy_after[0]),
        "notes": notes_of(record, 0, lambda token: model.tokenizer.texts([token])[0]),
    }


def _undone_row(model: Model, one: Undone, number: int) -> Row:
    spelled = model.tokenizer.texts(one.tokens)
    return {
        "rewind": number,
        "step": one.step,
        "stage": one.stage,
        "why": one.rule.told(lambda token: model.tokenizer.texts([token])[0]),
        "n_tokens": len(one.tokens),
        "text": "".join(spelled),
        "token": spelled[0],
        "token_id": one.tokens[0],
        "n_drawn": one.drawn,
        **lost(one.probs),
    }

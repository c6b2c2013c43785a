"""Follow targets of several tokens through sampler chains, with a history that grows token by token.

Fills the tables ``sequences``, ``sequence_steps`` and ``sequence_stages``. The tokens that a target was
encoded to are its path: it is never tokenised again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log, log2, prod
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.against import After, history
from elimtool.engine.fates import mean, remover, stage_fates
from elimtool.engine.forced import Ways, mean_of, outputs, ways
from elimtool.engine.records import columns_of
from elimtool.files.rows import Row, Rows
from elimtool.metrics.columns import Columns
from elimtool.model.decode import end_ids

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain

Ids = tuple[int, ...]


def sequence_tables(
    model: Model, one: Encoded, chains: Sequence[Chain], against: After | None = None
) -> Mapping[str, Columns]:
    """Fill the three tables for the targets and foils of one prompt; nothing where it has none.

    Args:
        model: The model.
        one: The prompt.
        chains: The chains.
        against: Reads the model after a second prompt, for stages that move away from it.

    Raises:
        ElimError: A target outgrows the model's context.
    """
    prompt, paths = paths_of(one)
    wholes: Rows = []
    steps: Rows = []
    stages: Rows = []
    found = zip(one.targets, paths, outputs(model, prompt, paths), strict=True)
    for target, path, logits in found:
        for chain in chains:
            key = {
                "prompt_id": one.prompt_id,
                "chain": chain.name,
                "target": target.text,
                "is_foil": target.is_foil,
            }
            own, fates, back = _followed(model, prompt, path, logits, chain, against)
            wholes.append({**key, **_whole(own), **back})
            steps += [{**key, **row} for row in own]
            stages += [{**key, **row} for row in fates]
    if not wholes:
        return {}
    return {
        "sequences": columns_of(wholes),
        "sequence_steps": columns_of(steps),
        "sequence_stages": columns_of(stages),
    }


def paths_of(one: Encoded) -> tuple[Ids, list[Ids]]:
    """Return a prompt's own tokens and those of each target after them.

    What the prompt was given for the targets, or what the model wrote, is not its own.
    """
    end = len(one.token_ids) - one.n_written - one.n_appended
    appended = one.token_ids[end : end + one.n_appended]
    return one.token_ids[:end], [appended + tuple(target.token_ids) for target in one.targets]


def _followed(
    model: Model,
    prompt: Ids,
    path: Ids,
    logits: Float64[Tensor, "tokens vocab"],
    chain: Chain,
    against: After | None,
) -> tuple[Rows, Rows, Row]:
    """Make the rows of one target and chain: of its tokens, of their stages, and what a ban takes back."""
    steps: Rows = []
    back: Row = dict.fromkeys(("back_step", "back_prob", "collateral"))
    stages: Rows = []
    state, so_far = chain.start(1), 1.0
    all_ends = sorted(end for end in end_ids(model) if end < model.vocab)
    for place, token in enumerate(path):
        ends = [end for end in all_ends if end != token]
        row = logits[place : place + 1]
        found = ways(chain, row, history(prompt, path[:place], against), state, (token, *ends))
        fates = stage_fates(found, 0, lambda one: model.tokenizer.texts([one])[0])
        of_ends = _ends_fates(found, len(ends))
        by = remover(fates)
        steps.append(_step(model, row[0], found, token, ends))
        so_far *= steps[-1]["prob"]
        steps[-1] |= {"step": place, "prob_so_far": so_far, **_removal(fates, of_ends)}
        if by is not None and all(row["alive"] for row in steps[:-1]):
            size = found[0][1].records[by["stage_index"]].back(0)
            drawn = [row["prob"] for row in steps[place + 1 - size : place]] + [by["prob_before"]]
            back = {"back_step": place + 1 - size, **lost(drawn)} if size else back
        stages += [{"step": place, **fate, **end} for fate, end in zip(fates, of_ends, strict=True)]
        alive = [way for way in found if bool(way[1].kept[0, token])]
        if alive:  # a state that learns from a token that was drawn has nothing to learn from a removed one
            ledger = max(alive, key=lambda way: way[0])[1]
            state = chain.accept(state, ledger, torch.tensor([token]))
    return steps, stages, back


def lost(probs: Sequence[float]) -> Row:
    """Compute what a ban of a phrase's first token takes.

    Args:
        probs: Probability with which each token of the phrase is drawn after those before it.

    Returns:
        ``back_prob``, that of the first token, and ``collateral``, that of its other continuations.
    """
    return {"back_prob": probs[0], "collateral": probs[0] * (1 - prod(probs[1:]))}


def _step(model: Model, row: Float64[Tensor, "vocab"], found: Ways, token: int, ends: Sequence[int]) -> Row:
    before, after = row.softmax(-1), mean_of(found).nan_to_num(0.0)
    top = int(after.argmax())
    spelled = model.tokenizer.texts([token, top])
    return {
        "token": spelled[0],
        "token_id": token,
        "model_prob": float(before[token]),
        "model_rank": int((row > row[token]).sum()) + 1,
        "prob": min(1.0, float(after[token])),
        "alive": any(bool(ledger.kept[0, token]) for _, ledger in found),
        "top": spelled[1],
        "top_prob": min(1.0, float(after[top])),
        "end_model_prob": float(before[list(ends)].sum()),
        "end_prob": min(1.0, float(after[list(ends)].sum())),
    }


def _removal(fates: Rows, of_ends: Rows) -> Row:
    """Name what removes the token, and what removes the last token that ends a text."""
    by = remover(fates)
    left = [fate["end_prob_after"] for fate in of_ends]
    gone = bool(of_ends) and not left[-1] and bool(of_ends[0]["end_prob_before"])
    last = left.index(0.0) if gone else None
    return {
        "removed_by": by and by["stage"],
        "why": by and by["why"],
        "end_removed_by": None if last is None else fates[last]["stage"],
    }


def _ends_fates(found: Ways, count: int) -> Rows:
    """Add the probabilities of the tokens that end a text up, before and after each stage."""
    return [
        {
            f"end_prob_{when}": mean(
                (weight, float(getattr(ledger.records[at], f"prob_{when}")[0, 1 : count + 1].sum()))
                for weight, ledger in found
            )
            for when in ("before", "after")
        }
        for at in range(len(found[0][1].records))
    ]


def _whole(steps: Rows) -> Row:
    """Sum a target's steps up."""
    dead = next((row for row in steps if not row["alive"]), {})
    possible = all(row["prob"] > 0 for row in steps)
    alone = sum(log(row["model_prob"]) if row["model_prob"] > 0 else -torch.inf for row in steps)
    left = sum(abs(log2(row["prob"])) for row in steps) if possible else None  # never -0.0
    return {
        "n_tokens": len(steps),
        "prob": steps[-1]["prob_so_far"],
        "model_prob": exp(alone),
        "bits": None if left is None or alone == -torch.inf else -left - alone / log(2),
        "bits_left": left,
        "least_step": min(range(len(steps)), key=lambda at: (steps[at]["prob"], at)),
        "dies_step": dead.get("step"),
        "dies_stage": dead.get("removed_by"),
        "dies_why": dead.get("why"),
    }

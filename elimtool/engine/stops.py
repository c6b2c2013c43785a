"""Watch the tokens that end a text at each step of what a model writes, and estimate when it stops.

Along one text the probability of having stopped by step n is ``1 - prod(1 - h_i)``, with ``h_i`` the
probability of the stop tokens through the chain. Over all texts it is the mean of that over texts drawn
without the stop tokens: renormalised, such a text is ``1 / prod(1 - h_i)`` times as probable, which cancels.
Where a chain takes texts back, the same holds of the tokens drawn, those that are taken back among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from elimtool.engine.against import After
from elimtool.engine.fates import remover, stage_fates
from elimtool.engine.records import columns_of
from elimtool.engine.taking_back import TakingBack
from elimtool.engine.walk import Step, moments
from elimtool.errors import ElimError, nearest
from elimtool.files.rows import Row, Rows
from elimtool.metrics.columns import Columns
from elimtool.model.decode import end_ids

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain

EOS = "eos"
"""What stands for the tokens that end a text of the model."""
MOST_TEXTS = 16
"""Texts that are written side by side."""


def watched_ids(model: Model, watch: Sequence[str]) -> tuple[int, ...]:
    """Look up the tokens to watch.

    Args:
        model: The model.
        watch: ``eos``, or texts of single tokens.

    Raises:
        ElimError: The model has no token that ends a text, or the tokenizer none of this text.
    """
    found: dict[int, None] = {}
    for text in watch:
        if text == EOS:
            ends = sorted(end for end in end_ids(model) if 0 <= end < model.vocab)
            if not ends:
                raise ElimError(
                    f"`watch`: {model.name} states no token that ends a text", f"name one: {_control(model)}"
                )
            found |= dict.fromkeys(ends)
            continue
        ids = model.tokenizer.encode(text, special=False).ids if text else ()
        if len(ids) != 1 or model.tokenizer.texts(ids) != [text]:
            raise ElimError(
                f"`watch`: '{text}' is not one token of {model.name}",
                f"'eos' is what ends its texts; {nearest(text, _names(model))}",
            )
        found[ids[0]] = None
    return tuple(found)


def _names(model: Model) -> list[str]:
    return model.tokenizer.texts(sorted(model.tokenizer.control_ids))[:12]


def _control(model: Model) -> str:
    return ", ".join(_names(model)) or "any text that is one token"


def stop_tables(
    model: Model,
    one: Encoded,
    chain: Chain,
    steps: Sequence[Step],
    watched: Sequence[int],
    length: int,
    seeds: Sequence[int],
    against: After | None = None,
) -> Mapping[str, Columns]:
    """Fill the tables ``stops``, ``stop_tokens`` and ``stop_stages`` for the walk of one prompt.

    Args:
        model: The model.
        one: The prompt.
        chain: The chain that it was continued through.
        steps: The walk, whose ledgers follow the watched tokens.
        watched: The tokens.
        length: Steps of the text that was asked for, of which the model's context may leave fewer.
        seeds: Seeds of the texts that the probability of stopping is the mean over, two or more.
        against: Reads the model after a second prompt, for stages that move away from it.
    """
    names = model.tokenizer.texts(watched)
    tokens: Rows = []
    stages: Rows = []
    for index, step in enumerate(steps):
        for k, (token, name) in enumerate(zip(watched, names, strict=True)):
            key = {
                "prompt_id": one.prompt_id,
                "step": index,
                "chain": chain.name,
                "token": name,
                "token_id": token,
            }
            fates = stage_fates([(1.0, step.ledger)], k, lambda one: model.tokenizer.texts([one])[0])
            tokens.append({**key, **_token_row(step, token, fates)})
            stages += [{**key, **fate} for fate in fates]
    if model.context is not None:
        length = min(length, model.context - len(one.token_ids) + 1)
    stopped = _stopped(model, one, chain, watched, max(length, len(steps)), seeds, against)
    rows = _stop_rows(model, one, chain, steps, watched, stopped)
    found = {"stops": columns_of(rows), "stop_tokens": columns_of(tokens)}
    return {**found, "stop_stages": columns_of(stages)} if stages else found


def _token_row(step: Step, token: int, fates: Rows) -> Row:
    logits = step.logits[0]
    by = remover(fates)
    return {
        "model_rank": int((logits > logits[token]).sum()) + 1,
        "model_prob": float(logits.softmax(-1)[token]),
        "prob": float(step.ledger.probs()[0, token]),
        "removed_by": by and by["stage"],
        "why": by and by["why"],
    }


def _stop_rows(
    model: Model,
    one: Encoded,
    chain: Chain,
    steps: Sequence[Step],
    watched: Sequence[int],
    stopped: Float64[Tensor, "texts steps"],
) -> Rows:
    """Make a row for each step: along the walk as far as it goes, and over the texts."""
    along = [0.0, 0.0]
    rows: Rows = []
    error = stopped.std(0) / len(stopped) ** 0.5
    for index in range(stopped.shape[1]):
        row: Row = dict.fromkeys(
            ("token", "model_prob", "prob", "removed_by", "model_stopped_by", "stopped_by")
        )
        if index < len(steps):
            step = steps[index]
            before, after = step.logits[0].softmax(-1), step.ledger.probs()[0]
            here = [min(1.0, float(probs[list(watched)].sum())) for probs in (before, after)]
            along = [by + (1 - by) * now for by, now in zip(along, here, strict=True)]
            row = {
                "token": model.tokenizer.texts([step.token])[0],
                "model_prob": here[0],
                "prob": here[1],
                "removed_by": _last_removed(step),
                "model_stopped_by": along[0],
                "stopped_by": along[1],
            }
        known = {"prompt_id": one.prompt_id, "step": index, "chain": chain.name, "n_texts": len(stopped)}
        mean = {"stop_by": float(stopped[:, index].mean()), "stop_by_se": float(error[index])}
        rows.append({**known, **row, **mean})
    return rows


def _last_removed(step: Step) -> str | None:
    """Name the stage that removes the last of the followed tokens; ``None`` where one is left."""
    return next((one.stage for one in step.ledger.records if not bool(one.alive_after[0].any())), None)


def _stopped(
    model: Model,
    one: Encoded,
    chain: Chain,
    watched: Sequence[int],
    length: int,
    seeds: Sequence[int],
    against: After | None,
) -> Float64[Tensor, "texts steps"]:
    """Compute for texts that go on, and each step, how probable each is to have stopped by then."""
    others = torch.tensor(sorted(end_ids(model) - set(watched)), dtype=torch.int64)
    if TakingBack(chain).bans:
        return torch.stack(
            [_going_back(model, one, chain, watched, length, seed, others, against) for seed in seeds]
        )
    found = []
    for begin in range(0, len(seeds), MOST_TEXTS):
        some = list(seeds[begin : begin + MOST_TEXTS])
        by = torch.zeros(len(some), dtype=torch.float64)
        over = torch.zeros(len(some), dtype=torch.bool)  # ended by a token that is not watched
        along = []
        for moment in islice(moments(model, one, chain, some, never=watched, against=against), length):
            stop = moment.ledger.probs()[:, list(watched)].sum(-1).clamp(max=1.0)
            by = by + (1 - by) * stop.masked_fill(over, 0.0)
            over = over | torch.isin(moment.tokens, others)
            along.append(by)
            if bool((over | (by == 1)).all()):
                break
        along += [by] * (length - len(along))
        found.append(torch.stack(along, -1))
    return torch.cat(found)


def _going_back(
    model: Model,
    one: Encoded,
    chain: Chain,
    watched: Sequence[int],
    length: int,
    seed: int,
    others: Int64[Tensor, "ends"],
    against: After | None,
) -> Float64[Tensor, " steps"]:
    """Do the same for one text that goes back where it holds a banned phrase, by the step it has come to.

    Tokens that are taken back count among the ``length`` that are drawn.
    """
    stops = torch.zeros(length, dtype=torch.float64)
    going = 1.0
    steps = moments(model, one, chain, [seed], never=watched, against=against, back=TakingBack(chain))
    for moment in islice(steps, length):
        stop = min(1.0, float(moment.ledger.probs()[0, list(moment.never)].sum()))
        stops[moment.position - len(one.token_ids) + 1] += going * stop
        going *= 1 - stop
        if going == 0 or (moment.undone is None and bool(torch.isin(moment.tokens, others).any())):
            break
    return stops.cumsum(-1)

"""Generate from a model through one sampler chain and keep each step's ledger: the decoding walk.

Penalties, DRY and mirostat act on the text that is really generated. Fills the tables ``walk`` (one row a
step) and ``walk_stages`` (one row a step and stage).

Where a position among written tokens is asked for, the walk comes first, and what it wrote is measured with
the prompt in one pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from elimtool.engine.against import After, history
from elimtool.engine.records import columns_of
from elimtool.errors import ElimError
from elimtool.files.rows import Row
from elimtool.metrics.columns import Columns
from elimtool.metrics.grammars import grammar_rows
from elimtool.metrics.sampling import notes_of
from elimtool.model.decode import Decoder, end_ids
from elimtool.prompts.position import Position, check_position
from elimtool.prompts.prompt import Prompt
from elimtool.samplers import Ledger, StageRecord

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain


@dataclass(frozen=True, slots=True)
class Step:
    """One token of a walk: the model's logits, what the chain left, and the token drawn."""

    position: int
    logits: Float64[Tensor, "1 vocab"]
    ledger: Ledger
    token: int


@dataclass(frozen=True, slots=True)
class Moment:
    """One token of each of some texts that are written side by side.

    Attributes:
        position: Where the tokens are predicted.
        logits: The model's output for each text.
        ledger: What the chain did to each.
        tokens: The tokens drawn.
    """

    position: int
    logits: Float64[Tensor, "rows vocab"]
    ledger: Ledger
    tokens: Int64[Tensor, "rows"]


def moments(
    model: Model,
    one: Encoded,
    chain: Chain,
    seeds: Sequence[int],
    followed: Sequence[int] = (),
    never: Sequence[int] = (),
    against: After | None = None,
) -> Iterator[Moment]:
    """Write texts side by side through a chain, without an end: whoever reads them stops.

    Args:
        model: The model.
        one: The prompt that all continue.
        chain: The chain to draw each token through.
        seeds: Seed of each text's draws.
        followed: Tokens whose fates the ledgers record.
        never: Tokens that are not drawn where the chain leaves another one.
        against: Reads the model after a second prompt, for stages that move away from it.

    Raises:
        ElimError: The texts outgrow the model's context; or one of them asks for more after the chain left
            it no token.
    """
    decoder = Decoder(model)
    random = [torch.Generator().manual_seed(seed) for seed in seeds]
    state = chain.start(len(seeds))
    targets = torch.tensor([list(followed) or [-1]] * len(seeds))
    written: list[tuple[int, ...]] = [() for _ in seeds]
    logits = decoder.read_rows([one.token_ids] * len(seeds))
    while True:
        histories = [history(one.token_ids, text, against) for text in written]
        # two numbers a step whatever the chain uses, so that chains can be compared under one seed
        draws = torch.cat([torch.rand(2, 1, generator=each, dtype=torch.float64) for each in random], -1)
        ledger = chain.run(logits, targets, histories=histories, state=state, draws=draws[0])
        probs = ledger.probs()
        others = probs.index_fill(-1, torch.tensor(list(never), dtype=torch.int64), 0.0)
        probs = torch.where(others.any(-1, keepdim=True), others, probs)
        tokens = drawn(probs, draws[1])
        yield Moment(decoder.length - 1, logits, ledger, tokens)
        if not bool(ledger.end.n.all()):
            hint = "without its bans, or fewer of them"
            raise ElimError(f"'{chain.name}' left no token after {len(written[0])} written ones", hint)
        state = chain.accept(state, ledger, tokens)
        written = [(*text, token) for text, token in zip(written, tokens.tolist(), strict=True)]
        logits = decoder.read_rows([[token] for token in tokens.tolist()])


class Walk(list[Step]):
    """The steps of a walk.

    Attributes:
        emptied: Position, and the ledger of a chain that left no token there, which ended the walk; ``None``
            where none did.
    """

    emptied: tuple[int, Ledger] | None = None


def walk(
    model: Model,
    one: Encoded,
    chain: Chain,
    tokens: int,
    seed: int,
    followed: Sequence[int] = (),
    against: After | None = None,
) -> Walk:
    """Generate from a model through a chain; where the chain leaves no token, the walk ends.

    Args:
        model: The model.
        one: The prompt to continue.
        chain: The chain to draw each token through.
        tokens: Tokens to generate at most; an end-of-text token ends the walk earlier.
        seed: Seed of the draws: the same seed gives the same text.
        followed: Tokens whose fates the ledgers record.
        against: Reads the model after a second prompt, for stages that move away from it.

    Raises:
        ElimError: The text outgrows the model's context.
    """
    ends = end_ids(model)
    steps = Walk()
    for moment in moments(model, one, chain, [seed], followed, against=against):
        if not int(moment.ledger.end.n):
            steps.emptied = moment.position, moment.ledger
            break
        token = int(moment.tokens)
        steps.append(Step(moment.position, moment.logits, moment.ledger, token))
        if len(steps) == tokens or token in ends:
            break
    return steps


def written_for(
    model: Model,
    prompt: Prompt,
    position: Position,
    tokens: int,
    chain: Chain,
    seed: int,
    followed: Sequence[int] = (),
    against: After | None = None,
) -> tuple[Encoded, Walk] | None:
    """Write after a prompt what a position among written tokens needs.

    Args:
        model: The model.
        prompt: The prompt.
        position: Where to read. Without ``tokens`` its indices say how many to write, or the prompt's prefill
            is what was written.
        tokens: Tokens to generate at most; 0 if it was not said.
        chain: The chain to draw each token through.
        seed: Seed of the draws.
        followed: Tokens whose fates the ledgers record.
        against: Reads the model after a second prompt, for stages that move away from it.

    Returns:
        The prompt alone and its walk; ``None`` where nothing is to be written.
    """
    places = check_position(position)
    wanted = tokens or (0 if prompt.continues else places.needed)
    if not places.written or not wanted:
        return None
    one = model.encode(replace(prompt, targets=(), foils=(), spans=()), position=-1)
    return one, walk(model, one, chain, wanted, seed, followed, against)


def drawn(probs: Float64[Tensor, "rows vocab"], choice: Float64[Tensor, "rows"]) -> Int64[Tensor, "rows"]:
    """Draw the token at which the cumulative probability, in order of ids, passes a number in [0, 1)."""
    cumulative = probs.cumsum(-1)
    place = torch.searchsorted(cumulative, (choice * cumulative[:, -1])[:, None], right=True)[:, 0]
    # rounding may put the place behind the last token with any probability
    last = probs.shape[-1] - 1 - (probs > 0).flip(-1).int().argmax(-1)
    return place.minimum(last)


def walk_tables(model: Model, one: Encoded, chain: Chain, steps: Walk) -> dict[str, Columns]:
    """Fill the tables ``walk`` and ``walk_stages`` for the walk of one prompt."""
    rows = [_step_row(model, one, chain, index, step) for index, step in enumerate(steps)]
    ledgers = [(step.position, step.ledger) for step in steps]
    ledgers += [] if steps.emptied is None else [steps.emptied]
    stages = [
        _stage_row(model, one, chain, index, at, *where)
        for index, where in enumerate(ledgers)
        for at in range(len(chain.stages))
    ]
    filled = {"walk": rows, "walk_stages": stages, "walk_grammar": _grammar_rows(model, one, chain, steps)}
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
        "almost_why": None if almost is None else why_removed(step.ledger, almost),
        "runner_up": spelled[1],
        "runner_up_id": rival,
        "runner_up_prob": float(before[rival].exp()),
        "runner_up_cut": None if kept[rival] else _removed_by(step.ledger, rival).stage,
    }


def _almost(before: Float64[Tensor, "vocab"], kept: Bool[Tensor, "vocab"]) -> int | None:
    """Find the model's most probable token among those that the chain removed."""
    removed = before.masked_fill(kept, -torch.inf)  # a survivor's probability may underflow to 0
    token = int(removed.argmax())
    return None if float(removed[token]) == -torch.inf else token


def why_removed(ledger: Ledger, token: int) -> str:
    """Say which stage removed a token, and why."""
    record = _removed_by(ledger, token)
    return f"{record.stage}: {record.why(token)}"


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

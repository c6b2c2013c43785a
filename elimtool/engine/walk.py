"""Generate from a model through one sampler chain and keep each step's ledger: the decoding walk.

Penalties, DRY and mirostat act on the text that is really generated.

Where a position among written tokens is asked for, the walk comes first, and what it wrote is measured with
the prompt in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from elimtool.engine.against import After, history
from elimtool.engine.taking_back import TakingBack, Undone
from elimtool.errors import ElimError
from elimtool.model.decode import Decoder, end_ids
from elimtool.prompts.position import Position, check_position
from elimtool.prompts.prompt import Prompt
from elimtool.samplers import Ledger

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
        undone: What is taken back now that the token of the only text is drawn; ``None`` for nothing.
        never: The tokens that were not drawn, however probable.
    """

    position: int
    logits: Float64[Tensor, "rows vocab"]
    ledger: Ledger
    tokens: Int64[Tensor, "rows"]
    undone: Undone | None = None
    never: Sequence[int] = ()


def moments(
    model: Model,
    one: Encoded,
    chain: Chain,
    seeds: Sequence[int],
    followed: Sequence[int] = (),
    never: Sequence[int] = (),
    against: After | None = None,
    back: TakingBack | None = None,
) -> Iterator[Moment]:
    """Write texts side by side through a chain, without an end: whoever reads them stops.

    Args:
        model: The model.
        one: The prompt that all continue.
        chain: The chain to draw each token through.
        seeds: Seed of each text's draws.
        followed: Tokens whose fates the ledgers record.
        never: Tokens that are not drawn where the chain leaves another one; where the text may go back, only
            those that it would not take back.
        against: Reads the model after a second prompt, for stages that move away from it.
        back: Takes a single text back where it comes to hold a banned phrase, and knows the chain then;
            ``None`` to let the chain ban the last token.

    Raises:
        ElimError: The texts outgrow the model's context; or one of them asks for more after the chain left
            it no token.
    """
    decoder = Decoder(model)
    random = [torch.Generator().manual_seed(seed) for seed in seeds]
    chain = chain if back is None else back.chain
    state = chain.start(len(seeds))
    targets = torch.tensor([list(followed) or [-1]] * len(seeds))
    written: list[tuple[int, ...]] = [() for _ in seeds]
    logits = decoder.read_rows([one.token_ids] * len(seeds))
    seen = [logits]  # by place, if the text may go back
    unread: tuple[int, ...] = ()  # what is read anew with the next token once it went back
    while True:
        place = len(written[0])
        histories = [history(one.token_ids, text, against) for text in written]
        # two numbers a step whatever the chain uses, so that chains can be compared under one seed
        draws = torch.cat([torch.rand(2, 1, generator=each, dtype=torch.float64) for each in random], -1)
        here = chain if back is None else back.chain_at(place)
        ledger = here.run(logits, targets, histories=histories, state=state, draws=draws[0])
        probs = ledger.probs()
        barred = never if back is None else back.lasting(written[0], never)
        others = probs.index_fill(-1, torch.tensor(list(barred), dtype=torch.int64), 0.0)
        probs = torch.where(others.any(-1, keepdim=True), others, probs)
        tokens = drawn(probs, draws[1])
        undone = None
        if back is not None and int(ledger.end.n):
            undone = back.look((*written[0], int(tokens)), float(probs[0, int(tokens)]))
        yield Moment(len(one.token_ids) + place - 1, logits, ledger, tokens, undone, barred)
        if not bool(ledger.end.n.all()):
            hint = "without its bans, or fewer of them"
            raise ElimError(f"'{chain.name}' left no token after {place} written ones", hint)
        state = chain.accept(state, ledger, tokens)
        written = [(*text, token) for text, token in zip(written, tokens.tolist(), strict=True)]
        if undone is not None:
            written, seen = [written[0][: undone.step]], seen[: undone.step + 1]
            logits, decoder, unread = seen[-1], Decoder(model), (*one.token_ids, *written[0])
            continue
        logits = decoder.read_rows([[*unread, token] for token in tokens.tolist()])
        unread = ()
        if back is not None:
            seen.append(logits)


class Walk(list[Step]):
    """The steps of a walk.

    Attributes:
        emptied: Position, and the ledger of a chain that left no token there, which ended the walk; ``None``
            where none did.
        undone: What was taken back, in order.
        chain: The chain that the tokens were drawn through: where texts go back, without the bans of phrases.
    """

    emptied: tuple[int, Ledger] | None = None
    undone: Sequence[Undone] = ()

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain


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
        tokens: Tokens to draw at most, those that are taken back among them, as KoboldCpp counts; an
            end-of-text token ends the walk earlier.
        seed: Seed of the draws: the same seed gives the same text.
        followed: Tokens whose fates the ledgers record.
        against: Reads the model after a second prompt, for stages that move away from it.

    Raises:
        ElimError: The text outgrows the model's context.
    """
    ends = end_ids(model)
    back = TakingBack(chain)
    steps = Walk(back.chain)
    steps.undone = back.undone
    going = moments(model, one, chain, [seed], followed, (), against, back if back.bans else None)
    for drawn_so_far, moment in enumerate(going, start=1):
        if not int(moment.ledger.end.n):
            steps.emptied = moment.position, moment.ledger
            break
        token = int(moment.tokens)
        steps.append(Step(moment.position, moment.logits, moment.ledger, token))
        if moment.undone is not None:
            del steps[moment.undone.step :]
        if drawn_so_far == tokens or (token in ends and moment.undone is None):
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

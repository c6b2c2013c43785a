"""Let a draft model propose tokens after each prompt, to be judged once the target model has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.chains import chain_for
from elimtool.engine.walk import walk
from elimtool.errors import ElimError, checked_fields
from elimtool.samplers import Chain
from elimtool.samplers.greedy import Greedy
from elimtool.samplers.speculation import SIBLINGS
from elimtool.samplers.temperature import Temperature

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded

DRAFT_CHAINS = ("greedy", "probabilistic")
"""Names of draft chains that are no sampler chains of their own."""

KEPT_BYTES = 2**30
"""Most bytes of the draft's distributions held until the target model has run."""


@checked_fields
@dataclass(frozen=True, slots=True)
class Speculation:
    """How a draft model proposes tokens.

    Attributes:
        tokens: Tokens that it proposes after each prompt, at most; a token that ends the text is the last.
        draft_chain: What it draws them through: ``greedy`` (always its best token), ``probabilistic`` (its
            output at the temperature of the target's chain), or a chain as ``samplers`` takes it.
        weight: Weight of the target in the rule ``ensemble``, above 0 and at most 1.
        seed: Seeds the draws of the proposed tokens.
    """

    tokens: int = 5
    draft_chain: str = "greedy"
    weight: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ElimError(f"`tokens` must be 1 or more, got {self.tokens}")
        if not 0 < self.weight <= 1:
            raise ElimError(f"`weight` must be above 0 and at most 1, got {self.weight}")

    def chain(self, model: Model, target: Chain) -> Chain:
        """Return the chain that the draft draws through, beside a chain of the target."""
        if self.draft_chain == "greedy":
            return Chain("greedy", stages=(Greedy(),))
        if self.draft_chain == "probabilistic":
            kept = tuple(stage for stage in target.stages if isinstance(stage, Temperature))
            return Chain("probabilistic", stages=kept)
        return chain_for(model, self.draft_chain)


@dataclass(frozen=True, eq=False)
class Proposal:
    """Tokens that the draft proposes after a prompt.

    Attributes:
        prompt: Token ids of the prompt.
        tokens: The proposed tokens.
        supports: Tokens that each could have been.
        probs: Their probabilities after the draft's chain.
        leaders: The draft's most probable tokens at each place, best first, before its chain.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    supports: tuple[Tensor, ...]
    probs: tuple[Tensor, ...]
    leaders: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(one.nbytes for one in (*self.supports, *self.probs))

    def spread(self, place: int, vocab: int) -> Float64[Tensor, "vocab"]:
        """Return the draft's distribution at a place over a vocabulary at least as large as its own."""
        wide = torch.zeros(vocab, dtype=torch.float64)
        wide[self.supports[place]] = self.probs[place]
        return wide


@dataclass
class Drafts:
    """What the draft model proposes after each prompt, by prompt id and name of the target's chain.

    Attributes:
        vocab: Size of the draft's output.
        vocabulary: Texts of its tokens.
        left_out: Prompts for whose proposals there was no room.
    """

    vocab: int
    vocabulary: tuple[str, ...]
    proposals: dict[tuple[str, str], Proposal] = field(default_factory=dict)
    left_out: int = 0


def propose(
    model: Model,
    prompts: Sequence[Encoded],
    chains: Sequence[Chain],
    asked: Speculation,
    vocabulary: tuple[str, ...],
) -> Drafts:
    """Let the draft model propose tokens after each prompt.

    Args:
        model: The draft.
        prompts: The prompts, probed at their last token.
        chains: The target's chains.
        asked: How it proposes.
        vocabulary: Texts of its tokens.
    """
    found = Drafts(model.vocab, vocabulary)
    held = 0
    for one in prompts:
        if held > KEPT_BYTES:
            found.left_out += 1
            continue
        known: dict[Chain, Proposal] = {}
        for chain in chains:
            own = asked.chain(model, chain)
            if own not in known:
                known[own] = _proposal(model, one, own, asked)
                held += known[own].size
            found.proposals[one.prompt_id, chain.name] = known[own]
    return found


def _proposal(model: Model, one: Encoded, chain: Chain, asked: Speculation) -> Proposal:
    steps = walk(model, one, chain, asked.tokens, asked.seed)
    probs = [step.ledger.probs()[0] for step in steps]
    supports = [row.nonzero()[:, 0] for row in probs]
    return Proposal(
        one.token_ids,
        tuple(step.token for step in steps),
        tuple(supports),
        tuple(row[kept] for row, kept in zip(probs, supports, strict=True)),
        tuple(best_of(step.logits) for step in steps),
    )


def best_of(logits: Float64[Tensor, "1 vocab"]) -> tuple[int, ...]:
    """List the most probable tokens of a row, best first: the siblings that a draft tree offers."""
    best: list[int] = logits[0].topk(min(SIBLINGS, logits.shape[-1])).indices.tolist()
    return tuple(best)

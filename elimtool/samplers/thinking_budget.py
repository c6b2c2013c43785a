"""Thinking budget: end a reasoning block that has grown too long, as vLLM does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from elimtool.numerics.transfer import sent
from elimtool.samplers.budget import Budget, Ids
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role

FORCED = 1e9
"""Logit of a token that must follow."""


@dataclass(frozen=True)
class ThinkingBudget(Budget):
    """Raises the end of the reasoning, token by token, above all else once a block has used up its tokens.

    Formula: where ``opening`` stands in prompt and output with no ``closing`` begun after its last one, and
    at least ``tokens`` tokens behind it, ``l = 1e9`` for the next token of ``message`` and ``closing``: the
    one after as much of them as the text ends with. It comes back if it was banned; the others keep their
    logits, survive and cannot be drawn. Off: tokens = -1.

    That is vLLM's Model Runner V2. Without Triton vLLM keeps another account, which says the same where
    opening and closing are one token each, a block is opened once, and none is closed that was not opened.

    Attributes:
        tokens: Tokens that a block may take, 0 to end it at once; -1 = any number.
        opening: Text that begins a block, once the chain is given the vocabulary.
        closing: Text that ends it.
        message: Text that is forced before the end.
    """

    kind: ClassVar[str] = "thinking_budget"
    role: ClassVar[Role] = "force"
    unit: ClassVar[str] = "logit"
    revives: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = (
        "vllm v1/worker/gpu/sample/thinking_budget.py",
        "vllm v1/sample/thinking_budget_state.py ThinkingBudgetStateHolder",
    )
    on_device: ClassVar[bool] = True

    def required(self, text: Ids) -> int | None:
        """Return the token that must follow a text; ``None`` for any."""
        if self.ids is None:
            return None
        opening, closing, forced = self.ids
        begun = last(text, opening)
        if begun <= last(text, closing) or len(text) - begun - len(opening) < self.tokens:
            return None
        return forced[max(size for size in range(len(forced)) if text[len(text) - size :] == forced[:size])]

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Raise the next token of the end where the budget is used up."""
        wanted = self.wanted(c, context)
        acts = torch.tensor([token is not None for token in wanted])
        if not bool(acts.any()):
            return Effect(c, active=acts, notes=self.notes)
        places = torch.tensor([[c.vocab if token is None else token] for token in wanted])
        # where none is wanted, a column is written that is cut off
        wide = torch.cat([c.wide(), torch.zeros_like(c.top)], 1)
        wide = wide.scatter_(1, sent(places, wide.device), FORCED)[:, : c.vocab].contiguous()
        return Effect(c, revived=wide, active=acts, details=self.remarks(wanted))


def last(text: Ids, part: Ids) -> int:
    """Return where a part stands last in a text; -1 where it does not."""
    places = range(len(text) - len(part), -1, -1) if part else ()
    return next((at for at in places if text[at : at + len(part)] == part), -1)

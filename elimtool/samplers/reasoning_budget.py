"""Reasoning budget: end a reasoning block that has grown too long by forcing its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from elimtool.numerics.transfer import sent
from elimtool.samplers.budget import Budget, Ids
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role
from elimtool.samplers.vocabulary import as_bytes


@dataclass(frozen=True)
class ReasoningBudget(Budget):
    """Requires the end of the reasoning, token by token, once the block has used up its tokens.

    Formula: a block begins after ``opening`` and ends with ``closing``, in prompt and output. After
    ``tokens`` tokens of it, ``message`` and ``closing`` are required one token after the other; if the last
    token of the budget breaks off within a character, after one that ends with a whole one. A block that ends
    by itself is let be, and every further block has the whole budget again. Off: tokens = -1.

    Attributes:
        tokens: Tokens that a block may take, 0 to end it at once; -1 = any number.
        opening: Text that begins a block, once the chain is given the vocabulary.
        closing: Text that ends it.
        message: Text that is required before the end.
        inside: Whether the text begins inside a block, so that its first token counts.
    """

    kind: ClassVar[str] = "reasoning_budget"
    role: ClassVar[Role] = "require"
    sources: ClassVar[tuple[str, ...]] = (
        "llama.cpp common/reasoning-budget.cpp common_reasoning_budget_accept, common_reasoning_budget_apply",
    )
    on_device: ClassVar[bool] = True

    inside: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.boolean("inside")

    def required(self, text: Ids) -> int | None:
        """Return the token that must follow a text; ``None`` for any."""
        if self.ids is None:
            return None
        start, end, forced = self.ids
        begun, ended = SequenceSoFar(start), SequenceSoFar(end)
        left, place = self.tokens, 0
        state = "outside" if not self.inside else "counting" if left > 0 else "forcing"
        for token in text:
            if state == "outside":
                if begun.follows(token):
                    left, place, ended.at = self.tokens, 0, 0
                    state = "counting" if left > 0 else "forcing"
            elif state == "forcing":
                place += 1
                state = "outside" if place >= len(forced) else state
            elif ended.follows(token):
                state = "outside"
            else:
                left -= state == "counting"
                if left <= 0 and (state == "counting" or self._whole(token)):
                    state = "forcing" if self._whole(token) else "waiting"
                    place, ended.at = 0, 0
        return forced[place] if state == "forcing" else None

    def _whole(self, token: int) -> bool:
        """Return whether a token ends with a whole character."""
        return token >= len(self.pieces) or complete(self.pieces[token])

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Require the next token of the end where the budget is used up."""
        found = self.wanted(c, context)
        acts = torch.tensor([token is not None for token in found])
        wanted = torch.tensor([-1 if token is None else token for token in found])
        wanted, acts = (sent(one, c.scores.device) for one in (wanted, acts))
        keep = (c.ids == wanted[:, None]) | ~acts[:, None]
        return Effect(c, keep=keep, active=acts, notes=self.notes, details=self.remarks(found))


class SequenceSoFar:
    """How much of a sequence of tokens the last tokens of a text are, as llama.cpp keeps account of it.

    Args:
        tokens: The sequence.
    """

    def __init__(self, tokens: Ids) -> None:
        self._tokens, self.at = tokens, 0

    def follows(self, token: int) -> bool:
        """Take the next token of the text; return whether the sequence is complete with it."""
        if not self._tokens:
            return False
        if token != self._tokens[self.at]:
            # it is begun anew by this token at most: llama.cpp looks no further back
            self.at = int(token == self._tokens[0])
            return False
        self.at = (self.at + 1) % len(self._tokens)
        return self.at == 0


def complete(piece: str) -> bool:
    r"""Return whether a token ends with a whole character; ``\xNN`` in it is a byte of a part of one."""
    ending = as_bytes(piece)[-4:]
    for length, byte in enumerate(reversed(ending), 1):
        if byte & 0xC0 != 0x80:
            return length >= (4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1)
    return not ending

"""Sequence bias: add constants to tokens that would complete chosen sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from elimtool.errors import ElimError
from elimtool.numerics.transfer import sent
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Role, Stage


@dataclass(frozen=True)
class SequenceBias(Stage):
    """Adds a constant to the last token of a sequence, wherever the text ends with the tokens before it.

    Formula: ``l + b``; several sequences with one last token add up, and the same sequence twice counts as
    its last. -inf bans. Unit: logit. Off: no sequences.

    Attributes:
        bias: Pairs of a list of token ids and a bias.
    """

    kind: ClassVar[str] = "sequence_bias"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "bias"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"bias": ()}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py SequenceBiasLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    bias: tuple[tuple[tuple[int, ...], float], ...] = ()

    def __post_init__(self) -> None:
        for pair in self.bias:
            good = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], tuple) and pair[0]
            if not good or not isinstance(pair[1], int | float) or not pair[1] < float("inf"):
                raise self.bad("bias", "pairs of a list of token ids and a number or -inf")

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Add the biases of the sequences that the text would complete."""
        wide = torch.zeros((len(context.histories), c.vocab), dtype=c.scores.dtype)
        for sequence, value in dict(self.bias).items():
            if max(sequence) >= c.vocab:
                raise ElimError(
                    f"{self.name}: token id {max(sequence)} is not in the vocabulary",
                    f"ids go from 0 to {c.vocab - 1}",
                )
            *before, last = sequence
            for row, history in enumerate(context.histories):
                text = history.prompt + history.generated
                if len(before) <= len(text) and list(text[len(text) - len(before) :]) == before:
                    wide[row, last] += value
        wide = sent(wide, c.scores.device)
        return Effect(c, scores=c.scores + (wide if c.tokens is None else wide.gather(1, c.ids)))

    def why(self, _: Fate, /) -> str:
        """Explain: the token is banned."""
        return "banned: it would complete a sequence whose bias is -inf"

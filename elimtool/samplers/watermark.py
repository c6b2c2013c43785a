"""Watermark of Kirchenbauer et al.: raise a pseudo-random share of the vocabulary, seeded by the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from elimtool.numerics.transfer import sent
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role, Stage

TABLE = 1_000_003
"""Length of the table of random numbers that ``selfhash`` reads (transformers)."""
TRIED = 40
"""Best tokens of which ``selfhash`` asks whether each is green by its own seed (transformers)."""


@dataclass(frozen=True)
class Watermark(Stage):
    """Adds a constant to the green tokens: a share of the vocabulary that the last tokens choose.

    Formula: ``l + bias`` for green tokens. ``lefthash`` seeds the choice by the last token; ``selfhash`` by
    the last ``width`` tokens, the candidate among them, for the 40 best candidates. The choice is that of
    torch on a CPU: on a GPU other tokens are green. Unit: logit. Removes nothing. Off: bias = 0.

    Attributes:
        bias: What is added to green tokens.
        share: Share of the vocabulary that is green, between 0 and 1 (greenlist_ratio).
        key: Secret that the seeds depend on (hashing_key).
        scheme: ``lefthash`` or ``selfhash`` (seeding_scheme).
        width: Tokens before the next that seed it (context_width); shorter texts are left alone.
    """

    kind: ClassVar[str] = "watermark"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "bias"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"bias": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Kirchenbauer et al. 2023, arXiv 2301.10226",
        "transformers generation/logits_process.py WatermarkLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    bias: float = 0.0
    share: float = 0.25
    key: int = 15_485_863
    scheme: Literal["lefthash", "selfhash"] = "lefthash"
    width: int = 1

    def __post_init__(self) -> None:
        self.number("bias", float("-inf"), float("inf"))
        self.number("share", 0, 1, "()")
        self.integer("key", 0)
        self.one_of("scheme", ("lefthash", "selfhash"))
        self.integer("width", 1)

    def acts_on_device(self) -> bool:
        """Return whether its list does not depend on the logits."""
        return self.scheme == "lefthash"

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Raise the green tokens of every row."""
        green, acts = torch.zeros((len(context.histories), c.vocab), dtype=torch.bool), []
        for row, history in enumerate(context.histories):
            text = history.prompt + history.generated
            acts.append(len(text) >= self.width)
            if not acts[-1]:
                continue
            if self.scheme == "selfhash":
                green[row] = self._by_itself(c.wide()[row], text)
            else:
                green[row] = self._green(self.key * text[-1], c.vocab)
        green = sent(green, c.scores.device)
        raised = self.bias * (green if c.tokens is None else green.gather(1, c.ids)).to(c.scores)
        return Effect(c, scores=c.scores + raised, active=torch.tensor(acts))

    def _green(self, seed: int, vocab: int) -> Bool[Tensor, "vocab"]:
        random = torch.Generator().manual_seed(seed % (2**64 - 1))
        found = torch.zeros(vocab, dtype=torch.bool)
        found[torch.randperm(vocab, generator=random)[: int(vocab * self.share)]] = True
        return found

    def _by_itself(self, scores: Float[Tensor, "vocab"], text: tuple[int, ...]) -> Bool[Tensor, "vocab"]:
        """Mark those of the best tokens that are green by a seed of which each is a part."""
        found = torch.zeros(len(scores), dtype=torch.bool)
        for token in scores.sort(descending=True).indices[:TRIED].tolist():
            last = torch.tensor((*text, token)[-self.width :])
            near = _table(self.key)[last % TABLE] + 1
            own = near[-1]
            found[token] = self._green(int((self.key * near * own).min()), len(scores))[token]
        return found


@lru_cache(maxsize=4)
def _table(key: int) -> Int64[Tensor, "table"]:
    return torch.randperm(TABLE, generator=torch.Generator().manual_seed(key))

"""SynthID's text watermark: let the text choose, key by key, which half of the vocabulary gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role, Stage

MULTIPLIER = 6_364_136_223_846_793_005
"""Of the linear congruential generator that hashes tokens, modulo 2^64 (transformers, as newlib and musl)."""
LARGEST_TABLE = 2**24
AT_ONCE = 2**22
"""Tokens of all rows that are hashed at once, which bounds memory."""


@dataclass(frozen=True)
class SynthID(Stage):
    """Plays one tournament a key: tokens that the text's hash marks gain probability from all others.

    Formula: for each key ``p = p (1 + g - sum g p)``, where g is 0 or 1 for each token by a hash of the last
    ``n - 1`` output tokens, the token and the key; zeros stand before the output, whatever the prompt is. A
    context that came before is left alone. Over all keys it changes no probability on average; with given
    keys it does. Tokens that were removed survive again with probability 0, as transformers makes them
    finite. The table of g is that of torch on a CPU. Off: no keys.

    Attributes:
        keys: Secret numbers, one for each tournament.
        n: Tokens that are hashed, the candidate among them (ngram_len).
        remembered: How many contexts are remembered (context_history_size).
        table: Length of the table of g (sampling_table_size), up to 2^24.
        seed: Seed of that table (sampling_table_seed).
        skip_first: Whether the first n - 1 tokens are left alone (skip_first_ngram_calls).
    """

    kind: ClassVar[str] = "synthid"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "keys"
    off: ClassVar[Mapping[str, Any] | None] = {"keys": ()}
    revives: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = (
        "Dathathri et al. 2024, doi 10.1038/s41586-024-08025-4",
        "transformers generation/logits_process.py SynthIDTextWatermarkLogitsProcessor",
    )

    keys: tuple[int, ...] = ()
    n: int = 5
    remembered: int = 1024
    table: int = 2**16
    seed: int = 0
    skip_first: bool = False

    def __post_init__(self) -> None:
        if not all(isinstance(key, int) and abs(key) < 2**63 for key in self.keys):
            raise self.bad("keys", "a list of integers of at most 64 bits")
        self.integer("n", 2)
        self.integer("remembered", 1)
        self.integer("table", 1)
        if self.table > LARGEST_TABLE:
            raise self.bad("table", f"at most {LARGEST_TABLE}")
        self.integer("seed", 0)
        self.boolean("skip_first")

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Play the tournaments in every row whose context is new."""
        scores = c.wide().clone()
        seeds = [self._seed(history.generated) for history in context.histories]
        acts = [row for row, begun in enumerate(seeds) if begun is not None]
        size = max(1, AT_ONCE // c.vocab)
        for some in (acts[at : at + size] for at in range(0, len(acts), size)):
            begun = torch.tensor([[_signed(seeds[row] or 0)] for row in some])
            scores[some] = self._played(scores[some], begun)
        return Effect(c, revived=scores, active=torch.tensor([begun is not None for begun in seeds]))

    def _seed(self, written: Sequence[int]) -> int | None:
        """Hash the tokens before the candidate; ``None`` where transformers leaves the row alone."""
        before = self.n - 1
        first = before if self.skip_first else 0
        if len(written) < first:
            return None
        text = [0] * before + list(written)
        # the context of every step is remembered, and older ones are forgotten
        oldest = max(first, len(written) - self.remembered)
        *known, here = (_hashed(text[place : place + before]) for place in range(oldest, len(written) + 1))
        return None if here in known else here

    def _played(
        self, scores: Float[Tensor, "some vocab"], begun: Int64[Tensor, "some 1"]
    ) -> Float[Tensor, "some vocab"]:
        """Return the log-probabilities after all tournaments."""
        probs = torch.softmax(scores, -1)
        hashed = _step(torch.arange(scores.shape[1]) + begun)
        gains = _table(self.table, self.seed).to(probs)
        for key in self.keys:
            g = gains[_step(hashed + key) % self.table]
            probs = probs * (1 + g - (g * probs).sum(-1, keepdim=True))
        logs = probs.log()
        return logs.where(logs.isfinite(), torch.finfo(torch.float32).min)


def _hashed(tokens: Sequence[int]) -> int:
    found = 1
    for token in tokens:
        found = ((found + token) * MULTIPLIER + 1) % 2**64
    return found


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _step(hashes: Int64[Tensor, "some vocab"]) -> Int64[Tensor, "some vocab"]:
    """Hash one more number, which was added to each; int64 wraps around."""
    return hashes * MULTIPLIER + 1


@lru_cache(maxsize=4)
def _table(length: int, seed: int) -> Int64[Tensor, "table"]:
    return torch.randint(0, 2, (length,), generator=torch.Generator().manual_seed(seed))

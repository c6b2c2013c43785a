"""Force: leave chosen tokens alone at one length of the text, whatever was banned before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from elimtool.errors import ElimError
from elimtool.numerics.transfer import sent
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.history import Scope
from elimtool.samplers.stage import Context, Effect, Fate, Role, Stage


@dataclass(frozen=True)
class Force(Stage):
    """Leaves only the forced tokens where the text has a certain length, and brings them back if banned.

    Formula: at that length ``l = 0`` for the ids of ``tokens``, -inf for all others. Several are equally
    probable. Removes what is displaced: 1 - p(forced). Off: no tokens.

    Attributes:
        tokens: Token ids that are forced.
        length: Number of tokens before the one that is forced: 1 for the first after a prompt of one token
            (Hugging Face's forced_bos_token_id), max_length - 1 for the last (forced_eos_token_id).
        counts: What is counted: ``all`` tokens (Hugging Face), or those ``generated``.
    """

    kind: ClassVar[str] = "force"
    role: ClassVar[Role] = "force"
    main: ClassVar[str] = "tokens"
    off: ClassVar[Mapping[str, Any] | None] = {"tokens": ()}
    revives: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py ForcedBOSTokenLogitsProcessor,"
        " ForcedEOSTokenLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    tokens: tuple[int, ...] = ()
    length: int | None = None
    counts: Scope = "all"

    def __post_init__(self) -> None:
        if not all(isinstance(token, int) and token >= 0 for token in self.tokens):
            raise self.bad("tokens", "a list of token ids")
        self.one_of("counts", ("all", "generated"))
        if self.length is not None:
            self.integer("length", 0)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Force the tokens where the text has the length."""
        if self.length is None:
            hint = f"set {self.name}.length: the number of tokens before the forced one"
            raise ElimError(f"{self.name}: length is not set", hint)
        if max(self.tokens) >= c.vocab:
            hint = f"ids go from 0 to {c.vocab - 1}"
            raise ElimError(f"{self.name}: token id {max(self.tokens)} is not in the vocabulary", hint)
        lengths = [len(history.window(self.counts, None)) for history in context.histories]
        acts = torch.tensor([length == self.length for length in lengths])
        if not bool(acts.any()):
            return Effect(c, active=acts)
        forced = torch.full((c.vocab,), NEG_INF, dtype=c.scores.dtype)
        forced[list(self.tokens)] = 0.0
        forced, acts = (sent(one, c.scores.device) for one in (forced, acts))
        return Effect(c, revived=torch.where(acts[:, None], forced, c.wide()), active=acts)

    def why(self, _: Fate, /) -> str:
        """Explain: others are forced."""
        forced = " ".join(map(str, self.tokens))
        return f"displaced: {self.name} forces {forced} after {self.length:,} tokens"

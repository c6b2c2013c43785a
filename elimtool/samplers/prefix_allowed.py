"""Prefix constraint: allow only chosen tokens after chosen endings of the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.history import History
from elimtool.samplers.stage import Context, Effect, Fate, Role, Stage


@dataclass(frozen=True)
class PrefixAllowed(Stage):
    """Allows after each ending of the text only chosen tokens, and forces them where all of them are banned.

    Formula: keep the ids that the longest ending found in ``allowed`` names; where all of those are -inf
    already, they come back with ``l = 0``, equally probable: the earlier bans are undone. Off: nothing in
    ``allowed``.

    Attributes:
        allowed: Pairs of an ending, as a list of token ids, and the ids that may follow it; an empty ending
            fits every text, and where none fits every token may follow. Stands for the function
            ``prefix_allowed_tokens_fn`` of Hugging Face.
    """

    kind: ClassVar[str] = "prefix_allowed"
    role: ClassVar[Role] = "require"
    main: ClassVar[str] = "allowed"
    off: ClassVar[Mapping[str, Any] | None] = {"allowed": ()}
    revives: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = (
        "De Cao et al. 2021, arXiv 2010.00904",
        "transformers generation/logits_process.py PrefixConstrainedLogitsProcessor",
    )

    allowed: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        for pair in self.allowed:
            good = (
                isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, tuple) for part in pair)
            )
            if (
                not good
                or not pair[1]
                or not all(isinstance(i, int) and i >= 0 for i in (*pair[0], *pair[1]))
            ):
                raise self.bad("allowed", "pairs of a list of token ids and a list of ids that is not empty")

    @cached_property
    def _endings(self) -> dict[tuple[int, ...], tuple[int, ...]]:
        return dict(sorted(self.allowed, key=lambda pair: -len(pair[0])))

    def after(self, history: History) -> tuple[int, ...] | None:
        """Return the tokens that may follow a text; ``None`` for all."""
        text = history.prompt + history.generated
        fitting = (ids for end, ids in self._endings.items() if text[max(0, len(text) - len(end)) :] == end)
        return next(fitting, None)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Keep what is allowed, or force it."""
        wide, notes = c.wide().clone(), []
        found = [self.after(history) for history in context.histories]
        for row, ids in enumerate(found):
            if ids is None:
                continue
            if max(ids) >= c.vocab:
                hint = f"ids go from 0 to {c.vocab - 1}"
                raise ElimError(f"{self.name}: token id {max(ids)} is not in the vocabulary", hint)
            own = wide[row, list(ids)]
            wide[row] = NEG_INF
            banned = bool((own == NEG_INF).all())
            wide[row, list(ids)] = torch.zeros_like(own) if banned else own
            if banned:
                notes.append(f"row {row}: every allowed token was banned before; they are forced")
        acts = torch.tensor([ids is not None for ids in found])
        return Effect(c, revived=wide, active=acts, notes=tuple(notes[:4]))

    def why(self, _: Fate, /) -> str:
        """Explain: not among the allowed."""
        return "not among the tokens that may follow this ending of the text"

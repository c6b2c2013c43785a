"""Infill: choose among the few probable beginnings of what is to be filled in, or end the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from elimtool.samplers.ban import Rule
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.stage import Context, Effect, Fate, Role, Stage
from elimtool.samplers.vocabulary import Vocabulary, as_bytes

LEAST = 0.2
"""Probability, with what was merged into it, under which a token of text goes."""
LAST_LOGIT = 1.0
"""Logit of the end of the text where nothing else is left."""


@dataclass(frozen=True)
class Infill(Stage):
    """Leaves few beginnings: ends alone where they are likely, else tokens of text that gather p >= 0.2.

    Formula: if 3 n p(ends) > p(others), with n the length of the engine's array, only the ends stay. Else,
    from the most probable token on, of two tokens of which one begins the other the less probable gives its
    p to the other and goes; tokens of text stay with p >= 0.2, then, renormalised with the ends, with p >= 1
    / (1 + their number). Ends stay. If no text is left, the end of the text is forced. The merged p decides
    who stays, the draw is from the old logits. Off: on = false.

    Attributes:
        on: Whether it acts.
        eos: Tokens that end a text; ``null`` = the model's own, once the chain is given them.
        eot: The end that is forced (the engine's EOT token); ``null`` = the first of ``eos``.
    """

    kind: ClassVar[str] = "infill"
    role: ClassVar[Role] = "require"
    main: ClassVar[str] = "on"
    off: ClassVar[Mapping[str, Any] | None] = {"on": False}
    revives: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = ("llama.cpp src/llama-sampler.cpp llama_sampler_infill_apply",)

    on: bool = False
    eos: tuple[int, ...] | None = None
    eot: int | None = None
    pieces: Sequence[bytes] = field(default=(), kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.boolean("on")
        if self.eot is not None:
            self.integer("eot", 0)

    @property
    def wants_text(self) -> bool:
        """Whether it is on and has no vocabulary to tell which token begins which."""
        return self.on and not self.pieces

    def spelled(self, vocabulary: Vocabulary, /) -> Infill:
        """Take over the spelling of the tokens, in bytes; control tokens spell nothing."""
        return replace(
            self,
            pieces=[
                b"" if token in vocabulary.control else as_bytes(piece)
                for token, piece in enumerate(vocabulary.pieces)
            ],
        )

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Merge, and keep what is probable enough."""
        wide = c.wide().clone()
        rules: list[Mapping[int, Rule]] = []
        notes = ["beginnings are not merged: the chain was given no vocabulary"] if self.wants_text else []
        for row, size in enumerate(c.size.tolist()):
            ids = (wide[row] > NEG_INF).nonzero()[:, 0]
            ids = ids[wide[row, ids].argsort(descending=True, stable=True)]
            probs = wide[row, ids].double().softmax(-1).tolist()
            kept, found = self._left(ids.tolist(), probs, size) if len(ids) else ([], {})
            rules.append(found)
            own = wide[row, kept]
            wide[row] = NEG_INF
            wide[row, kept] = own
            if len(ids) and not kept:
                notes.append(self._end(wide[row]))
        return Effect(c, revived=wide, notes=tuple(dict.fromkeys(notes)), rules=tuple(rules))

    def _end(self, row: torch.Tensor) -> str:
        """Leave nothing but the end of the text in a row."""
        end = self.eot if self.eot is not None else next(iter(self.eos or ()), None)
        if end is None or end >= len(row):
            return "no token is known to end a text: the engine fails here"
        row[end] = LAST_LOGIT
        return "no text is left: the end is forced"

    def _left(
        self, ids: Sequence[int], probs: Sequence[float], size: int
    ) -> tuple[list[int], dict[int, Rule]]:
        """Choose tokens of one row.

        Args:
            ids: Tokens that are alive, the most probable first.
            probs: Their probabilities.
            size: Length of the engine's array, removed tokens that it still holds among them.

        Returns:
            Those that stay, none where the end is to be forced; and the rules by which others go.
        """
        ends = set(self.eos or ())
        of_ends = sum(p for token, p in zip(ids, probs, strict=True) if token in ends)
        if 3 * of_ends * size > sum(probs) - of_ends:
            said = (
                f"ends of the text have p = {of_ends:.3g}, times 3 and {size:,} candidates more than all"
                " others"
            )
            return [t for t in ids if t in ends], {t: Rule(said) for t in ids if t not in ends}
        spelled = [self.pieces[token] if token < len(self.pieces) else b"" for token in ids]
        merged, into = joined_beginnings(probs, spelled)
        rules = {
            ids[one]: Rule("one begins the other: its p goes to {}", (ids[to],)) for one, to in into.items()
        }
        left = [at for at in range(len(ids)) if at not in into]
        left = self._probable(ids, merged, left, LEAST, rules)
        texts = sum(ids[at] not in ends for at in left)
        if not texts:
            return [], rules | {ids[at]: Rule("no text is left: one end is forced") for at in left}
        total = sum(merged[at] for at in left)
        shares = [p / total for p in merged]
        return [ids[at] for at in self._probable(ids, shares, left, 1 / (texts + 1), rules)], rules

    def _probable(
        self,
        ids: Sequence[int],
        probs: Sequence[float],
        left: list[int],
        least: float,
        rules: dict[int, Rule],
    ) -> list[int]:
        """Keep ends, and tokens of text that reach a probability; add the rules by which others go."""
        kept = [at for at in left if probs[at] >= least or ids[at] in (self.eos or ())]
        for at in set(left) - set(kept):
            rules[ids[at]] = Rule(f"p = {probs[at]:.3g}, with what was merged into it, is under {least:.3g}")
        return kept

    def why(self, _: Fate, /) -> str:
        """Explain where there is no rule."""
        return "no token of text is probable enough to begin what is filled in"


def joined_beginnings(probs: Sequence[float], pieces: Sequence[bytes]) -> tuple[list[float], dict[int, int]]:
    """Merge tokens of which one begins the other.

    Args:
        probs: Their probabilities, falling.
        pieces: Their spelling; what is empty begins nothing.

    Returns:
        The probabilities, 0 for a token that went; and for each such token, by place, the one it went into.
    """
    left, known = list(probs), set(pieces) - {b""}
    begun: dict[bytes, list[int]] = {}
    for place, piece in enumerate(pieces):
        for end in range(1, len(piece) + 1):
            if piece[:end] in known:
                begun.setdefault(piece[:end], []).append(place)
    into: dict[int, int] = {}
    for first, piece in enumerate(pieces):
        for second in begun.get(piece, ()):
            if first in into:
                break
            if second != first and second not in into:
                target, source = (second, first) if left[second] > left[first] else (first, second)
                left[target], left[source] = left[target] + left[source], 0.0
                into[source] = target
    return left, into

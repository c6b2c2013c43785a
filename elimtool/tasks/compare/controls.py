"""Make controls for an edit of a prompt: edits of the same size and place that should not matter.

A difference between two prompts means something only in comparison with what any edit there does. A control
has as many tokens as the edited prompt, the same ones outside the edit, and other text within: a passage of
unrelated prose (neutral), or single tokens of such prose (random). If the edit only removes tokens, a control
removes as many elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from elimtool.lenses.corpus import shipped
from elimtool.model.view import Encoded, Span

if TYPE_CHECKING:
    from elimtool.analysis.compare.align import Alignment
    from elimtool.model.model import Model
    from elimtool.model.tokens import Tokenizer

Kind = Literal["paraphrase", "neutral", "random"]

TRIES = 50
"""Draws for each control before giving up: a short edit has few alternatives."""


@dataclass(frozen=True, slots=True)
class Control:
    """A prompt to compare the edited one with.

    Attributes:
        kind: ``paraphrase`` if given by the user; ``neutral`` or ``random`` if made.
        encoded: The prompt. If made, it keeps spans, targets and probed position of its original.
    """

    kind: Kind
    encoded: Encoded


def controls_of(
    model: Model, a: Encoded, b: Encoded, alignment: Alignment, count: int, seed: int
) -> list[Control]:
    """Make controls of the edit that turns ``a`` into ``b``, neutral and random ones alternating.

    Special tokens within the edit stay. The same arguments give the same controls.

    Args:
        model: For its tokenizer.
        a: The prompt before the edit.
        b: The prompt after it.
        alignment: Alignment of their tokens.
        count: Number of controls.
        seed: Seed of the draw.

    Returns:
        Different prompts, none of them ``a`` or ``b``; fewer than ``count`` if no more are found.
    """
    special = model.tokenizer.special_ids
    dice = random.Random(f"{seed} {a.token_ids} {b.token_ids}")
    added, gone = (
        _runs([i for i in edited if one.token_ids[i] not in special])
        for edited, one in ((alignment.edited_b, b), (alignment.edited_a, a))
    )

    def draw(kind: Kind) -> Encoded | None:
        if added:
            return _rewritten(model.tokenizer, b, added, kind, dice)
        return _shortened(a, gone, special, dice) if gone and kind == "random" else None

    seen = {a.token_ids, b.token_ids}
    found: list[Control] = []
    spent: set[Kind] = set()
    for number in range(count):
        kinds: tuple[Kind, Kind] = ("neutral", "random")
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            tried = (draw(kind) for _ in range(0 if kind in spent else TRIES))
            one = next((one for one in tried if one is not None and one.token_ids not in seen), None)
            if one is None:
                spent.add(kind)
                continue
            seen.add(one.token_ids)
            place = sum(other.kind == kind for other in found) + 1
            found.append(Control(kind, _named(model.tokenizer, one, f"{b.prompt_id} {kind} {place}")))
            break
    return found


def _named(tokenizer: Tokenizer, one: Encoded, name: str) -> Encoded:
    tokens = tuple(tokenizer.texts(one.token_ids))
    return replace(one, prompt_id=name, tokens=tokens, text="".join(tokens))


def _rewritten(
    tokenizer: Tokenizer, b: Encoded, runs: Sequence[tuple[int, int]], kind: Kind, dice: random.Random
) -> Encoded:
    """Replace the tokens of a prompt in some places."""
    ids, begins = _prose(tokenizer)
    new = list(b.token_ids)
    for start, length in runs:
        if kind == "neutral":
            first = dice.choice(begins)
            new[start : start + length] = [ids[(first + k) % len(ids)] for k in range(length)]
        else:
            new[start : start + length] = [dice.choice(ids) for _ in range(length)]
    return replace(b, token_ids=tuple(new))


def _shortened(
    a: Encoded, runs: Sequence[tuple[int, int]], special: frozenset[int], dice: random.Random
) -> Encoded | None:
    """Remove runs of the same lengths at random places; ``None`` if they do not fit."""
    n = len(a.token_ids)
    # the first and the last token stay: the first is often a sink, the last is read
    taken = {0, n - 1, *(i for i, token in enumerate(a.token_ids) if token in special)}
    gone: set[int] = set()
    for _, length in runs:
        stretches = (set(range(start, start + length)) for start in range(n - length + 1))
        free = [stretch for stretch in stretches if not taken & stretch]
        if not free:
            return None
        gone |= (chosen := dice.choice(free))
        taken |= chosen
    return without(a, gone)


def without(one: Encoded, gone: set[int]) -> Encoded:
    """Remove tokens of a prompt, and move its spans, sinks and probed positions along."""
    kept = [i for i in range(len(one.token_ids)) if i not in gone]
    new = {old: index for index, old in enumerate(kept)}

    def moved(tokens: Sequence[int]) -> tuple[int, ...]:
        return tuple(new[i] for i in tokens if i in new)

    spans = (Span(span.name, moved(span.tokens)) for span in one.spans)
    return replace(
        one,
        token_ids=tuple(one.token_ids[i] for i in kept),
        tokens=tuple(one.tokens[i] for i in kept),
        spans=tuple(span for span in spans if span.tokens),
        sinks=moved(one.sinks),
        positions=moved(one.positions),
    )


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Group rising indices into runs without gaps: (start, length)."""
    # index minus place is constant within a run
    groups = groupby(enumerate(places), lambda pair: pair[1] - pair[0])
    runs = ([index for _, index in group] for _, group in groups)
    return [(run[0], len(run)) for run in runs]


@lru_cache(maxsize=4)
def _prose(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Tokenise the package's held-out prose: all tokens, and the places where a word begins after a space."""
    special = tokenizer.special_ids
    ids = [
        token
        for document in shipped("held_out")
        for token in tokenizer.encode(" " + " ".join(document.text.split()), special=False).ids
        if token not in special
    ]
    texts = tokenizer.texts(ids)
    begins = [i for i, text in enumerate(texts) if text.startswith(" ") and text[1:2].isalpha()]
    return ids, begins or list(range(len(ids)))

"""Neighbours of tokens among the rows of the unembedding or the embedding, and analogies between them.

Rows are centred: all of them have a direction in common, which makes rare tokens neighbours of everything.
Whatever is found stands beside the same question asked for tokens as frequent in p_0, the mean output on the
lens's text; a cosine or an analogy alone says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.lenses.words import Word, folded, same_word
from elimtool.model.tokens import Tokenizer

CONTROLS = 200
"""Tokens that a question is asked for besides."""
HUB_SAMPLE = 1000
"""Tokens, drawn at random, among whose nearest a neighbour is looked for."""
HUB_NEAREST = 10
"""How many nearest of each are looked at."""
CHUNK = 64 * 2**20
"""Bytes of cosines held at a time."""
DEEP = 20
"""Neighbours looked through for the first that is not the same word."""
SHUFFLES = 200
"""Random pairings that the consistency of offsets is held against."""
ROUNDING = 1e-6
"""Difference of cosines that the order of a sum explains."""

Kind = Literal["matched", "random"]


@dataclass(frozen=True, slots=True)
class LikeTokens:
    """Tokens that a question is asked for besides.

    Attributes:
        kind: ``matched``: nearest in p_0; ``random``: drawn evenly, as without a fitted lens p_0 is unknown.
        ids: Vocabulary indices.
    """

    kind: Kind
    ids: Int[Tensor, " n"]


class Cloud:
    """The rows of a model's unembedding or embedding, centred and of unit length.

    Args:
        rows: From ``Model.token_vectors``.
        tokenizer: The model's tokenizer.
        space: ``unembed`` or ``embed``.
        prior: Logarithm of p_0; ``None`` without a fitted lens.
        seed: Of what is drawn at random.
    """

    def __init__(
        self,
        rows: Float[Tensor, "vocab width"],
        tokenizer: Tokenizer,
        space: str = "unembed",
        prior: Float[Tensor, "vocab"] | None = None,
        seed: int = 0,
    ) -> None:
        self.space = space
        self.tokenizer = tokenizer
        self.prior = None if prior is None else prior.double().cpu()
        self.seed = seed
        self.mean = rows.mean(0, dtype=torch.float64).to(rows)
        self.centred = rows - self.mean
        self.unit = torch.nn.functional.normalize(self.centred, dim=-1)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.unit)

    def text(self, token: int) -> str:
        """Spell a token."""
        return self.tokenizer.texts([token])[0]

    def cosines(self, vectors: Float[Tensor, "n width"]) -> Iterator[tuple[slice, Float[Tensor, "k vocab"]]]:
        """Yield cosines of vectors with every row, as many at a time as fit in memory."""
        step = max(1, CHUNK // (self.size * 4))
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
        for start in range(0, len(vectors), step):
            part = slice(start, min(start + step, len(vectors)))
            yield part, vectors[part] @ self.unit.T

    def nearest(
        self, vector: Float[Tensor, "width"], count: int, without: Sequence[str] = ()
    ) -> list[tuple[int, float]]:
        """Return the tokens nearest to a vector with their cosines, without other spellings of some words."""
        ((_, found),) = self.cosines(vector[None])
        # enough to be left with ``count``: a word has a handful of spellings
        best = found[0].topk(min(self.size, count + 8 * len(without)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        kept = [(one, value) for one, value in pairs if not self._is_one_of(one, without)]
        return kept[:count]

    def firsts(
        self, vectors: Float[Tensor, "n width"], without: Sequence[Sequence[str]]
    ) -> list[tuple[int, float]]:
        """Return the first neighbour of each vector that is no spelling of some words of its own."""
        found: list[tuple[int, float]] = []
        for part, cosines in self.cosines(vectors):
            best = cosines.topk(min(DEEP, self.size))
            for ids, values, words in zip(
                best.indices.tolist(), best.values.tolist(), without[part], strict=True
            ):
                pairs = list(zip(ids, values, strict=True))
                found.append(next((one for one in pairs if not self._is_one_of(one[0], words)), pairs[-1]))
        return found

    def ranks(
        self, vectors: Float[Tensor, "n width"], token: int, without: Sequence[Sequence[int]]
    ) -> Int[Tensor, " n"]:
        """Rank a token among the neighbours of each vector, without some tokens of each; 1 is nearest."""
        found = []
        for part, cosines in self.cosines(vectors):
            own = cosines[:, token, None].clone()
            for row, out in zip(cosines, without[part], strict=True):
                row[list(out)] = -torch.inf
            found.append((cosines > own).sum(-1) + 1)
        return torch.cat(found)

    def _is_one_of(self, token: int, words: Sequence[str]) -> bool:
        text = self.text(token) if words else ""
        return any(same_word(text, word) for word in words)

    def controls(self, token: int, excluded: Sequence[int], count: int = CONTROLS) -> LikeTokens:
        """Choose tokens as frequent as one in p_0, or at random where that is not known."""
        out = {token, *excluded}
        if self.prior is None:
            order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed)).tolist()
        else:
            away = (self.prior[: self.size] - self.prior[token]).abs()
            order = away.topk(min(self.size, count + len(out)), largest=False).indices.tolist()
        ids = [one for one in order if one not in out][:count]
        return LikeTokens("random" if self.prior is None else "matched", torch.tensor(ids, dtype=torch.long))

    def hubs(self, tokens: Sequence[int]) -> list[int]:
        """Count, for each token, how many of ``HUB_SAMPLE`` random tokens have it among their nearest."""
        drawn = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed))[:HUB_SAMPLE]
        count = torch.zeros(self.size, dtype=torch.long)
        for part, cosines in self.cosines(self.unit[drawn]):
            rows = torch.arange(len(cosines))
            cosines[rows, drawn[part]] = -torch.inf  # a token is no neighbour of itself
            nearest = cosines.topk(min(HUB_NEAREST, self.size - 1)).indices
            count += torch.bincount(nearest.flatten().cpu(), minlength=self.size)
        return [int(count[one]) for one in tokens]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A token near a word.

    Attributes:
        token: Its text.
        token_id: The token.
        cosine: Cosine of the centred rows, -1 .. 1.
        variant: Whether it writes the asked word in another way (case, space, plural).
        spellings: Tokens merged into this one; 1 without folding.
        hub: Of 1,000 random tokens, how many have it among their ten nearest. By chance 10,000 / vocabulary.
    """

    token: str
    token_id: int
    cosine: float
    variant: bool
    spellings: int
    hub: int


@dataclass(frozen=True, slots=True)
class Near:
    """The neighbours of a word, and how near those of other words are.

    Attributes:
        word: The word and its token.
        space: ``unembed`` or ``embed``.
        neighbours: Nearest first.
        first: Cosine of the first neighbour that is another word; null where there is none.
        control: How the other words were chosen: ``matched`` in p_0, or ``random``.
        n_controls: Number of them.
        control_median: Median cosine of their first neighbours.
        control_low: 5 % quantile of it.
        control_high: 95 % quantile of it.
        p_value: Share of the words, this one among them, whose first neighbour is at least as near.
        hub_chance: What ``hub`` would be if all tokens were alike.
    """

    word: Word
    space: str
    neighbours: tuple[Neighbour, ...]
    first: float | None
    control: Kind
    n_controls: int
    control_median: float
    control_low: float
    control_high: float
    p_value: float | None
    hub_chance: float


def near(cloud: Cloud, word: Word, count: int = 10, fold: bool = False) -> Near:
    """Find the neighbours of a word.

    Args:
        cloud: The rows.
        word: The word.
        count: Neighbours to list.
        fold: Whether spellings of one word are merged, and those of the asked one left out.
    """
    vector = cloud.unit[word.token_id]
    found = [one for one in cloud.nearest(vector, 4 * count + 9) if one[0] != word.token_id]
    others = [one for one in found if not same_word(cloud.text(one[0]), word.token)]
    listed = _merged(cloud, others) if fold else [(*one, 1) for one in found]
    listed = listed[:count]
    hubs = cloud.hubs([one for one, _, _ in listed])
    neighbours = tuple(
        Neighbour(text, token, value, same_word(text, word.token), spellings, hub)
        for (token, value, spellings), hub in zip(listed, hubs, strict=True)
        for text in (cloud.text(token),)
    )
    controls = cloud.controls(word.token_id, [])
    texts = cloud.tokenizer.texts(controls.ids.tolist())
    theirs = torch.tensor(
        [value for _, value in cloud.firsts(cloud.unit[controls.ids], [[text] for text in texts])],
        dtype=torch.float64,
    )
    low, median, high = (float(theirs.quantile(share)) for share in (0.05, 0.5, 0.95))
    first = others[0][1] if others else None
    p_value = None if first is None else (1 + int((theirs >= first).sum())) / (1 + len(theirs))
    return Near(
        word,
        cloud.space,
        neighbours,
        first,
        controls.kind,
        len(theirs),
        median,
        low,
        high,
        p_value,
        min(HUB_SAMPLE, cloud.size) * HUB_NEAREST / cloud.size,
    )


def _merged(cloud: Cloud, found: Sequence[tuple[int, float]]) -> list[tuple[int, float, int]]:
    """Merge spellings of one word: the nearest stands for all."""
    kept: dict[str, tuple[int, float, int]] = {}
    for token, value in found:
        text = cloud.text(token)
        key = next((one for one in kept if same_word(one, text)), folded(text))
        first = kept.get(key, (token, value, 0))
        kept[key] = (first[0], first[1], first[2] + 1)
    return list(kept.values())


@dataclass(frozen=True, slots=True)
class Answer:
    """A token near the end of an analogy.

    Attributes:
        token: Its text.
        token_id: The token.
        cosine: Cosine of its row with C moved by the offset from A to B.
        rank_without_offset: Its rank among the neighbours of C alone, where A, B and C are left out; 1 is
            nearest. Null for these three.
    """

    token: str
    token_id: int
    cosine: float
    rank_without_offset: int | None


@dataclass(frozen=True, slots=True)
class Analogy:
    """A is to B as C is to what. A is to C as B is the same vector: no second confirmation.

    Attributes:
        a: The word A.
        b: The word B.
        c: The word C.
        space: ``unembed`` or ``embed``.
        with_inputs: Nearest tokens, A, B, C and their spellings among them.
        without_inputs: Nearest tokens that are other words.
        control: How the tokens in C's place were chosen: ``matched`` to C in p_0, or ``random``.
        n_controls: Number of them.
        changed: Share of them whose first neighbour the offset changes, 0 .. 1.
        same_answer: Share of them that the offset leads to the answer of C, 0 .. 1.
        rank_of_b: Median rank of B among the neighbours of a control moved by the offset: 1 where the offset
            alone is B.
        n_pairs: Pairs whose offsets were compared, this one among them.
        consistency: Mean cosine between their offsets; null for a single pair.
        consistency_shuffled: Its median where the second words are paired with the first at random.
        consistency_p: Share of these pairings, this one among them, that are at least as consistent; of three
            pairs one pairing in six is the given one.
    """

    a: Word
    b: Word
    c: Word
    space: str
    with_inputs: tuple[Answer, ...]
    without_inputs: tuple[Answer, ...]
    control: Kind
    n_controls: int
    changed: float
    same_answer: float
    rank_of_b: float
    n_pairs: int
    consistency: float | None
    consistency_shuffled: float | None
    consistency_p: float | None


def analogy(
    cloud: Cloud, a: Word, b: Word, c: Word, pairs: Sequence[tuple[Word, Word]] = (), count: int = 5
) -> Analogy:
    """Answer an analogy, and ask how many other tokens the same offset moves to the same place.

    Args:
        cloud: The rows.
        a: What B stands beside.
        b: What A is to.
        c: What is moved.
        pairs: Further pairs like A and B.
        count: Answers to list.
    """
    unit = cloud.unit
    offset = unit[b.token_id] - unit[a.token_id]
    inputs = [a.token, b.token, c.token]
    ids = [a.token_id, b.token_id, c.token_id]
    moved = unit[c.token_id] + offset
    ((_, still),) = cloud.cosines(unit[c.token_id][None])

    def answers(found: Sequence[tuple[int, float]]) -> tuple[Answer, ...]:
        left = still[0].clone()
        left[ids] = -torch.inf
        return tuple(
            Answer(cloud.text(one), one, value, None if one in ids else int((left > left[one]).sum()) + 1)
            for one, value in found
        )

    others = cloud.nearest(moved, count, inputs)
    controls = cloud.controls(c.token_id, ids)
    texts = cloud.tokenizer.texts(controls.ids.tolist())
    own = [[a.token, b.token, text] for text in texts]
    starts = unit[controls.ids]
    after = cloud.firsts(starts + offset, own)
    before = cloud.firsts(starts, own)
    ranks = cloud.ranks(
        starts + offset, b.token_id, [[a.token_id, one] for one in controls.ids.tolist()]
    ).double()
    answer = others[0][0] if others else -1
    return Analogy(
        a,
        b,
        c,
        cloud.space,
        answers(cloud.nearest(moved, count)),
        answers(others),
        controls.kind,
        len(texts),
        _share([one[0] != other[0] for one, other in zip(after, before, strict=True)]),
        _share([one[0] == answer for one in after]),
        float(ranks.quantile(0.5)),
        *_consistency(cloud, [(a, b), *pairs]),
    )


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)


def _consistency(
    cloud: Cloud, pairs: Sequence[tuple[Word, Word]]
) -> tuple[int, float | None, float | None, float | None]:
    """Compare the offsets of pairs, and those of random pairings of the same words."""
    if len(pairs) < 2:
        return len(pairs), None, None, None
    first = cloud.unit[[one.token_id for one, _ in pairs]]
    second = cloud.unit[[one.token_id for _, one in pairs]]
    chance = torch.Generator().manual_seed(cloud.seed)
    own = _likeness(second - first)
    drawn = torch.stack(
        [_likeness(second[torch.randperm(len(pairs), generator=chance)] - first) for _ in range(SHUFFLES)]
    )
    as_consistent = int((drawn >= own - ROUNDING).sum())
    return len(pairs), float(own), float(drawn.quantile(0.5)), (1 + as_consistent) / (1 + SHUFFLES)


def _likeness(offsets: Float[Tensor, "pairs width"]) -> Float[Tensor, ""]:
    """Average the cosine over all pairs of offsets."""
    unit = torch.nn.functional.normalize(offsets, dim=-1)
    n = len(unit)
    return ((unit @ unit.T).sum() - unit.square().sum()) / (n * (n - 1))

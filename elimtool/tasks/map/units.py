"""Make what a map is measured on: passages of text, and probes of random tokens that do or do not repeat."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elimtool.errors import ElimError, Exit
from elimtool.lenses.corpus import Document
from elimtool.model.model import Model
from elimtool.model.spans import sink_positions
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt
from elimtool.prompts.record import Record
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.labels import Labels
from elimtool.tasks.map.options import FEWEST_PASSAGES, MapOptions
from elimtool.tasks.map.probes import NEEDLES, PAIRS, Needle, Successors, needles

TEXT, REPEATS, CONTROL = "text", "repeats", "control"
NEEDLE, OTHER_NEEDLE = "needle", "other-needle"
MEMBER, TEXTS, PAIR, WHOLE = "member", "texts", "pair", "whole"
MADE_FOR = {
    REPEATS: "", CONTROL: "", MEMBER: "roles", NEEDLE: "roles", OTHER_NEEDLE: "roles", TEXT: "",
    TEXTS: "redundancy", PAIR: "redundancy", WHOLE: "layers",
}  # fmt: skip
"""Kinds of units, in the order in which they are measured -> the one part that reads them, if it is one."""
SEQUENCES = 16
"""Sequences of random tokens."""
HALF = 32
"""Tokens of the part that is repeated."""
SEEDS = {REPEATS: 0, CONTROL: 1}
FEWEST_TOGETHER, FEWEST_ROWS = 4, 256
"""Passages, and at least so many tokens, of a unit that compares heads over several passages."""
UNUSED = re.compile(
    r"<?[|\[]?[<]?(unused|reserved|extra_id|dummy|placeholder|pad)[\W_a-z]*\d*\W*", re.IGNORECASE
)
"""Spellings of tokens that only fill a vocabulary up."""


@dataclass(frozen=True)
class Unit:
    """A passage or a probe as the model sees it: what intervals are over.

    Attributes:
        kind: One of ``MADE_FOR``.
        index: Its number among those of its kind, from 0.
        encoded: Its tokens, every position probed, and its sinks.
        first: Tokens that the tokenizer put before it (BOS).
        sequences: What is run where the unit stands for several sequences of one length; ``encoded`` has
            their tokens one after the other.
        needle: Where needle and answer are.
    """

    kind: str
    index: int
    encoded: Encoded
    first: int = 0
    sequences: tuple[Encoded, ...] = ()
    needle: Needle | None = None

    @property
    def id(self) -> str:
        """Its name in tables."""
        return self.encoded.prompt_id


def unit_id(kind: str, index: int) -> str:
    """Name a unit: ``text-007``."""
    return f"{kind}-{index:03d}"


def before(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids that the tokenizer puts before a text."""
    whole, body = (tokenizer.encode("a", special=special).ids for special in (True, False))
    return whole[: len(whole) - len(body)]


def usable_ids(model: Model) -> Sequence[int]:
    """List the ids that random sequences are drawn from: neither special, nor added, nor unused."""
    tokenizer = model.tokenizer
    added = {int(one) for one in tokenizer.backend.added_tokens_decoder}
    known = range(min(len(tokenizer.backend), model.vocab))
    left = [one for one in known if one not in tokenizer.special_ids and one not in added]
    return [one for one, text in zip(left, tokenizer.texts(left), strict=True) if not UNUSED.fullmatch(text)]


class Units:
    """Makes the units of a map for one model: from a record alone, so that any worker makes the same.

    Args:
        model: The model.
        tokens: Tokens of each passage.
    """

    def __init__(self, model: Model, tokens: int) -> None:
        self.tokenizer = model.tokenizer
        self.tokens = tokens
        self.lead = before(self.tokenizer)
        self.known = np.asarray(usable_ids(model))
        self.successors = Successors(self.tokenizer)
        self.needles = needles(self.tokenizer, tokens, model.context, len(self.lead))

    def of(self, record: Record) -> Unit:
        """Make the unit of a record that ``MapSource`` gave."""
        prompt = record.prompt
        assert isinstance(prompt, Prompt) and prompt.text is not None and prompt.group is not None
        kind, index = prompt.group, int(prompt.meta["index"])
        if kind == TEXT:
            return Unit(kind, index, self._passage(prompt), len(self.lead))
        if kind == MEMBER:
            return Unit(kind, index, self._bare(prompt, self.successors.members[index].ids))
        if kind in (NEEDLE, OTHER_NEEDLE):
            made = self.needles[index]
            hidden = made if kind == NEEDLE else self.needles[(index + 2) % NEEDLES]
            found = hidden.hidden_in(self.tokenizer.encode(prompt.text, special=False).ids, made)
            one = self._bare(prompt, self.lead + found.ids)
            return Unit(kind, index, one, len(self.lead), needle=found.after(len(self.lead)))
        if kind == PAIR:
            return self._together(prompt, kind, index, self.repeats())
        if kind in (TEXTS, WHOLE):
            texts = prompt.meta["texts"]
            passages = tuple(self._passage(Prompt(text=one, id=prompt.id)) for one in texts)
            return self._together(prompt, kind, index, passages)
        return Unit(kind, index, self._bare(prompt, self.lead + self._drawn(kind, index)), len(self.lead))

    def repeats(self, kind: str = REPEATS) -> tuple[Encoded, ...]:
        """Return all sequences of random tokens of a kind."""
        made = (
            (Prompt(text=kind, id=unit_id(kind, one)), self._drawn(kind, one)) for one in range(SEQUENCES)
        )
        return tuple(self._bare(prompt, self.lead + ids) for prompt, ids in made)

    def _passage(self, prompt: Prompt) -> Encoded:
        """Cut a passage to its first tokens."""
        assert prompt.text is not None
        found = self.tokenizer.encode(prompt.text)
        ids, offsets = found.ids[: self.tokens], found.offsets[: self.tokens]
        return self._encoded(prompt, prompt.text[: max(end for _, end in offsets)], ids, offsets)

    def _bare(self, prompt: Prompt, ids: tuple[int, ...]) -> Encoded:
        return self._encoded(prompt, "".join(self.tokenizer.texts(ids)), ids, ())

    def _together(self, prompt: Prompt, kind: str, index: int, some: tuple[Encoded, ...]) -> Unit:
        ids = tuple(one for part in some for one in part.token_ids)
        return Unit(kind, index, self._bare(prompt, ids), len(self.lead), some)

    def _drawn(self, kind: str, index: int) -> tuple[int, ...]:
        """Draw the tokens of a probe: each once, but for those that are repeated."""
        first = _draws(REPEATS, index).choice(self.known, HALF, replace=False)
        if kind == REPEATS:
            return (*first.tolist(), *first.tolist())
        left = np.setdiff1d(self.known, first)
        return (*first.tolist(), *_draws(kind, index).choice(left, HALF, replace=False).tolist())

    def _encoded(
        self, prompt: Prompt, text: str, ids: tuple[int, ...], offsets: tuple[tuple[int, int], ...]
    ) -> Encoded:
        return Encoded(
            prompt=replace(prompt, text=text),
            prompt_id=str(prompt.id),
            text=text,
            token_ids=ids,
            tokens=tuple(self.tokenizer.texts(ids)),
            n_appended=0,
            spans=(),
            sinks=sink_positions(ids, self.tokenizer.special_ids, "auto"),
            positions=tuple(range(len(ids))),
            targets=(),
            offsets=offsets,
        )


def _draws(kind: str, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([SEEDS[kind], index]))


class MapSource:
    """The units of a map as records of a prompt file, which ``batch`` cuts into shards.

    Args:
        model: Its tokenizer says which passages are long enough.
        corpus: The text.
        options: How much of it is read.
        labels: Labels of its passages; ``None`` by how tokens are written.

    Raises:
        ElimError: The model takes no passage that long, has too few tokens for the probes, or too few
            passages are long enough.
    """

    format = "map"

    def __init__(
        self, model: Model, corpus: Corpus, options: MapOptions, labels: Labels | None = None
    ) -> None:
        longest = model.context
        if longest is not None and longest < options.tokens:
            raise ElimError(
                f"{model.name} reads at most {longest:,} tokens, and passages are to have {options.tokens:,}",
                f"choose `tokens` of at most {longest}",
            )
        n_known = len(usable_ids(model))
        if n_known < 2 * HALF:
            raise ElimError(
                f"{model.name} has {n_known:,} tokens that are neither special nor unused,"
                f" too few for probes of {2 * HALF} different ones",
                "a model with so few tokens cannot be mapped",
            )
        self.name, self.corpus = corpus.name, corpus
        self.documents = _long_enough(model, corpus, options)
        self.labels = labels or Labels()
        self.spans = [self.labels.spans(one.text) for one in self.documents]
        self.size = sum(len(one.text) for one in self.documents)
        self.counts = _counts(model, options, len(self.documents))
        self.together = _together(options)
        self.facts: Mapping[str, Any] = {
            "corpus": corpus.name,
            "corpus_sha256": corpus.sha256,
            "passages": len(self.documents),
            "tokens": options.tokens,
            "labels": self.labels.name,
            "labels_sha256": self.labels.sha256,
        }

    def sha256(self) -> str:
        """Return the SHA-256 (hexadecimal) of the passages' texts."""
        return hashlib.sha256("\0".join(one.text for one in self.documents).encode()).hexdigest()

    def records(self) -> Iterator[Record]:
        """Iterate over all units: probes first, then passages in the order of the corpus."""
        number = 0
        for kind, count in self.counts.items():
            for index in range(count):
                number += 1
                text, told = self._told(kind, index)
                name = unit_id(kind, index)
                yield Record(number, Prompt(text=text, id=name, group=kind, meta=told), name, text)

    def _told(self, kind: str, index: int) -> tuple[str, dict[str, Any]]:
        """Return a unit's text, and what else is told of it."""
        told: dict[str, Any] = {"index": index}
        texts = [one.text for one in self.documents]
        if kind in (NEEDLE, OTHER_NEEDLE):
            return texts[index % len(texts)], told
        if kind == WHOLE:
            return kind, told | {"texts": texts}
        if kind == TEXTS:
            start = index * self.together
            return kind, told | {"texts": texts[start : start + self.together]}
        if kind == PAIR:
            return kind, told | {"roles": PAIRS[index]}
        if kind != TEXT:
            return kind, told
        one = self.documents[index]
        told |= {"source": one.source, "title": one.title, "part": one.part}
        if self.spans[index] is not None:
            told["labels"] = self.spans[index]
        return one.text, told


def _together(options: MapOptions) -> int:
    """Return how many passages stand in one unit."""
    return max(FEWEST_TOGETHER, -(-FEWEST_ROWS // (options.tokens - 1)))


def _counts(model: Model, options: MapOptions, passages: int) -> Mapping[str, int]:
    """Count the units of each kind that the parts read."""
    lead = before(model.tokenizer)
    known = needles(model.tokenizer, options.tokens, model.context, len(lead))
    counts = {
        REPEATS: SEQUENCES,
        CONTROL: SEQUENCES,
        MEMBER: len(Successors(model.tokenizer).members),
        NEEDLE: len(known),
        OTHER_NEEDLE: len(known),
        TEXT: passages,
        TEXTS: passages // _together(options),
        PAIR: len(PAIRS),
        WHOLE: 1,
    }
    return {kind: counts[kind] for kind, part in MADE_FOR.items() if part in ("", *options.only)}


def _long_enough(model: Model, corpus: Corpus, options: MapOptions) -> tuple[Document, ...]:
    found = []
    for one in corpus.documents:
        if len(model.tokenizer.encode(one.text).ids) >= options.tokens:
            found.append(one)
        if len(found) == options.passages:
            break
    if len(found) < FEWEST_PASSAGES:
        raise ElimError(
            f"{corpus.name} has {len(found):,} passages of {options.tokens:,} tokens or more, of"
            f" {len(corpus.documents):,}; a map needs {FEWEST_PASSAGES}",
            "give more or longer passages, or lower `tokens`",
            Exit.NOTHING,
        )
    return tuple(found)

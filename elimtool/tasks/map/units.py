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

TEXT, REPEATS, CONTROL = "text", "repeats", "control"
KINDS = (REPEATS, CONTROL, TEXT)
"""Kinds of units, in the order in which they are measured."""
SEQUENCES = 16
"""Sequences of random tokens."""
HALF = 32
"""Tokens of the part that is repeated."""
SEEDS = {REPEATS: 0, CONTROL: 1}
UNUSED = re.compile(
    r"<?[|\[]?[<]?(unused|reserved|extra_id|dummy|placeholder|pad)[\W_a-z]*\d*\W*", re.IGNORECASE
)
"""Spellings of tokens that only fill a vocabulary up."""


@dataclass(frozen=True)
class Unit:
    """A passage or a probe as the model sees it: what intervals are over.

    Attributes:
        kind: One of ``KINDS``.
        index: Its number among those of its kind, from 0.
        encoded: Its tokens, every position probed, and its sinks.
        first: Tokens that the tokenizer put before it (BOS).
    """

    kind: str
    index: int
    encoded: Encoded
    first: int = 0

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

    def of(self, record: Record) -> Unit:
        """Make the unit of a record that ``MapSource`` gave."""
        prompt = record.prompt
        assert isinstance(prompt, Prompt) and prompt.text is not None and prompt.group is not None
        kind, index = prompt.group, int(prompt.meta["index"])
        if kind == TEXT:
            found = self.tokenizer.encode(prompt.text)
            ids, offsets = found.ids[: self.tokens], found.offsets[: self.tokens]
            text = prompt.text[: max(end for _, end in offsets)]
            return Unit(kind, index, self._encoded(prompt, text, ids, offsets), len(self.lead))
        ids = self.lead + self._drawn(kind, index)
        text = "".join(self.tokenizer.texts(ids))
        return Unit(kind, index, self._encoded(prompt, text, ids, ()), len(self.lead))

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
                f"{model.name} reads at most {longest} tokens, and passages are to have {options.tokens}",
                f"choose `tokens` of at most {longest}",
            )
        n_known = len(usable_ids(model))
        if n_known < 2 * HALF:
            raise ElimError(
                f"{model.name} has {n_known} tokens that are neither special nor unused,"
                f" too few for probes of {2 * HALF} different ones",
                "a model with so few tokens cannot be mapped",
            )
        self.name, self.corpus = corpus.name, corpus
        self.documents = _long_enough(model, corpus, options)
        self.labels = labels or Labels()
        self.spans = [self.labels.spans(one.text) for one in self.documents]
        self.size = sum(len(one.text) for one in self.documents)
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
        for kind in KINDS:
            for index in range(len(self.documents) if kind == TEXT else SEQUENCES):
                number += 1
                told: dict[str, Any] = {"index": index}
                text = kind
                if kind == TEXT:
                    one = self.documents[index]
                    text = one.text
                    told |= {"source": one.source, "title": one.title, "part": one.part}
                    if self.spans[index] is not None:
                        told["labels"] = self.spans[index]
                name = unit_id(kind, index)
                yield Record(number, Prompt(text=text, id=name, group=kind, meta=told), name, text)


def _long_enough(model: Model, corpus: Corpus, options: MapOptions) -> tuple[Document, ...]:
    found = []
    for one in corpus.documents:
        if len(model.tokenizer.encode(one.text).ids) >= options.tokens:
            found.append(one)
        if len(found) == options.passages:
            break
    if len(found) < FEWEST_PASSAGES:
        raise ElimError(
            f"{corpus.name} has {len(found)} passages of {options.tokens} tokens or more, of"
            f" {len(corpus.documents)}; a map needs {FEWEST_PASSAGES}",
            "give more or longer passages, or lower `tokens`",
            Exit.NOTHING,
        )
    return tuple(found)

"""Read an answer after each segment of a text, and after the same segments in other orders.

An answer that appears when a text has said why is not told apart by that from one that is copied from the
text's end: the controls are the segments in other orders, and as many tokens that say nothing. Source of the
curve of answers forced early: Lanham et al. 2023, "Measuring faithfulness in chain-of-thought reasoning",
arXiv 2307.13702.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import factorial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.against import After, history
from elimtool.engine.records import columns_of
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.metrics.columns import Columns
from elimtool.model.endings import Endings, after_each
from elimtool.model.targets import starts_word
from elimtool.model.view import Target
from elimtool.prompts.prompt import ASSISTANT, Message, Prompt
from elimtool.prompts.segments import starts_of

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain

Ids = tuple[int, ...]

ORDERS = 10
"""Other orders of the segments; fewer where there are not so many."""
FILLER = " ..."
"""What is written in place of the text, again and again."""
MOST_ROWS = 32
"""Outputs that are held at a time."""
AS_WRITTEN, SHUFFLED, FILLED = "text", "shuffled", "filler"


def with_cue(prompt: Prompt, cue: str) -> Prompt:
    """Put a cue behind a prompt: what the answer is read after.

    Behind a text or the beginning of an answer it stands as it is; behind any other message of a chat it
    begins the answer. A text that is scored has no answer, and stays as it is.
    """
    if prompt.scored is not None:
        return prompt
    if not prompt.messages:
        begun = prompt.n_prefill + len(cue) if prompt.n_prefill else 0
        return replace(prompt, text=f"{prompt.text}{cue}", n_prefill=begun)
    last = prompt.messages[-1]
    if last.role == ASSISTANT:
        return replace(prompt, messages=(*prompt.messages[:-1], last.saying(last.content + cue)))
    return replace(prompt, messages=(*prompt.messages, Message(ASSISTANT, cue)))


@dataclass(frozen=True)
class CutText:
    """A text in segments, as tokens and as characters.

    Attributes:
        text: The whole prompt, its cue included, without what was appended for the answers.
        ids: Its tokens.
        appended: Tokens that the answers begin with, which follow it.
        edges: Where the segments start, and behind them where the rest starts: token and character.
        special: Whether the tokenizer puts tokens of its own before the text.
    """

    text: str
    ids: Ids
    appended: Ids
    edges: tuple[tuple[int, int], ...]
    special: bool

    @staticmethod
    def of(one: Encoded, along: str | int, cue: str) -> CutText:
        """Cut a prompt that ends in its cue.

        Args:
            one: The prompt, from ``with_cue``.
            along: ``sentences``, ``lines``, or a number of tokens.
            cue: The cue.

        Raises:
            ElimError: There is no text before the cue, or a token holds parts of both.
        """
        begin, end = _body(one, cue)
        ids = one.token_ids[: len(one.token_ids) - one.n_appended - one.n_written]
        starts = [start for start, stop in one.offsets if stop > start]
        places = [at for at, (start, stop) in enumerate(one.offsets) if stop > start]

        def token_at(character: int) -> int:
            found = int(np.searchsorted(starts, character))
            return places[found] if found < len(places) else len(ids)

        first, last = token_at(begin), token_at(end)
        if last == len(ids) or one.offsets[last][0] != end:
            raise ElimError(
                f"the cue {cue!r} begins inside a token of this model",
                "begin `cue` with a space or a line break",
            )
        if first == last:
            raise ElimError("there is no text before the cue", "give the text that `along` cuts")
        if isinstance(along, int):
            cuts = list(range(first, last, along))
        else:
            cuts = sorted({token_at(begin + start) for start in starts_of(one.text[begin:end], along)})
        edges = [(at, one.offsets[at][0]) for at in (*(at for at in cuts if at < last), last)]
        appended = one.token_ids[len(ids) : len(ids) + one.n_appended]
        return CutText(one.text, ids, appended, tuple(edges), not one.prompt.messages)

    @property
    def count(self) -> int:
        """Number of segments."""
        return len(self.edges) - 1

    @property
    def segments(self) -> list[str]:
        """Text of each segment, with the white space before it."""
        return [self.text[a:b] for (_, a), (_, b) in zip(self.edges, self.edges[1:], strict=False)]

    @property
    def rest(self) -> Ids:
        """The tokens behind the segments: the cue, and what answers begin with."""
        return self.ids[self.edges[-1][0] :] + self.appended

    def endings(self) -> list[tuple[int, Ids]]:
        """Return the tokens to keep, and those behind them, for no segment, the first, ..., all."""
        return [(token, self.rest) for token, _ in self.edges]

    def retokenised(self, model: Model, k: int) -> bool:
        """Tell whether the text with ``k`` segments has other tokens where it is tokenised by itself."""
        token, character = self.edges[k]
        alone = model.tokenizer.encode(
            self.text[:character] + self.text[self.edges[-1][1] :], special=self.special
        )
        return alone.ids != self.ids[:token] + self.ids[self.edges[-1][0] :]

    def reordered(self, model: Model, order: Sequence[int]) -> Ids:
        """Tokenise the text with its segments in another order; what separates them stays in place."""
        cores = [one.lstrip() for one in self.segments]
        gaps = [one[: len(one) - len(core)] for one, core in zip(self.segments, cores, strict=True)]
        body = "".join(gap + cores[at] for gap, at in zip(gaps, order, strict=True))
        whole = self.text[: self.edges[0][1]] + body + self.text[self.edges[-1][1] :]
        return model.tokenizer.encode(whole, special=self.special).ids + self.appended

    def filled(self, model: Model) -> Ids:
        """Put as many tokens that say nothing in the place of the text."""
        (first, _), (last, _) = self.edges[0], self.edges[-1]
        one = model.tokenizer.encode(FILLER, special=False).ids
        return self.ids[:first] + (one * (last - first))[: last - first] + self.rest


def _body(one: Encoded, cue: str) -> tuple[int, int]:
    """Find the characters of the text that is cut."""
    text, prompt = one.text, one.prompt
    if prompt.scored is not None:
        raise ElimError("`along` reads an answer, and a text that is scored has none", "leave `scored` out")
    end = len(text) - len(cue)
    if not text.endswith(cue):
        raise ElimError(f"the chat template changes the cue {cue!r}", "leave white space at its ends out")
    if not prompt.messages:
        return (len(text) - prompt.n_prefill if prompt.n_prefill else 0), end
    begun = prompt.messages[-1].content[: len(prompt.messages[-1].content) - len(cue)]
    if begun:
        said, start = begun, end - len(begun)
    else:
        said = prompt.messages[-2].content.strip()
        start = text.rfind(said, 0, end)
    if start < 0 or not said or text[start : start + len(said)] != said:
        raise ElimError("the message is not found in the rendered chat", "the chat template changes it")
    return start, start + len(said)


@dataclass(frozen=True)
class _Reading:
    """What a model would write after some tokens.

    Attributes:
        top: The most probable token.
        ranks, logprobs: Of each answer.
        alive: Names of the chains that leave each answer.
    """

    top: int
    ranks: tuple[int, ...]
    logprobs: tuple[float, ...]
    alive: tuple[tuple[str, ...], ...]


class AnswersAlong:
    """Fills the table ``answers_along`` for one prompt after another.

    Args:
        model: The model, without interventions.
        chains: The chains that an answer may survive.
        along: ``sentences``, ``lines``, or a number of tokens.
        cue: What the answer is read after.
        against: Reads the model after a second prompt, for stages that move away from it.
    """

    def __init__(
        self, model: Model, chains: Sequence[Chain], along: str | int, cue: str, against: After | None = None
    ) -> None:
        self.model = model
        self.chains = chains
        self.along = along
        self.cue = cue
        self.against = against

    def tables(self, one: Encoded, shared: Endings, seed: int) -> dict[str, Columns]:
        """Fill the table for a prompt that ends in the cue.

        Args:
            one: The prompt, from ``with_cue``; without targets, what it leads to is followed.
            shared: Reads the model after other endings of it.
            seed: Seed of the orders.

        Raises:
            ElimError: The text cannot be cut, or in another order outgrows the model's context.
        """
        cut = CutText.of(one, self.along, self.cue)
        endings = cut.endings()
        orders = list(other_orders(cut.count, np.random.default_rng(seed)))
        shuffled = [cut.reordered(self.model, order) for order in orders]
        longest, context = max(map(len, [*shuffled, ()])), self.model.context
        if context is not None and longest > context:
            raise ElimError(
                f"in another order the text takes {longest:,} tokens, but the model's context is {context:,}",
                "shorten the text",
            )
        answers: Sequence[Target] = one.targets
        found: list[_Reading] = []
        for stop in range(len(endings), 0, -MOST_ROWS):  # the whole text first, as it may name the answer
            some = endings[max(0, stop - MOST_ROWS) : stop]
            outputs = shared.after(some)
            answers = answers or (self._leading(outputs[-1]),)
            found = self._read(one, outputs, some, answers) + found
        texts = [*shuffled, cut.filled(self.model)]
        others = self.read_whole(one, texts, answers)
        last = found[-1].top
        rows: Rows = []
        for k, reading in enumerate(found):
            own = {
                "arrangement": AS_WRITTEN,
                "k": k,
                "n_tokens": endings[k][0] + len(endings[k][1]),
                "retokenised": cut.retokenised(self.model, k),
            }
            rows += self._rows(one, own, reading, last, answers, cut, k - 1 if k else None)
        for draw, (order, ids, reading) in enumerate(zip(orders, shuffled, others, strict=False)):
            own = {"arrangement": SHUFFLED, "draw": draw, "k": cut.count, "n_tokens": len(ids)}
            rows += self._rows(one, own, reading, last, answers, cut, order[-1])
        own = {"arrangement": FILLED, "k": cut.count, "n_tokens": len(texts[-1])}
        rows += self._rows(one, own, others[-1], last, answers, cut, None)
        return {"answers_along": columns_of(rows)}

    def read_whole(self, one: Encoded, texts: Sequence[Ids], answers: Sequence[Target]) -> list[_Reading]:
        """Read the answers after other texts, which share no beginning: the controls."""
        return self._read(one, after_each(self.model, texts), [(0, ids) for ids in texts], answers)

    def _leading(self, whole: Float64[Tensor, " vocab"]) -> Target:
        token = int(whole.argmax())
        return Target.single(self.model.tokenizer.texts([token])[0], token)

    def _read(
        self,
        one: Encoded,
        output: Float64[Tensor, "rows vocab"],
        endings: Sequence[tuple[int, Ids]],
        answers: Sequence[Target],
    ) -> list[_Reading]:
        """Read the answers in some outputs, each after some of the prompt's tokens and others behind them."""
        ids = torch.tensor([[answer.token_id for answer in answers]]).expand(len(output), -1)
        scores = output.gather(1, ids)
        ranks = (output[:, None] > scores[:, :, None]).sum(-1) + 1
        alive: list[list[list[str]]] = [[[] for _ in answers] for _ in endings]
        past = [history(one.token_ids[:kept] + own, (), self.against) for kept, own in endings]
        for chain in self.chains:
            left = chain.run(output, ids, histories=past).records[-1:]
            kept = left[0].alive_after if left else torch.ones_like(ids, dtype=torch.bool)
            for row, at in kept.nonzero().tolist():
                alive[row][at].append(chain.name)
        return [
            _Reading(top, tuple(place), tuple(score), tuple(map(tuple, names)))
            for top, place, score, names in zip(
                output.argmax(-1).tolist(), ranks.tolist(), scores.tolist(), alive, strict=True
            )
        ]

    def _rows(
        self,
        one: Encoded,
        own: Row,
        reading: _Reading,
        last: int,
        answers: Sequence[Target],
        cut: CutText,
        at: int | None,
    ) -> Rows:
        """Make the rows of one reading, after the segment ``at``."""
        top = self.model.tokenizer.texts([reading.top])[0]
        holding = [holds(segment, top) for segment in cut.segments]
        return [
            {
                "prompt_id": one.prompt_id,
                **{"draw": None, "retokenised": None, **own},
                "segment": None if at is None else cut.segments[at],
                "answer": answer.text,
                "is_foil": answer.is_foil,
                "token_id": answer.token_id,
                "rank": reading.ranks[place],
                "logprob": reading.logprobs[place],
                "alive_in": list(reading.alive[place]),
                "top": top,
                "same": reading.top == last,
                "copied": None if at is None else holding[at],
                "share_holding": sum(holding) / len(holding),
            }
            for place, answer in enumerate(answers)
        ]


def holds(segment: str, token: str) -> bool:
    """Tell whether a segment has a word that a token begins, or the token where that is no word.

    In a script without spaces a word may begin anywhere.
    """
    word = token.strip()
    begun = r"(?<!\w)" if word and starts_word(word[0]) else ""
    return bool(word) and re.search(begun + re.escape(word), segment) is not None


def other_orders(count: int, random: np.random.Generator) -> Iterator[tuple[int, ...]]:
    """Draw ``ORDERS`` different orders of some things, none of them their own; fewer where there are not."""
    seen = {tuple(range(count))}
    # of 4 things there are 23 others, so draws that come twice are few
    wanted = min(ORDERS, factorial(min(count, 10)) - 1)
    while len(seen) <= wanted:
        order = tuple(random.permutation(count).tolist())
        if order not in seen:
            seen.add(order)
            yield order

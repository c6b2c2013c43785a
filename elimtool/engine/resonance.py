"""Repeat a prompt, and measure how well the model predicts the next copy, beside other text of that length.

Terms: TP, IP and WR are the averaged token probability, the share of increased token probability and the
winner rate of Xu et al. 2022 ("Learning to Break the Loop", arXiv 2206.02369).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.forced import outputs
from elimtool.engine.records import columns_of
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.lenses.corpus import shipped
from elimtool.metrics.columns import Columns
from elimtool.model.scores import Question, scored
from elimtool.numerics.distributions import entropy
from elimtool.prompts.prompt import Message

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded

Ids = tuple[int, ...]
Values = npt.NDArray[np.float64]

INNER = (0.025, 0.975)
"""Quantiles of the controls between which 95 % of them are."""
CHARACTERS = 16
"""Characters of other text that are tokenised for each token that is wanted."""
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
WORD = re.compile(r"\s+(?=\w)")


@dataclass(frozen=True)
class RepeatedUnit:
    """The tokens that are repeated, and what stands around them.

    Attributes:
        before: What a text begins with, or the chat template up to the message.
        ids: The repeated tokens.
        after: The chat template behind the message; none in a plain text.
        text: The repeated text.
        template: Whether there is a chat template, so that the model replies.
    """

    before: Ids
    ids: Ids
    after: Ids
    text: str
    template: bool

    @staticmethod
    def of(model: Model, one: Encoded) -> RepeatedUnit:
        """Find the unit of a prompt: the whole text, or the last message of a chat.

        Raises:
            ElimError: The prompt ends in the beginning of an answer, or its message has no token of its own.
        """
        if one.n_prefill:
            raise ElimError("`repeat` cannot repeat a prompt that begins the answer", "leave `prefill` out")
        ids = one.token_ids[: len(one.token_ids) - one.n_appended - one.n_written]
        if not one.prompt.messages:
            own = model.tokenizer.encode(one.text, special=False).ids
            start = len(ids) - len(own)
            return RepeatedUnit(ids[:start], ids[start:], (), one.text, False)
        end = max((at for at in range(len(ids)) if at not in one.templated), default=-1) + 1
        start = end
        while start and start - 1 not in one.templated:
            start -= 1
        if start == end:
            raise ElimError("`repeat`: the message has no token of its own", "repeat a longer text")
        text = one.prompt.messages[-1].content
        return RepeatedUnit(ids[:start], ids[start:end], ids[end:], text, True)


def resonance(
    model: Model, one: Encoded, copies: int, controls: int, control_text: str, seed: int
) -> dict[str, Columns]:
    """Fill the table ``resonance`` for a prompt.

    Args:
        model: The model, without interventions.
        one: The prompt, whose text or last message is repeated token by token.
        copies: Copies in all, 2 or more; the last is only predicted.
        controls: Draws of other text in place of the copies.
        control_text: Another message, whose reply's first word is compared; for chats.
        seed: Seed of the draws.

    Raises:
        ElimError: The copies do not fit into the model's context, or the prompt cannot be repeated.
    """
    unit = RepeatedUnit.of(model, one)
    longest = len(unit.before) + copies * len(unit.ids) + len(unit.after)
    if model.context is not None and longest > model.context:
        raise ElimError(
            f"{copies:,} copies of {len(unit.ids):,} tokens outgrow the context of {model.context:,} tokens",
            "lower `repeat`",
        )
    own = list(_predicted(model, unit, copies))
    first = _first_copy(model, unit)
    others = _control_means(model, unit, copies, controls, seed)
    reply = _reply_rank(model, one, unit, control_text) if unit.template else None
    rows: Rows = [
        {
            "prompt_id": one.prompt_id,
            "in_chat": unit.template,
            "copies": number,
            "token_ids": list(unit.ids),
            **_told(unit, logprobs, first, others[number - 1]),
            "reply_control_rank": reply,
        }
        for number, logprobs in enumerate(own, 1)
    ]
    return {"resonance": columns_of(rows)}


def _predicted(model: Model, unit: RepeatedUnit, copies: int) -> Iterator[Float64[Tensor, "tokens vocab"]]:
    """Yield log-probabilities (nats) at every token of the next copy, after 1, 2, ... copies."""
    size = len(unit.ids)
    if not unit.template:
        (logits,) = outputs(model, unit.before + unit.ids, [unit.ids * (copies - 1)])
        for start in range(0, len(logits), size):
            yield logits[start : start + size].log_softmax(-1)
        return
    for number in range(1, copies):
        (logits,) = outputs(model, unit.before + unit.ids * number + unit.after, [unit.ids])
        yield logits.log_softmax(-1)


def _first_copy(model: Model, unit: RepeatedUnit) -> Values | None:
    """Probabilities of the first copy's tokens, NaN for one with nothing before it; none for a reply."""
    if unit.template:
        return None
    whole = unit.before + unit.ids
    begun = max(len(unit.before), 1)  # nothing predicts the first token of a text
    found = np.full(len(unit.ids), np.nan)
    if begun < len(whole):
        (logits,) = outputs(model, whole[:begun], [whole[begun:]])
        found[begun - len(whole) :] = _probs_of(logits.log_softmax(-1), whole[begun:])
    return found


def _probs_of(logprobs: Float64[Tensor, "tokens vocab"], ids: Sequence[int]) -> Values:
    found: Values = logprobs.gather(1, torch.tensor(ids)[:, None])[:, 0].exp().numpy()
    return found


def _told(
    unit: RepeatedUnit, logprobs: Float64[Tensor, "tokens vocab"], first: Values | None, others: Values
) -> Row:
    probs = _probs_of(logprobs, unit.ids)
    known = None if first is None else ~np.isnan(first)
    tp = float(probs.mean())
    start = logprobs[0]
    control = float(others.mean())
    low, high = np.quantile(others, INNER)
    return {
        "tp": tp,
        "tp_control": control,
        "tp_control_low": float(low),
        "tp_control_high": float(high),
        "ip": None
        if first is None or known is None or not known.any()
        else float((probs[known] > first[known]).mean()),
        "wr": float((logprobs.argmax(-1) == torch.tensor(unit.ids)).double().mean()),
        "first_rank": int((start > start[unit.ids[0]]).sum()) + 1,
        "first_prob": float(probs[0]),
        "entropy": float(entropy(logprobs[:1])[0]),
        "gain": _logit(tp) - _logit(control),
    }


def _logit(share: float) -> float:
    """Log-odds, of a share that rounding may have made 0 or 1."""
    near = min(max(share, 1e-300), 1.0 - 1e-16)
    return float(np.log(near) - np.log1p(-near))


def _control_means(model: Model, unit: RepeatedUnit, copies: int, controls: int, seed: int) -> Values:
    """Mean probability of the unit's tokens after 1, 2, ... other units, [copies - 1, controls]."""
    random = np.random.default_rng(seed)
    asked: list[Question] = []
    for _ in range(controls):
        text: Ids = unit.before
        for _ in range(copies - 1):
            text += _other(model, unit, random)
            asked.append(Question(text + unit.after, (unit.ids,)))
    found = []
    for answer in scored(model, asked):
        if isinstance(answer, Exception):
            raise answer
        found.append(float(np.exp(answer[unit.ids]).mean()))
    return np.array(found).reshape(controls, copies - 1).T


def _other(model: Model, unit: RepeatedUnit, random: np.random.Generator) -> Ids:
    """Draw as many tokens of other text, from the start of a sentence where the unit is one."""
    sentence = unit.text.rstrip().endswith((".", "!", "?"))
    size = len(unit.ids)
    documents = [one.text for one in shipped("fit")]
    while True:
        at = int(random.integers(len(documents)))
        text = documents[at]
        while len(text) < CHARACTERS * size:  # a unit may be longer than any document
            at = (at + 1) % len(documents)
            text += f"\n\n{documents[at]}"
        starts = [found.start() for found in (SENTENCE if sentence else WORD).finditer(text)]
        if not starts:
            continue
        start = starts[int(random.integers(len(starts)))]
        rest = text[start : start + CHARACTERS * size + CHARACTERS]
        ids = model.tokenizer.encode(rest if unit.text[:1].isspace() else rest.lstrip(), special=False).ids
        if len(ids) >= size:
            return tuple(ids[:size])


def _reply_rank(model: Model, one: Encoded, unit: RepeatedUnit, text: str) -> int:
    """Rank of the unit's first token as the first word of a reply to another message."""
    # a message of its own: what the template reads of the last one may say more than its content
    messages = (*one.prompt.messages[:-1], Message(one.prompt.messages[-1].role, text))
    other = model.encode(replace(one.prompt, messages=messages, targets=(), foils=(), spans=()))
    (logits,) = outputs(model, other.token_ids, [unit.ids[:1]])
    return int((logits[0] > logits[0, unit.ids[0]]).sum()) + 1

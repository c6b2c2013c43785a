"""Add up the texts of a grammar: how probable they are together, and which of them masking favours.

A mask renormalises at each step, ``q(t) / Z_i``; conditioning on the grammar would renormalise whole texts
once, by their sum Z (arXiv 2405.21047). Here the beginnings that the mask allows are read level by level, the
most probable ones; what is left out bounds Z from above, and where nothing is, all numbers are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, fsum, log
from typing import TYPE_CHECKING

import torch

from elimtool.engine.against import After, history
from elimtool.engine.paths import bare_prompt
from elimtool.engine.records import columns_of
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.metrics.columns import Columns
from elimtool.metrics.grammars import grammars_of
from elimtool.model.decode import TextTree
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.xtc import XTC

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WeighedText:
    """A text of a grammar, or a beginning of some.

    Attributes:
        tokens: Its tokens, the end among them if it is whole.
        given: Its log-probability in what the mask is given (nats).
        masked: Its log-probability through the mask (nats).
    """

    tokens: Ids = ()
    given: float = 0.0
    masked: float = 0.0

    def with_token(self, token: int, logprob: float, share: float) -> WeighedText:
        """Return it with one more token.

        Args:
            token: The token.
            logprob: Its log-probability in what the mask is given there (nats).
            share: Log-probability of all tokens that the mask allows there (nats).
        """
        return WeighedText((*self.tokens, token), self.given + logprob, self.masked + logprob - share)


@dataclass
class WholeTexts:
    """What was found of the texts of a grammar.

    Attributes:
        texts: The whole ones.
        left: Sums of probabilities of beginnings that were not followed.
        n_read: Beginnings that the model was read after.
        exact: Whether there are no such beginnings.
    """

    texts: list[WeighedText] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    n_read: int = 0
    exact: bool = True

    @property
    def least(self) -> float:
        """Sum of the probabilities of the texts that were found."""
        return fsum(exp(one.given) for one in self.texts)

    @property
    def log_mass(self) -> float | None:
        """Natural logarithm of Z; ``None`` where it is not exact, or there is no text."""
        return log(self.least) if self.exact and self.least > 0 else None

    @property
    def divergence(self) -> float | None:
        """KL(masked || conditioned) in nats; ``None`` where it is not exact, or there is no text."""
        if (whole := self.log_mass) is None:
            return None
        return max(0.0, fsum(exp(one.masked) * (one.masked - one.given + whole) for one in self.texts))


def whole_texts(
    model: Model,
    prompt: Ids,
    chain: Chain,
    index: int,
    width: int,
    longest: int,
    against: After | None = None,
) -> WholeTexts:
    """Follow the texts that a grammar allows after a prompt.

    Args:
        model: The model, without interventions.
        prompt: Its tokens.
        chain: The chain.
        index: Place of the grammar in it; the stages before make what the mask is given.
        width: Beginnings of one length that are followed at most, the most probable ones.
        longest: Tokens of a text at most, its end among them.
        against: Reads other logits, for stages that combine some.

    Raises:
        ElimError: The texts outgrow the model's context, or the model cannot branch.
    """
    head, grammar = replace(chain, stages=chain.stages[:index]), chain.stages[index]
    assert isinstance(grammar, Grammar)
    ends = torch.tensor(() if grammar.matcher is None else grammar.matcher.ends, dtype=torch.int64)
    tree, found = TextTree(model, prompt), WholeTexts()
    begun = [WeighedText()]
    for length in range(1, longest + 1):
        logits = tree.read([one.tokens for one in begun])
        found.n_read += len(begun)
        past = [history(prompt, one.tokens, against) for one in begun]
        given = head.run(logits, torch.full((len(begun), 1), -1), histories=past).final.double()
        given = given.log_softmax(-1)
        allowed = torch.stack([torch.from_numpy(grammar.at(one.tokens).allowed) for one in begun])
        kept = given.masked_fill(~allowed[:, : given.shape[1]], NEG_INF)
        share = kept.logsumexp(-1)  # ln Z_i of each step
        so_far = torch.tensor([one.given for one in begun], dtype=torch.float64)

        for row, column in (kept[:, ends] > NEG_INF).nonzero().tolist():
            token = int(ends[column])
            found.texts.append(begun[row].with_token(token, float(kept[row, token]), float(share[row])))
        open_ = (kept + so_far[:, None]).index_fill(-1, ends, NEG_INF).flatten()
        best = open_.topk(min(width if length < longest else 0, len(open_)))
        chosen = best.indices[best.values > NEG_INF]
        begun = [
            begun[row].with_token(token, float(kept[row, token]), float(share[row]))
            for row, token in (divmod(place, kept.shape[1]) for place in chosen.tolist())
        ]
        open_[chosen] = NEG_INF
        found.exact = found.exact and not bool((open_ > NEG_INF).any())
        found.left.append(float(open_.exp().sum()))
        if not begun:
            break
    return found


def masking(chains: Sequence[Chain]) -> Iterator[tuple[Chain, int, Grammar]]:
    """Iterate over the grammars of chains that mask what they are given.

    Raises:
        ElimError: Before one stands a stage that acts by chance or by what it remembers.
    """
    for chain in chains:
        for index, stage in grammars_of(chain):
            if stage.mode != "mask":
                continue
            for one in chain.stages[:index]:
                if not one.is_off() and (isinstance(one, XTC) or one.start(1) is not None):
                    raise ElimError(
                        f"`grammar_texts`: before the grammar of '{chain.name}' stands {one.name}, which"
                        " acts by chance or by what it remembers",
                        "put it after the grammar",
                    )
            yield chain, index, stage


def grammar_text_tables(
    model: Model,
    one: Encoded,
    chains: Sequence[Chain],
    width: int,
    longest: int,
    against: After | None = None,
) -> Mapping[str, Columns]:
    """Fill the tables ``grammar_whole`` and ``grammar_texts`` for one prompt.

    Args:
        model: The model, without interventions.
        one: The prompt.
        chains: The chains.
        width: Beginnings of one length that are followed at most, and texts that are listed.
        longest: Tokens of a text at most, its end among them.
        against: Reads other logits, for stages that combine some.

    Raises:
        ElimError: As for ``whole_texts`` and ``masking``.
    """
    prompt = bare_prompt(one).token_ids
    wholes: Rows = []
    listed: Rows = []
    for chain, index, stage in masking(chains):
        found = whole_texts(model, prompt, chain, index, width, longest, against)
        key: Row = {
            "prompt_id": one.prompt_id,
            "chain": chain.name,
            "stage_index": index,
            "stage": stage.name,
        }
        wholes.append(
            {
                **key,
                "engine": stage.engine,
                "syntax": stage.syntax,
                "n_texts": len(found.texts),
                "n_read": found.n_read,
                "exact": found.exact,
                "mass_least": min(1.0, found.least),
                "mass_most": min(1.0, fsum([found.least, *found.left])),
                "log_mass": found.log_mass,
                "divergence": found.divergence,
            }
        )
        best = sorted(found.texts, key=lambda text: (-text.given, text.tokens))[:width]
        for place, text in enumerate(best, start=1):
            spelled = b"".join(map(model.tokenizer.spell, text.tokens[:-1]))
            listed.append(
                {
                    **key,
                    "place": place,
                    "text": spelled.decode("utf-8", "backslashreplace"),
                    "token_ids": list(text.tokens),
                    "n_tokens": len(text.tokens),
                    "logprob": text.given,
                    "masked_logprob": text.masked,
                    "favoured": None if found.log_mass is None else text.masked - text.given + found.log_mass,
                }
            )
    filled = {"grammar_whole": wholes, "grammar_texts": listed}
    return {name: columns_of(rows) for name, rows in filled.items() if rows}

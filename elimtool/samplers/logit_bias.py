"""Logit bias: add constants to the logits of chosen tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from elimtool.errors import ElimError
from elimtool.numerics.transfer import sent
from elimtool.samplers.ban import Banned, Rule
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.stage import Context, Effect, Fate, Role, Stage
from elimtool.samplers.vocabulary import Vocabulary


@dataclass(frozen=True)
class LogitBias(Stage):
    """Adds a constant to the logits of chosen tokens; a bias of -inf bans a token.

    Formula: ``l_i + bias_i``. Unit: logit. Off: no biases.

    Attributes:
        bias: Pairs of token id and bias; ``false`` is -inf (llama-server). In place of an id a text may
            stand, each token of which gets the bias once the chain is given the vocabulary (llama-server).
        bans: Token ids whose bias is -inf (custom_token_bans of KoboldCpp, where ``clamp`` makes it -100).
        ends: Whether the tokens that end a text are among them (llama.cpp's ignore_eos).
        eos: These tokens; ``null`` = the model's own, once the chain is given them.
        clamp: A bias is cut to this size (vLLM's server: 100, so that -inf bans no token there); ``None`` =
            no limit.
        unknown: What an id outside the vocabulary is: an ``error`` (vLLM, SGLang), or ``ignored``
            (llama.cpp).
        texts: Whether a text in place of an id is ``spelled`` (llama-server), ``refused`` (vLLM, SGLang) or
            ``ignored`` (KoboldCpp).
    """

    kind: ClassVar[str] = "logit_bias"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "bias"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"bias": (), "bans": (), "ends": False}
    sources: ClassVar[tuple[str, ...]] = (
        "llama.cpp src/llama-sampler.cpp llama_sampler_logit_bias",
        "vLLM vllm/sampling_params.py SamplingParams.from_optional, _validate_logit_bias",
        "SGLang srt/sampling/sampling_params.py SamplingParams.verify",
    )
    on_device: ClassVar[bool] = True

    bias: tuple[tuple[int | str, float], ...] = ()
    bans: tuple[int, ...] = ()
    ends: bool = False
    eos: tuple[int, ...] | None = None
    clamp: float | None = None
    unknown: Literal["error", "ignored"] = "error"
    texts: Literal["spelled", "refused", "ignored"] = "spelled"

    def __post_init__(self) -> None:
        for pair in self.bias:
            good = isinstance(pair, tuple) and len(pair) == 2 and _names_tokens(pair[0])
            number = good and isinstance(pair[1], int | float) and pair[1] is not True
            if not number or not pair[1] < float("inf"):
                raise self.bad("bias", "pairs of a token id (or a text) and a number, -inf or false")
            if isinstance(pair[0], str) and self.texts == "refused":
                raise ElimError(f"{self.name}: {pair[0]!r} is no token id", "the engine takes ids alone")
        if not all(isinstance(token, int) and token >= 0 for token in self.bans):
            raise self.bad("bans", "a list of token ids")
        self.boolean("ends")
        self.one_of("texts", ("spelled", "refused", "ignored"))
        if self.clamp is not None:
            self.number("clamp", 0, float("inf"))
        self.one_of("unknown", ("error", "ignored"))

    @property
    def effective(self) -> tuple[tuple[int, float], ...]:
        """The biases that are added: cut to ``clamp``."""
        most = float("inf") if self.clamp is None else self.clamp
        return tuple((token, max(-most, min(most, value))) for token, value in self.given)

    @property
    def given(self) -> tuple[tuple[int, float], ...]:
        """The biases of tokens as they were asked for, those of bans too."""
        banned = (*self.bans, *((self.eos or ()) if self.ends else ()))
        pairs = ((token, NEG_INF if value is False else float(value)) for token, value in self.bias)
        ids = tuple((token, value) for token, value in pairs if isinstance(token, int))
        return (*ids, *((token, NEG_INF) for token in banned))

    @property
    def wants_text(self) -> bool:
        """Whether texts have to be spelled."""
        return self.texts == "spelled" and any(isinstance(token, str) for token, _ in self.bias)

    def spelled(self, vocabulary: Vocabulary, /) -> LogitBias:
        """Give each token of a text the bias of the text."""
        if vocabulary.encode is None or not self.wants_text:
            return self
        pairs: list[tuple[int | str, float]] = []
        for token, value in self.bias:
            ids = vocabulary.encode(token) if isinstance(token, str) else (token,)
            pairs += [(each, value) for each in ids]
        return replace(self, bias=tuple(pairs))

    def check_vocabulary(self, vocab: int) -> None:
        """Refuse ids that the vocabulary lacks, where the engine does.

        Raises:
            ElimError: A bias is for a token that does not exist.
        """
        lost = [token for token, _ in self.given if token >= vocab]
        if lost and self.unknown == "error":
            raise ElimError(
                f"{self.name}: token id {lost[0]} is not in the vocabulary", f"ids go from 0 to {vocab - 1}"
            )

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Add the biases."""
        self.check_vocabulary(c.vocab)
        table = torch.zeros(c.vocab, dtype=c.scores.dtype)
        for token, value in self.effective:
            if token < c.vocab:
                table[token] += value
        effective = self.effective
        asked = zip(self.given, effective, strict=True)
        cut = [token for (token, wanted), (_, value) in asked if wanted != value]
        notes = (
            [f"the bias of token {cut[0]} is cut to {self.clamp:g} in size, as the engine does"]
            if cut
            else []
        )
        notes += ["texts do not act: the chain was given no vocabulary"] * self.wants_text
        banned = Banned(frozenset(token for token, value in effective if value == NEG_INF), _rule)
        rules = (banned,) * len(c.n) if banned else ()
        biases = sent(table, c.scores.device)
        biases = biases if c.tokens is None else biases[c.tokens]
        return Effect(c, scores=c.scores + biases, notes=tuple(notes), rules=rules)

    def why(self, _: Fate, /) -> str:
        """Explain: the token is banned."""
        return "banned: its logit bias is -inf"


def _names_tokens(one: object) -> bool:
    return one != "" if isinstance(one, str) else isinstance(one, int) and one >= 0


def _rule(token: int) -> Rule:
    return Rule("the logit bias of {} is -inf", (token,))

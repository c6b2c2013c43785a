"""The thinking budget: against vLLM's account of markers, step by step, and by hand."""

from __future__ import annotations

import random

import torch

from elimtool.samplers import STAGES, Chain, History, resolve
from elimtool.samplers.thinking_budget import ThinkingBudget
from elimtool.samplers.vocabulary import Vocabulary

START, END, FORCED = (1, 2), (3, 2), (4, 3, 2)


class Engine:
    """vLLM's kernels: what was found of the markers is kept, and a step reads only the tokens since then."""

    def __init__(self, budget: int) -> None:
        self.budget, self.text = budget, list[int]()
        self.start = self.end = -1
        self.scanned = 0

    def accept(self, token: int) -> None:
        self.text.append(token)
        for at in range(self.scanned, len(self.text)):
            if tuple(self.text[at : at + 2]) == START:
                self.start = at
            if tuple(self.text[at : at + 2]) == END:
                self.end = at
        self.scanned = max(0, len(self.text) - 1)

    def forced(self) -> int | None:
        if self.start < 0 or self.start <= self.end or len(self.text) - self.start - 2 < self.budget:
            return None
        found = 0
        for size in (1, 2):
            if tuple(self.text[-size:]) == FORCED[:size]:
                found = size
        return FORCED[found]


def stage(budget: int) -> ThinkingBudget:
    return ThinkingBudget(budget, ids=(START, END, FORCED))


def test_it_keeps_account_as_vllm_does() -> None:
    chance = random.Random(5)
    forced = 0
    for trial in range(600):
        own, engine = stage(trial % 5), Engine(trial % 5)
        text: tuple[int, ...] = ()
        for _ in range(40):
            wanted = engine.forced()
            assert own.required(text) == wanted, (trial % 5, text)
            forced += wanted is not None
            obeys = wanted is not None and chance.random() < 0.8  # engines force; a given text need not obey
            token = wanted if obeys and wanted is not None else chance.choice((1, 2, 1, 2, 3, 0, 4, 7, 8, 9))
            engine.accept(token)
            text = (*text, token)
    assert forced > 2000


def test_a_block_that_was_opened_again_begins_anew() -> None:
    own = stage(3)
    assert own.required((*START, 7, 7, 7)) == 4 and own.required((*START, 7, 7, 7, *START, 7)) is None
    assert own.required((*START, 7, *END, 7, 7, 7)) is None and own.required((7,) * 9) is None
    assert own.required((*START, 7, 7, 4)) == 3, "it goes on where the text has begun the end by itself"


def test_the_end_comes_back_where_it_was_banned_and_nothing_else_is_drawn() -> None:
    banned = STAGES["suppress"](tokens=(4, 5))
    logits = torch.zeros(1, 10)
    logits[0, 0] = 3.0  # the model would never stop thinking
    targets = torch.tensor([[0, 4, 5]])
    text: list[int] = []
    chain = Chain("one", stages=(banned, stage(2), STAGES["temperature"](0.7)))
    for _ in range(6):
        history = History((9, 1, 2), tuple(text))
        ledger = chain.run(logits, targets, [history])
        probs = ledger.probs()
        entry = ledger.records[1]
        if 2 <= len(text) < 5:
            assert float(probs.max()) == 1 and int(probs.count_nonzero()) == 1
            survive = [
                True,
                len(text) == 2,
                False,
            ]  # the others keep their logits, and what is banned stays so
            assert entry.alive_after.tolist() == [survive]
            assert [str(one) for one in entry.details(0).values()] == [
                f"'{FORCED[len(text) - 2]}' is required: the reasoning has used up its 2 tokens"
            ]
        else:
            assert not entry.active.any() and entry.alive_after.tolist() == [[True, False, False]]
        text.append(int(probs.argmax()))
    assert text == [0, 0, 4, 3, 2, 0]


def test_texts_become_tokens() -> None:
    encode = {"<think>": (1, 2), "</think>": (3,), "enough</think>": (4, 3)}
    (own,) = resolve("thinking_budget=5,thinking_budget.message=enough").stages
    assert isinstance(own, ThinkingBudget) and own.wants_text and own.required((1, 2)) is None
    spelled = own.spelled(Vocabulary(list("abcde"), lambda text: encode[text]))
    assert isinstance(spelled, ThinkingBudget) and spelled.ids == ((1, 2), (3,), (4, 3))
    assert not spelled.wants_text


def test_vllm_has_it_after_bans_and_penalties_and_before_the_temperature() -> None:
    for preset in ("vllm", "vllm-gpu"):
        kinds = [one.kind for one in resolve(f"{preset}:thinking_budget=512,bad_words=[[5]]").stages]
        at = kinds.index("thinking_budget")
        assert at > max(kinds.index("penalties"), kinds.index("bad_words")), preset
        assert kinds[at + 1] == "temperature", preset
        assert "thinking_budget" not in [one.kind for one in resolve(preset).stages], "unless it is asked for"

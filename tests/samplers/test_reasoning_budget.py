"""The reasoning budget: against llama.cpp's own accounting, step by step, and by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from elimtool.samplers import STAGES, Chain, History, resolve
from elimtool.samplers.reasoning_budget import ReasoningBudget, complete
from elimtool.samplers.vocabulary import Vocabulary

NOBODY = torch.full((1, 1), -1)
PIECES = ["a", "<", ">", "/", "b", "\\xe2", "\\x82", "\\xac", "é", "c"]
START, END, FORCED = (1, 2), (3, 2), (4, 3, 2)


class Engine:
    """common_reasoning_budget_accept and _apply: a state that each token changes."""

    def __init__(self, budget: int, inside: bool) -> None:
        self.budget = self.left = budget
        self.at = {"start": 0, "end": 0}
        self.place = 0
        self.state = "IDLE" if not inside else "COUNTING" if budget > 0 else "FORCING"

    def advance(self, name: str, tokens: tuple[int, ...], token: int) -> bool:
        if token == tokens[self.at[name]]:
            self.at[name] += 1
            if self.at[name] >= len(tokens):
                self.at[name] = 0
                return True
        else:
            self.at[name] = 1 if token == tokens[0] else 0
        return False

    def force(self) -> None:
        self.state, self.place, self.at["end"] = "FORCING", 0, 0

    def accept(self, token: int) -> None:
        {
            "IDLE": self.outside,
            "DONE": self.outside,
            "FORCING": self.forcing,
            "COUNTING": self.counting,
            "WAITING": self.waiting,
        }[self.state](token)

    def outside(self, token: int) -> None:
        if self.advance("start", START, token):
            self.state, self.left = "COUNTING", self.budget
            self.at["end"] = 0
            if self.left <= 0:
                self.force()

    def forcing(self, _: int) -> None:
        self.place += 1
        if self.place >= len(FORCED):
            self.state = "DONE"

    def waiting(self, token: int) -> None:
        if self.advance("end", END, token):
            self.state = "DONE"
        elif token not in (5, 6, 7):  # a byte alone is no whole character
            self.force()

    def counting(self, token: int) -> None:
        if self.advance("end", END, token):
            self.state = "DONE"
            return
        self.left -= 1
        if self.left <= 0 and token not in (5, 6, 7):
            self.force()
        elif self.left <= 0:
            self.state, self.at["end"] = "WAITING", 0

    def forced(self) -> int | None:
        return FORCED[self.place] if self.state == "FORCING" else None


def stage(budget: int, inside: bool = False) -> ReasoningBudget:
    return ReasoningBudget(budget, inside=inside, ids=(START, END, FORCED), pieces=PIECES)


def test_it_keeps_account_as_llama_cpp_does() -> None:
    chance = random.Random(5)
    forced = 0
    for trial in range(600):
        budget, inside = trial % 5, trial % 7 == 0
        own, engine = stage(budget, inside), Engine(budget, inside)
        text: tuple[int, ...] = ()
        for _ in range(40):
            wanted = engine.forced()
            assert own.required(text) == wanted, (budget, inside, text)
            forced += wanted is not None
            obeys = wanted is not None and chance.random() < 0.8  # engines force; a given text need not obey
            token = wanted if obeys and wanted is not None else chance.choice((1, 2, 1, 2, 3, 0, 5, 7, 8, 9))
            engine.accept(token)
            text = (*text, token)
    assert forced > 2000


def test_a_budget_ends_the_block_token_by_token() -> None:
    chain = Chain("one", stages=(stage(2), STAGES["greedy"]()))
    text: list[int] = []
    logits = torch.zeros(1, 10)
    logits[0, 0] = 3.0  # the model would never stop thinking
    for _ in range(6):
        ledger = chain.run(logits, NOBODY, [History((9, 1, 2), tuple(text))])
        text.append(int(ledger.probs().argmax()))
    assert text == [0, 0, 4, 3, 2, 0]
    entry = chain.run(logits, torch.tensor([[0, 4]]), [History((9, 1, 2), (0, 0))]).records[0]
    assert entry.n_after == 1 and entry.alive_after.tolist() == [[False, True]]
    assert "displaced: the reasoning has used up its 2 tokens" in entry.why_target(0)
    assert [str(one) for one in entry.details(0).values()] == [
        "'4' is required: the reasoning has used up its 2 tokens"
    ]


def test_texts_become_tokens_and_whole_characters_are_told() -> None:
    encode = {"<think>": (1, 2), "</think>": (3,), "enough</think>": (4, 3)}
    (own,) = resolve("reasoning_budget=5,reasoning_budget.message=enough").stages
    assert isinstance(own, ReasoningBudget) and own.wants_text
    spelled = own.spelled(Vocabulary(PIECES, lambda text: encode[text]))
    assert spelled.ids == ((1, 2), (3,), (4, 3)) and not spelled.wants_text
    assert replace(spelled, tokens=0).required((1, 2)) == 4 and own.required((1, 2)) is None
    assert [complete(piece) for piece in PIECES] == [True] * 5 + [False] * 3 + [True] * 2
    assert complete("\\xe2\\x82\\xac") and not complete("a\\xe2\\x82") and complete("")


def test_llama_cpp_has_it_before_all_else() -> None:
    stages = resolve("llama.cpp:reasoning_budget=512").stages
    assert stages[0] == ReasoningBudget(512) and "reasoning_budget" not in [
        one.kind for one in resolve("llama.cpp").stages
    ]

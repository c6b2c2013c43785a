"""The prompts on which outcomes and regimes are counted: facts with answer and foil, chats, functions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from elimtool import Prompt
from elimtool.prompts.file import PromptFile

DATA = Path(__file__).parents[1] / "data"
FACTS = DATA.parents[1] / "configs" / "suites" / "facts.jsonl"


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    found = [record.prompt for record in PromptFile(FACTS).records()]
    assert all(isinstance(one, Prompt) for one in found)
    return [one for one in found if isinstance(one, Prompt)]


def test_two_hundred_of_many_kinds_and_no_two_alike(prompts: list[Prompt]) -> None:
    assert len(prompts) == 200
    assert len({one.id for one in prompts}) == len({one.text for one in prompts}) == 200
    categories = Counter(one.category for one in prompts)
    assert len(categories) >= 12 and max(categories.values()) <= 20


def test_each_has_one_answer_and_one_foil(prompts: list[Prompt]) -> None:
    for one in prompts:
        assert one.text and one.text == one.text.strip()
        assert len(one.targets) == len(one.foils) == 1
        assert one.targets != one.foils


@pytest.mark.smollm2
def test_their_first_tokens_differ_under_smollm2(smollm2: Any, prompts: list[Prompt]) -> None:
    for one in prompts:
        encoded = smollm2.encode(one)
        answer, foil = encoded.targets
        assert answer.token_id != foil.token_id, one.id
        assert not answer.ambiguous and not encoded.n_appended, one.id
        assert answer.text.strip() == one.targets[0]


@pytest.mark.parametrize(("name", "count", "answered"), [("chats", 100, 30), ("functions", 50, 50)])
def test_chats_and_functions_are_usable_and_no_two_are_alike(name: str, count: int, answered: int) -> None:
    found = [record.prompt for record in PromptFile(DATA / f"{name}.jsonl").records()]
    prompts = [one for one in found if isinstance(one, Prompt)]
    assert len(prompts) == len(found) == count
    assert len({one.id for one in prompts}) == len({(one.text, one.messages) for one in prompts}) == count
    assert sum(len(one.targets) == 1 for one in prompts) >= answered
    for one in prompts:
        assert bool(one.messages) == (name == "chats") and (one.text or "").strip() == (one.text or "")
        assert not one.messages or one.messages[-1].role == "user"

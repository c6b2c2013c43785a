"""The spelling of targets, against log-probabilities of transformers' own forward pass, and in batches."""

from __future__ import annotations

from math import isnan
from typing import Any

import pytest
import torch

from elimtool.model.scores import Question, scored
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt

CASES = [
    ("2 + 2 =", "4", " 4"),  # digits after a symbol
    ("2 + 2 =", " 4", " 4"),
    ("x = [1, 2,", "3", " 3"),
    ("The price is", "$5", " $5"),  # currency
    ("The price is $", "5", "5"),
    ("He said (", "yes", "yes"),  # brackets
    ("print", "(", " ("),
    ("The capital of Japan →", "Tokyo", " Tokyo"),
    ("Answer:", "Paris", " Paris"),
    ("The sentence ends here", ".", "."),
    ("Answer:\n", "Paris", "Paris"),  # after a newline
    ("Answer: ", "4", "4"),  # after a blank
    ("def f(x):", "\n", "\n"),  # white space itself
    ("def f(x):", " ", " "),
    ("日本の首都は", "東京", "東京"),  # no spaces in the script
    ("The capital of Japan in Japanese is", "東京", " 東京"),
    ("עיר הבירה של ישראל היא", "ירושלים", " ירושלים"),  # right to left
    ("عاصمة فرنسا هي", "باريس", " باريس"),
    ("The capital of France is", "Paris", " Paris"),
]


def _theirs(hf: Any, ids: tuple[int, ...], count: int) -> float:
    """Log-probability of the last ``count`` ids by transformers' own forward pass."""
    with torch.no_grad():
        logits = hf(torch.tensor([ids])).logits[0, -count - 1 : -1].double()
    return float(torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids[-count:])[:, None]).sum())


@pytest.fixture(scope="module")
def hf(smollm2: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(smollm2.directory, dtype=torch.float32).eval()


@pytest.mark.smollm2
@pytest.mark.parametrize(("text", "target", "spelling"), CASES)
def test_the_likelier_spelling_is_the_one_of_transformers(
    smollm2: Any, hf: Any, text: str, target: str, spelling: str
) -> None:
    one = smollm2.encode(Prompt(text=text, targets=(target,)))
    (found,) = one.targets
    assert found.spelling == spelling
    prompt = smollm2.tokenizer.encode(text).ids
    spellings = [found.spelling, *([found.other_spelling] if found.other_spelling else [])]
    ids = [smollm2.tokenizer.continuation(text, each, special=True) for each in spellings]
    theirs = [_theirs(hf, prompt + each, len(each)) for each in ids]
    assert theirs[0] == max(theirs)
    if found.other_spelling is not None:
        assert found.other_logprob == pytest.approx(theirs[1], abs=2e-3)
    blank = [not text.strip() for text in smollm2.tokenizer.texts(ids[0])]
    stepped = blank.index(False) if False in blank else 0
    assert one.token_ids == prompt + ids[0][:stepped] and found.token_ids == ids[0][stepped:]
    if stepped:
        assert one.appended_logprob == pytest.approx(
            _theirs(hf, prompt + ids[0][:stepped], stepped), abs=2e-3
        )
    else:
        assert one.n_appended == 0 and isnan(one.appended_logprob)


TEXTS = ["2 + 2 =", "A token of (", "The capital of France:", "a", "The text is $", "x" * 60 + "→"]


def _facts(one: Encoded) -> Any:
    return one.token_ids, [
        (target.spelling, target.token_ids, target.other_spelling) for target in one.targets
    ]


@pytest.mark.parametrize("position", ["last", "all"])
def test_prompts_together_are_spelled_as_each_alone(llama: Any, position: str) -> None:
    prompts = [Prompt(text=text, targets=("4", "Paris"), foils=("$",)) for text in TEXTS] * 7
    prompts += [Prompt(text=text, targets=("Paris",)) for text in TEXTS]
    together = llama.encode_all(prompts, position)
    for prompt, found in zip(prompts, together, strict=True):
        alone = llama.encode(prompt, position=position)
        assert isinstance(found, Encoded) and _facts(found) == _facts(alone)
        assert found.appended_logprob == pytest.approx(alone.appended_logprob, abs=1e-4, nan_ok=True)
        for mine, other in zip(found.targets, alone.targets, strict=True):
            assert mine.other_logprob == pytest.approx(other.other_logprob, abs=1e-4, nan_ok=True)


def test_one_prompt_that_cannot_be_used_leaves_the_others(llama: Any) -> None:
    fine = Prompt(text="2 + 2 =", targets=("4",))
    found = llama.encode_all([fine, Prompt(text="too long " * 500, targets=("4",)), fine])
    assert [isinstance(one, Encoded) for one in found] == [True, False, True]
    assert "context" in str(found[1])


class Alone:
    """A model that fails on rows side by side, and runs each alone."""

    def __init__(self, model: Any) -> None:
        self.model, self.device, self.readout, self.vocab = model, model.device, model.readout, model.vocab

    def stream(self, batch: Any, *more: Any) -> None:
        if len(batch.encoded) > 1:
            raise IndexError("padding")
        self.model.stream(batch, *more)


def test_an_error_of_rows_together_alone_is_told(llama: Any) -> None:
    questions, told = [Question((5, 6, 7), ((8, 9),)), Question((6, 7), ((8,),))], []
    found = scored(Alone(llama), questions, told.append)  # type: ignore[arg-type]
    assert [str(error) for error in told] == ["padding"]
    for one, truth in zip(found, scored(llama, questions, told.append), strict=True):
        assert isinstance(one, dict) and isinstance(truth, dict)
        for ids in truth:
            assert one[ids] == pytest.approx(truth[ids], abs=1e-5)
    assert len(told) == 1

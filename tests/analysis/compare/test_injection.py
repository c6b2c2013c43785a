"""What is said of an edit: whether the output changed, and by more than any edit changes it."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.analysis.compare.injection import OutputChange, verdict_of

PAIR: dict[str, Any] = {
    "text_a": "a",
    "text_b": "a b",
    "top_token_a": " Paris",
    "top_token_b": " Paris",
    "top_prob_a": 0.77,
    "top_prob_b": 0.7,
    "output_changed": False,
    "js_output": 0.1,
    "continuation_a": None,
    "continuation_b": None,
}
CHANGED = {"output_changed": True, "top_token_b": " no"}
WRITTEN = {"continuation_a": "x", "continuation_b": "y"}


@pytest.mark.parametrize(
    ("changes", "band", "said"),
    [
        ({}, 0.2, "No injection happened: the next token is the same, ' Paris' (p = 0.77)"),
        ({}, 0.2, "no further than such edits move it (JS 0.1 bits; 95% of edits of its size"),
        ({}, 0.05, "further than such edits move it"),
        ({}, None, "No injection happened"),
        (CHANGED, 0.2, "nothing says that the injected text did it"),
        (CHANGED, 0.05, "moved further than other edits move it"),
        (CHANGED, None, "too few controls"),
        (WRITTEN, 0.05, "but what the model writes on is not"),
        ({"text_b": "a"}, None, "Nothing differs: the prompts are the same."),
    ],
)
def test_the_sentence_is_of_the_case(changes: dict[str, Any], band: float | None, said: str) -> None:
    told = verdict_of(OutputChange({**PAIR, **changes}, band), injected=True)
    assert said in told
    assert ("No injection happened" in told) == (not changes)


def test_an_edit_that_is_no_injection_is_not_called_one() -> None:
    for changes in ({}, CHANGED, WRITTEN):
        for band in (0.05, 0.2, None):
            assert "inject" not in verdict_of(OutputChange({**PAIR, **changes}, band), injected=False)

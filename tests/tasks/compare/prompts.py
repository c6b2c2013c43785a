"""Two prompts as a tiny model sees them."""

from __future__ import annotations

from typing import Any

from elimtool.analysis.compare.align import Alignment, align
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt

PAIRS = [
    ("The capital of France is", "The capital of Spain is"),
    ("The capital of France is", "The old capital of the France is"),
    ("The capital of the France is", "The capital is"),
    ("A token of the text", "Zürich, 東京"),
    ("The capital of France is", "The capital of France is Paris"),
]


def both(model: Any, a: str, b: str) -> tuple[Encoded, Encoded]:
    return model.encode(Prompt(text=a)), model.encode(Prompt(text=b))


def aligned(a: Encoded, b: Encoded) -> Alignment:
    return align(a.tokens, b.tokens, (a.token_ids, b.token_ids))

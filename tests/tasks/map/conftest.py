"""Maps of the tiny Llama over a few passages of random words."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.run.analysis import Analysis

WORDS = ["the", "capital", "of", "France", "token", "text", "12", "Mr.", "Berlin", "and", "is", "kept."]


def write_corpus(path: Path, count: int = 14, words: int = 40) -> Path:
    """Passages of random words, alike on every call."""
    chance = random.Random(5)
    lines = [{"text": " ".join(chance.choices(WORDS, k=words)), "source": "made up"} for _ in range(count)]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "text.jsonl")


@pytest.fixture(scope="session")
def map_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ``mapped`` is kept."""
    return tmp_path_factory.mktemp("mapped") / "map"


@pytest.fixture(scope="session")
def mapped(llama: Any, corpus: Path, map_directory: Path) -> Analysis:
    """The whole map of the tiny Llama."""
    return elimtool.map_model(llama, out=map_directory, corpus=corpus, tokens=64)

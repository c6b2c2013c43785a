"""What ``scripts/bench_peers.py`` times: one question, which every library that is at hand answers alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts import bench_peers


@pytest.fixture(scope="module")
def asked(llama: Any, llama_directory: Path) -> bench_peers.Asked:
    text = "The capital of France is"
    ids = llama.tokenizer.encode(text, special=False).ids
    target = llama.tokenizer.encode("x", special=False).ids[0]
    return bench_peers.Asked(str(llama_directory), text, list(ids), target, "x", 1)


@pytest.fixture(scope="module")
def truth(asked: bench_peers.Asked) -> bench_peers.Answer:
    return bench_peers.plain(asked)()


@pytest.mark.parametrize("name", ["elimtool", "elimtool, every table", "TransformerLens"])
def test_each_library_gives_the_answers_of_plain_transformers(
    name: str, asked: bench_peers.Asked, truth: bench_peers.Answer
) -> None:
    answer = bench_peers.WORK[name](asked)()
    assert bench_peers.differences(answer, truth) == []
    assert {"ranks", "left"} <= answer.keys()


def test_a_wrong_answer_is_told(truth: bench_peers.Answer) -> None:
    ranks, attention = [*truth["ranks"]], [[*row] for row in truth["attention"]]
    ranks[0] += 1
    attention[-1][0] += 0.01
    wrong = {**truth, "ranks": ranks, "attention": attention}
    assert bench_peers.differences(wrong, truth) == ["ranks", "attention"]


def test_what_cannot_be_installed_is_left_out_with_its_reason(
    asked: bench_peers.Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(_package: str, _folder: Path) -> Path:
        raise RuntimeError("pip: no such package")

    monkeypatch.setattr(bench_peers, "environment", refused)
    rows = bench_peers.measure(asked, ["transformers", "nnsight"], tmp_path, 1)
    assert [row[1].split()[0] for row in rows] == ["transformers", "nnsight"]
    assert rows[0][2:4] == ["1.00", "1.00"] and rows[1][2] == "pip: no such package"

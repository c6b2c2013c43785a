"""Prompts that are asked several times: each with a seed of its own, texts that are scored once."""

from __future__ import annotations

from pathlib import Path

import pytest

from elimtool.errors import ElimError
from elimtool.prompts.prompt import Prompt
from elimtool.suites.read import open_prompts
from elimtool.suites.seeds import seeded, with_seeds


def test_each_record_is_repeated_and_says_its_seed(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"id": "a", "prompt": "x"}\n{"prompt": "y", "scored": "no-prefix"}\n{"prompt": "z"}\n')
    opened, _ = open_prompts(file, seeds=2)
    with opened:
        found = [one.prompt for one in opened.records()]
    asked = [(one.id, one.design.seed) for one in found if isinstance(one, Prompt)]
    assert asked == [("a/seed 0", 0), ("a/seed 1", 1), (None, None), ("3/seed 0", 0), ("3/seed 1", 1)]
    assert seeded(found[0], 2)[1].id == "a/seed 0/seed 1" if isinstance(found[0], Prompt) else False
    assert len({str(one.said()) for one in found if isinstance(one, Prompt)}) == 5


def test_seeds_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ElimError, match="`seeds` must be 2 or more, got 1"):
        list(with_seeds([{"prompt": "x"}], 1))
    with pytest.raises(ElimError, match="record 'a' has a seed of its own"):
        list(with_seeds([{"id": "a", "prompt": "x", "seed": 4}], 2))
    (tmp_path / "p.txt").write_text("x\n")
    with pytest.raises(ElimError, match="is neither a suite nor JSON lines"):
        open_prompts(tmp_path / "p.txt", seeds=2)


@pytest.mark.parametrize(
    ("name", "content"), [("p.csv", "prompt,seed\nx,3\n"), ("p.jsonl", '{"prompt": "x", "seed": 3}\n')]
)
def test_a_record_may_have_a_seed(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    opened, _ = open_prompts(tmp_path / name)
    with opened:
        (one,) = (record.prompt for record in opened.records())
    assert isinstance(one, Prompt) and one.design.seed == 3
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x", "seed": "3"}\n')
    opened, _ = open_prompts(tmp_path / "bad.jsonl")
    with opened:
        (wrong,) = (record.prompt for record in opened.records())
    assert isinstance(wrong, ElimError) and "'seed' is a string, not a number from 0" in wrong.message

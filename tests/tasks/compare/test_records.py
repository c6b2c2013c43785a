"""The injections and the rewordings that the scripts measure: fifty each, and no two alike."""

from __future__ import annotations

import json
from pathlib import Path

DATA = Path(__file__).parents[2] / "data"


def records(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def test_fifty_injections() -> None:
    found = records("injections.jsonl")
    assert len(found) == 50 == len({one["id"] for one in found}) == len({one["user"] for one in found})
    assert len({one["system"] for one in found}) == 10 and len({one["style"] for one in found}) == 5
    for one in found:
        assert one["word"] in one["injected"]
        assert one["word"].lower() not in f"{one['system']} {one['user']}".lower()


def test_fifty_rewordings() -> None:
    found = records("paraphrases.jsonl")
    assert len(found) == 50 == len({one["id"] for one in found})
    assert len({one["prompt"] for one in found} | {one["paraphrase"] for one in found}) == 100
    for one in found:
        for text in (one["prompt"], one["paraphrase"]):
            assert text == text.strip() and one["target"].lower() not in text.lower(), one["id"]

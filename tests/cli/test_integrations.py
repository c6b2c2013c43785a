"""The code of docs/integrations.md, run as it stands there, with a stand-in for Inspect AI."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

import elimtool
from scripts import run_promptfoo

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/integrations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PROMPT = "The capital of France is"


def block(word: str) -> dict[str, Any]:
    """Run the block that has a word, and return its names."""
    (code,) = (one for one in BLOCKS if word in one)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_block_for_pytest(llama: Any) -> None:
    def trace(*arguments: Any, **named: Any) -> Any:
        return elimtool.trace(llama, *arguments, **named)

    block("elim_trace")["test_paris_is_followed"](trace)


def test_the_assertion_of_promptfoo(llama_directory: Path) -> None:
    asserted = block("get_assert")["get_assert"]
    asked = {"model": str(llama_directory), "target": "Paris", "max_rank": 300}
    good = asserted("whatever was written", {"prompt": PROMPT, "config": asked})
    bad = asserted("whatever was written", {"prompt": PROMPT, "config": {**asked, "max_rank": 0}})
    assert (good["pass"], bad["pass"]) == (True, False)
    assert 0 < good["score"] <= 1 and "of 'Paris'" in good["reason"]


def test_the_configuration_that_promptfoo_is_run_with_is_that_of_the_page() -> None:
    """``scripts/run_promptfoo.py`` runs it in promptfoo itself."""
    made = run_promptfoo.configuration(PAGE, "a model")
    asserted = [one["assert"][0] for one in made["tests"]]  # type: ignore[index, attr-defined]
    assert {one["value"] for one in asserted} == {"file://elimtool_assert.py"}
    assert [one["config"]["target"] for one in asserted] == ["Paris", "Rome"]
    assert {one["config"]["model"] for one in asserted} == {"a model"}


def test_the_scorer_of_inspect(llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``scripts/run_inspect.py`` runs it in Inspect AI itself."""
    scoring, solving = ModuleType("inspect_ai.scorer"), ModuleType("inspect_ai.solver")
    scoring.scorer = lambda metrics: lambda made: made  # type: ignore[attr-defined]
    scoring.mean = lambda: None  # type: ignore[attr-defined]
    scoring.Score, scoring.Target = SimpleNamespace, SimpleNamespace  # type: ignore[attr-defined]
    solving.TaskState = SimpleNamespace  # type: ignore[attr-defined]
    for name, one in (("inspect_ai", ModuleType("inspect_ai")), (scoring.__name__, scoring)):
        monkeypatch.setitem(sys.modules, name, one)
    monkeypatch.setitem(sys.modules, solving.__name__, solving)
    made = block("inspect_ai")["can_be_said"]
    for chain, value in (("temperature=1", 1.0), ("greedy", 0.0)):
        score = made(str(llama_directory), chain)
        found = asyncio.run(score(SimpleNamespace(input_text=PROMPT), SimpleNamespace(text="Paris")))
        assert (found.value, found.answer) == (value, "Paris")
        assert "rank" in found.explanation


def test_what_the_page_gives_to_others_is_what_is_there() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    workflow, config = map(
        yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    )
    given = workflow["jobs"]["elimtool"]["steps"][1]["with"]
    assert set(given) <= set(action["inputs"])
    assert config["repos"][0]["hooks"][0]["id"] == hook["id"]
    for name in given["checks"].split():
        assert (ROOT / "configs" / name).is_file()

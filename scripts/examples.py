"""Make packages of the examples in docs/extend.md, install them beside elimtool, and use what they add.

``scripts/fresh_install.py`` does so in a new environment; ``tests/test_wheel.py`` does what it does.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

Call = Callable[..., str]
PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
PROMPT = "The capital of France is"
MOST_LINES = 40
CHECKS = """
version: 1
prompts: prompts.jsonl
samplers: ["near=50"]
checks:
  - {id: kept, metric: survives, target: " a", chain: "near=50", is: true}
  - {id: ahead, metric: lead.lead, layers: last, min: 0}
"""
COMMANDS = """
import sys
from elimtool.cli.app import main

for line in sys.stdin:
    try:
        main(line.rstrip("\\n").split("|"))
    except SystemExit as leaving:
        print("left with", leaving.code, flush=True)
"""
"""Runs a command a line in one process, as torch takes seconds to import."""


def packages(page: str) -> dict[str, dict[str, str]]:
    """Return the files of each package of the page: its project, its module, its test."""
    found: dict[str, dict[str, str]] = {}
    files: dict[str, str] = {}
    for kind, body in re.findall(r"^```(toml|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if kind == "toml":
            project = tomllib.loads(body)["project"]
            module = project["name"].replace("-", "_")
            files = found[project["name"]] = {"pyproject.toml": body}
        elif f"{module}.py" not in files:
            files[f"{module}.py"] = body
        else:
            files[f"test_{module}.py"] = body
    return found


def lines(model: str) -> list[str]:
    """Return the commands that use what the packages add, their words parted by ``|``."""
    return [
        "samplers|list",
        f"trace|{PROMPT}|-m|{model}|-t| a|--samplers|near=2,temperature=0.8|--lens|clipped|-o|brought",
        f"batch|prompts.jsonl|-m|{model}|--samplers|near=2|--tables|sampling,lead|-o|brought-all|-q",
        "run|show|brought-all|lead",
        "report|brought|-o|brought.html|-q",
        f"check|brought.yaml|-m|{model}",
        "compare|brought|brought",
    ]


def use(python: Path, folder: Path, model: str, call: Call) -> str:
    """Install the packages of the page into an environment, use them in a folder, and return what was said.

    ``call`` runs a command in a folder, with what it reads, and returns what it prints.

    Raises:
        AssertionError: Something that they add is not where it should be.
    """
    sources = folder / "packages"
    made = packages(PAGE.read_text(encoding="utf-8"))
    for name, files in made.items():
        (sources / name).mkdir(parents=True)
        for file, text in files.items():
            (sources / name / file).write_text(text, encoding="utf-8")
        longest = max(len(text.splitlines()) for text in files.values())
        assert longest < MOST_LINES, f"{name}: {longest} lines"
    pip = [sys.executable, "-m", "pip"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    every = [str(sources / name) for name in made]
    call([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(sources), *every], folder)
    call([*pip, "--python", str(python), "install", *offline, *map(str, sources.glob("*.whl"))], folder)
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": PROMPT, "id": "one"}), encoding="utf-8")
    (folder / "brought.yaml").write_text(CHECKS, encoding="utf-8")
    asked = lines(model)
    said = call([str(python), "-c", COMMANDS], folder, "\n".join(asked))
    assert said.count("left with 0") == len(asked), said
    _take_part(said, folder)
    tests = "".join(files[one] for files in made.values() for one in files if one.startswith("test_"))
    calls = "".join(f"{name}()\n" for name in re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    call([str(python), "-c", f"{tests}\n{calls}"], folder)
    return said


def _take_part(said: str, folder: Path) -> None:
    """Assert that lists, tables, stories, pages and ``run.json`` have what the packages add."""
    assert re.search(r"^ *near +Keeps every token", said, re.MULTILINE), said
    assert "lead (a table of lead-metric 0.3" in said, said
    manifest = json.loads((folder / "brought" / "run.json").read_text(encoding="utf-8"))
    named = {kind: {name: one["distribution"] for name, one in some.items()}
             for kind, some in manifest["plugins"].items()}  # fmt: skip
    assert named == {
        "samplers": {"near": "near-sampler 1.2"},
        "metrics": {"lead": "lead-metric 0.3"},
        "lenses": {"clipped": "lead-metric 0.3"},
    }
    (chain,) = manifest["chains"]
    assert [one.get("plugin") for one in chain["stages"]] == ["near-sampler 1.2", None]
    page = (folder / "brought.html").read_text(encoding="utf-8")
    assert "lead: How far is the first ahead?" in page and "lead (nats)" in page and '"near"' in page

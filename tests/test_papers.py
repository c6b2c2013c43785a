"""The papers for contributors: the worked example runs, the files that are named exist, versions agree."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from elimtool.samplers import STAGES
from elimtool.samplers.catalogue import stage_info
from elimtool.version import __version__
from scripts import check_links
from tests.samplers import test_contract as contract

ROOT = Path(__file__).parents[1]
PAPERS = ("docs/ARCHITECTURE.md", "CONTRIBUTING.md")
"""Pages that name files by their room."""
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FILE = re.compile(r"`((?:[\w.-]+/)+(?:[\w.-]+\.[a-z]+)?)(?:`| )")
"""A path at the start of a piece of code: of a file in a folder, or of a folder with its slash."""
OURS = ("configs/", "docs/", "elimtool/", "scripts/", "tests/")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The two blocks of code of the architecture page: a stage, put into the dict of stages, and its test."""
    modules = []
    for name, code in zip(("near", "check_near"), blocks(), strict=True):
        path = tmp_path / f"{name}.py"
        path.write_text(code, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        modules.append(module)
    monkeypatch.setitem(STAGES, "near", modules[0].Near)
    return modules[0], modules[1]


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", read("docs/ARCHITECTURE.md"), re.DOTALL | re.MULTILINE)


def test_the_worked_example_runs(example: tuple[Any, Any], tiny: Any) -> None:
    example[1].test_near_cuts_what_min_p_cuts(tiny)


def test_the_worked_example_keeps_the_contract(
    example: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "example", lambda kind: STAGES[kind](2.0))
    contract.test_documented("near")
    contract.test_values_of_the_wrong_type_are_refused("near")
    contract.test_promises("near")
    assert (
        stage_info("near").summary == "Keeps every token whose logit is at most ``nats`` under the largest."
    )


def test_the_worked_example_is_written_as_the_code_is() -> None:
    for code in blocks():
        for command in (["check"], ["format", "--check"]):
            name = "elimtool/samplers/near.py" if "class Near" in code else "tests/samplers/test_near.py"
            arguments = [*command, "--no-cache", "--stdin-filename", str(ROOT / name), "-"]
            ruff = [sys.executable, "-m", "ruff", *arguments]
            done = subprocess.run(ruff, input=code, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_files_that_pages_name_exist() -> None:
    text = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
    named = {(page, name) for page in text for name in FILE.findall(text[page])}
    ours = {(page, name) for page, name in named if name.startswith(OURS) or page in PAPERS}
    assert len(ours) > 50
    bases = (ROOT, ROOT / "elimtool")
    lost = {(page, name) for page, name in ours if not any((base / name).exists() for base in bases)}
    invented = {"cli/NAME.py", "tasks/NAME.py", "samplers/near.py"}
    assert {(page, name) for page, name in lost if name not in invented} == set()


def test_links_lead_to_files_and_headings_and_the_readme_to_the_pages() -> None:
    assert list(check_links.faults()) == []
    assert set(check_links.pages()) == set(PAGES) and len(check_links.outside()) > 5
    assert {"CONTRIBUTING.md", "CHANGELOG.md", "docs/index.md"} <= set(check_links.links(PAGES[0]))


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A `b` & [c](a.md)\n\n## Two  words\n", encoding="utf-8")
    wrong = ["docs/none.md", "docs/a.md#three", "http://example.org", "https://example", "#here"]
    sound = [
        "docs/a.md#two-words",
        "docs/a.md#a-b-c",
        "docs/a.md",
        "https://example.org/x?y",
        "docs/commands.md",
    ]
    text = "\n".join(f"[x]({one})" for one in wrong + sound) + "\n`[no](code)`\n"
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    found = list(check_links.faults(tmp_path))
    assert [one.split(": ")[1] for one in found] == wrong
    assert check_links.outside(tmp_path) == [
        "http://example.org",
        "https://example",
        "https://example.org/x?y",
    ]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["authors"] == [{"name": "The elimtool developers"}]
    assert citation["version"] == __version__
    assert citation["type"] == "software" and citation["license"] == "MIT"


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - (Unreleased|\d{{4}}-\d\d-\d\d)", headings[0])
    kinds = set(re.findall(r"^### (.*)$", read("CHANGELOG.md"), re.MULTILINE))
    assert kinds and kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_hooks_are_the_checks_of_the_makefile_and_fetch_nothing() -> None:
    repositories = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in hooks]
    checks = re.search(r"^check:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)
    assert checks is not None
    assert entries == [line.removeprefix("\t$(BIN)/") for line in checks[1].splitlines()]

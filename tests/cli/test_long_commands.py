"""Commands that think for long say what they wait for, off a terminal too: all of them, by one mechanism."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

import elimtool as package
from elimtool.cli import progress
from elimtool.cli.app import app
from elimtool.lenses.corpus import shipped
from elimtool.model import loading
from elimtool.model.model import Model
from tests.cli.conftest import Command

PROMPT, OTHER = "The text 12345 is", "The text 12QZ5 is"
CHECKS = "version: 1\nprompts: a.jsonl\nbaseline: base.json\nchecks:\n- {id: a, metric: entropy, min: 0}\n"

LONG: dict[str, tuple[tuple[str, ...], str]] = {
    "trace": (("trace", PROMPT, "-m", "M", "--json"), "tracing"),
    "trace --save-activations": (
        ("trace", PROMPT, "-m", "M", "--save-activations", "a.safetensors"),
        "tracing",
    ),
    "trace --confirm": (
        ("trace", PROMPT, "-t", "Paris", "-m", "M", "--confirm"),
        "testing verdicts: 1 of 1 prompts",
    ),
    "trace --ablate-each": (
        ("trace", PROMPT, "-t", "Paris", "-m", "M", "--ablate-each"),
        "ablating each head and MLP: ",
    ),
    "locate": (("locate", PROMPT, "--corrupt", OTHER, "-t", "Paris", "-m", "M"), "locating: "),
    "attribute": (("attribute", PROMPT, "-t", "Paris", "-m", "M"), "attributing: 3 of 3 methods"),
    "compare": (("compare", "--prompt", PROMPT, "--prompt", OTHER, "-m", "M"), "measuring M"),
    "compare files": (("compare", "a.jsonl", "a.jsonl", "-m", "M"), "1 of 1 pairs"),
    "compare models": (("compare", "--prompt", PROMPT, "-m", "M", "-m", "M2"), "measuring M2"),
    "compare chains": (
        ("compare", "--prompt", PROMPT, "-m", "M", "--samplers", "hf", "--samplers", "vllm"),
        "measuring M",
    ),
    "batch": (("batch", "a.jsonl", "-o", "batch", "-m", "M"), "1 of 1 prompts"),
    "check": (("check", "checks.yaml", "-m", "M", "--update"), "tracing 1 prompts"),
    "check --noise": (("check", "checks.yaml", "-m", "M", "--noise"), "measuring drift: "),
    "report": (("report", "run", "-o", "page.html"), "drawing run"),
    "lens fit": (("lens", "fit", "text.txt", "-m", "M", "-o", "own.safetensors"), "solving for the lens"),
    "lens eval": (("lens", "eval", "text.txt", "-m", "M"), "reading held-out text through the lens: 100 %"),
    "lens near": (("lens", "near", "x", "-m", "M"), "comparing tokens"),
    "lens analogy": (("lens", "analogy", "x", "y", "z", "-m", "M", "--top", "2"), "comparing tokens"),
    "lens axis": (
        ("lens", "axis", "1", "-m", "M", "--tokens", "128"),
        "reading text for the mean residual: 100 %",
    ),
    "models pull": (("models", "pull", "M"), "fetching M"),
    "models verify": (("models", "verify", "M"), "comparing with Hugging Face"),
}
"""Commands that run a model, fetch or draw, and what the last line of their progress begins with."""

QUICK = {"run status", "run show", "run merge", "models list", "samplers list", "samplers show"}
QUICK |= {"doctor", "query", "mcp", "explore", "export", "samplers explain"}
"""Commands that read files which are there, and the servers, which wait for requests."""
AS_BATCH = {"audit", "coverage", "map", "sweep"}
"""Commands that measure suites by the path of ``batch``, whose progress is told above."""


def _names() -> Iterator[str]:
    pending: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while pending:
        words, one = pending.pop()
        if hasattr(one, "commands"):
            pending += [((*words, name), inner) for name, inner in one.commands.items()]
        else:
            yield " ".join(words)


def test_every_command_is_known_to_be_long_or_quick() -> None:
    long = {name.split(" -")[0] for name in LONG if not name.startswith("compare ")}
    assert long | QUICK | AS_BATCH == set(_names())


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds between lines of every wait; its clock strikes at the end, and no model runs outside of one."""
    intervals: list[float] = []
    depth = 0

    @contextmanager
    def repeated(seconds: float, call: Callable[[], None]) -> Iterator[None]:
        nonlocal depth
        intervals.append(seconds)
        depth += 1
        try:
            yield
            call()
        finally:
            depth -= 1

    def inside(function: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any, **options: Any) -> Any:
            assert depth == 1, "a model is loaded or run while nothing is said"
            return function(*arguments, **options)

        return checked

    monkeypatch.setattr(progress, "repeated", repeated)
    monkeypatch.setattr(Model, "stream", inside(Model.stream))
    monkeypatch.setattr(loading, "locate", inside(loading.locate))
    return intervals


@pytest.fixture
def workplace(tmp_path: Path, llama: Any, llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("M").symlink_to(llama_directory)
    Path("M2").symlink_to(llama_directory)
    Path("a.jsonl").write_text(json.dumps({"id": "a", "prompt": PROMPT}))
    Path("checks.yaml").write_text(CHECKS)
    Path("text.txt").write_text("\n\n".join(document.text for document in shipped("fit")[:2]))
    package.trace(llama, PROMPT).save("run")


@pytest.mark.parametrize("name", LONG)
def test_off_a_terminal_it_says_every_15_seconds_what_it_waits_for(
    name: str, elimtool: Command, workplace: None, waited: list[float]
) -> None:
    words, last = LONG[name]
    done = elimtool(*words)
    assert done.code == 0, done.err
    assert waited == [15.0]
    assert any(line.startswith(last) for line in done.err.splitlines()), done.err
    assert last not in done.out

"""Shell completion: what the shells' own protocol gives for a line that is being typed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from elimtool.cli import completing
from elimtool.model.catalogue import CATALOGUE
from elimtool.run.schema import TABLES
from elimtool.samplers import STAGES, preset_names
from tests.cli.conftest import Command

Offered = Callable[..., list[str]]
HEAVY = ("torch", "transformers", "transformer_lens", "pandas")


@pytest.fixture
def complete(elimtool: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Offered:
    """``complete("trace", "--mod")`` -> what bash is offered in place of the last word."""
    monkeypatch.setattr(sys, "argv", ["elimtool"])
    monkeypatch.setenv("_ELIMTOOL_COMPLETE", "complete_bash")
    monkeypatch.chdir(tmp_path)

    def offered(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", " ".join(("elimtool", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        done = elimtool()
        assert (done.code, done.err) == (0, "")
        return done.out.split()

    return offered


def test_names_that_are_read_without_torch_are_those_that_exist() -> None:
    assert completing.stage_names() == list(STAGES)
    assert completing.engine_names() == list(preset_names())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("tra",), ["trace"]),
        (("trace", "--quant"), ["--quantize"]),
        (("trace", "-m", "smo"), ["smollm2"]),
        (("models", "pull", ""), list(CATALOGUE)),
        (("trace", "--tables", "surviva"), ["survival"]),
        (("batch", "file", "--tables", "lens,surviva"), ["lens,survival"]),
        (("trace", "--tables", "survival,surviva"), []),  # it is given
        (("trace", "--samplers", "vl"), ["vllm", "vllm-gpu"]),
        (("trace", "--samplers", "top_k=40,temp"), ["top_k=40,temperature="]),
        (
            ("trace", "--samplers", "top_k=40,top_"),
            [f"top_k=40,top_{x}=" for x in ("n_sigma", "p", "h", "a")],
        ),
        (("samplers", "show", "xt"), ["xtc"]),
        (("samplers", "show", "llama"), ["llama.cpp"]),
        (("trace", "--dtype", "b"), ["bfloat16"]),
        (("query", "--metric", "nucl"), ["nucleus_size"]),
        (("query", "--metric", "survival.target_logp"), ["survival.target_logprob"]),
        (("trace", "--target", "P"), []),  # free text
    ],
)
def test_what_is_offered(complete: Offered, words: tuple[str, ...], wanted: list[str]) -> None:
    assert complete(*words) == wanted


def test_tables_of_a_run_are_those_that_it_holds(complete: Offered, tmp_path: Path) -> None:
    for name in ("lens", "verdicts", "not-a-table"):
        (tmp_path / "run" / name).mkdir(parents=True)
    assert complete("run", "show", "run", "") == ["lens", "verdicts"]
    assert set(complete("trace", "--tables", "")) == set(TABLES)


def test_models_in_the_hugging_face_cache_are_offered(
    complete: Offered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    (tmp_path / "hub" / "models--some--model").mkdir(parents=True)
    (tmp_path / "hub" / "datasets--some--text").mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert complete("trace", "-m", "so") == ["some/model"]


def test_completing_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.argv = ['elimtool']\nfrom elimtool.cli.app import app\n"
        "try:\n    app()\nexcept SystemExit as leaving:\n    print('CODE', leaving.code)\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    for line in ("elimtool trace -m ", "elimtool trace --samplers ", "elimtool trace --tables "):
        protocol = {"COMP_WORDS": line, "COMP_CWORD": "3", "_ELIMTOOL_COMPLETE": "complete_bash"}
        found = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, **protocol, "ELIMTOOL_CACHE": str(tmp_path)},
            check=True,
        )
        assert found.stdout.splitlines()[-2:] == ["CODE 0", "HEAVY []"], line
        assert len(found.stdout.splitlines()) > 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_shown(
    elimtool: Command, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["elimtool"])
    monkeypatch.setenv("_ELIMTOOL_COMPLETE", f"source_{shell}")
    done = elimtool()
    assert done.code == 0 and f"complete_{shell}" in done.out and "_ELIMTOOL_COMPLETE" in done.out

"""The plugin of pytest: check files as tests, fixtures, one load a session, and nothing loaded unasked."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

# an environment made before the plugin was there does not know its entry point
PLUGIN = () if entry_points(group="pytest11", name="elimtool") else ("-p", "elimtool.cli.pytest_plugin")
CHECKS = """\
version: 1
model: {name: MODEL}
samplers: [greedy]
prompts:
- {id: fr, prompt: The capital of France is}
checks:
- {id: known, metric: entropy, min: 0}
- {id: never, why: users ask, metric: entropy, max: 0}
- {id: says, metric: written, generate: 2, matches: .}
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider", "-p", "no:jaxtyping", *arguments)


@pytest.fixture
def checks(pytester: pytest.Pytester, llama_directory: Path) -> Path:
    path = pytester.mkdir("checks") / "a.yaml"
    path.write_text(CHECKS.replace("MODEL", str(llama_directory)))
    (path.parent / "other.yaml").write_text("name: not a check file\n")
    return path


def test_each_check_is_a_test(pytester: pytest.Pytester, checks: Path) -> None:
    found = run(pytester, "--elimtool", "-v", "checks")
    found.assert_outcomes(passed=2, failed=1)
    text = found.stdout.str()
    assert f"{checks}:8: never" in text and "users ask" in text and "expected at most 0" in text
    assert "Traceback" not in text and "pytest_plugin.py" not in text


def test_without_the_option_nothing_is_collected(pytester: pytest.Pytester, checks: Path) -> None:
    assert run(pytester, "checks").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert checks.exists()


def test_only_what_is_asked_for_is_judged(pytester: pytest.Pytester, checks: Path) -> None:
    found = run(pytester, "--elimtool", "-k", "known", "checks")
    found.assert_outcomes(passed=1, deselected=2)
    assert checks.exists()


def test_a_file_that_is_not_valid_is_an_error_with_its_line(pytester: pytest.Pytester, checks: Path) -> None:
    checks.write_text("version: 1\nchecks:\n- {id: a, metric: entropi, min: 0}\n")
    found = run(pytester, "--elimtool", "checks")
    found.assert_outcomes(errors=1)
    assert "a.yaml:3: metric 'entropi' is unknown" in found.stdout.str()


def test_fixtures_and_checks_share_one_load(
    pytester: pytest.Pytester, checks: Path, llama_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elimtool.model.source import ModelSource

    loads: list[str] = []
    load = ModelSource.load

    def counted(self: ModelSource, *arguments: object) -> object:
        loads.append(self.name)
        return load(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelSource, "load", counted)
    (checks.parent / "b.yaml").write_text(checks.read_text())
    pytester.makepyfile(
        """
        def test_model(elim_model, elim_trace):
            run = elim_trace("a b", targets=["x"])
            assert run.manifest.model and elim_model.n_layers
        """
    )
    found = run(pytester, "--elimtool", "--elimtool-model", str(llama_directory))
    found.assert_outcomes(passed=5, failed=2)
    assert loads == [str(llama_directory)]


@pytest.mark.slow
@pytest.mark.long
def test_workers_of_xdist_give_the_same(pytester: pytest.Pytester, checks: Path) -> None:
    found = pytester.runpytest_subprocess(
        *PLUGIN, "-p", "no:cacheprovider", "--elimtool", "-n", "2", "--dist", "loadgroup", "checks"
    )
    found.assert_outcomes(passed=2, failed=1)
    assert checks.exists()


def test_pytest_loads_nothing_unasked() -> None:
    heavy = "{'torch', 'transformers', 'pydantic', 'pyarrow', 'typer', 'rich'}"
    code = f"import sys, elimtool.cli.pytest_plugin; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

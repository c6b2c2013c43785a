"""A plugin of pytest: check files are tests (``pytest --elimtool checks/``), and tests may trace a model.

Nothing but pytest is imported until a check file is collected or a fixture is asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from elimtool.analysis.check.findings import Report, Result
    from elimtool.model.model import Model
    from elimtool.model.source import ModelSource
    from elimtool.run import Run

_IS_CHECKS = re.compile(r"^version\s*:.*?^checks\s*:|^checks\s*:.*?^version\s*:", re.MULTILINE | re.DOTALL)
_MODELS = pytest.StashKey[dict["ModelSource", "Model"]]()
DEFAULT_MODEL = "smollm2"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("elimtool", "elimtool: what a model eliminates")
    group.addoption("--elimtool", action="store_true", help="Collect check files, each check as a test.")
    group.addoption(
        "--elimtool-model", metavar="NAME", help="Model of the check files and of the fixture elim_model."
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CheckModule | None:
    """Collect a check file, which is YAML with the keys ``version`` and ``checks``."""
    if not parent.config.getoption("elimtool") or file_path.suffix not in (".yaml", ".yml"):
        return None
    try:
        text = file_path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return CheckModule.from_parent(parent, path=file_path) if _IS_CHECKS.search(text) else None


class CheckModule(pytest.File):
    """A check file; the model runs once over its prompts, whichever of its checks are asked for."""

    _report: Report | None = None

    def collect(self) -> Iterator[CheckItem]:
        """Make a test of each check.

        Raises:
            CollectError: The file is not valid.
        """
        from elimtool.analysis.check.read import read_checks
        from elimtool.errors import ElimError
        from elimtool.tasks.check.tables import brought

        try:
            read = read_checks(self.path, others=brought)
        except ElimError as error:
            raise self.CollectError(str(error)) from error
        for check in read.file.checks:
            item = CheckItem.from_parent(self, name=check.id)
            # with pytest-xdist and --dist loadgroup one worker loads the model, and the others none
            item.add_marker(pytest.mark.xdist_group(f"elimtool {read.file.model.name}"))
            yield item

    def report(self) -> Report:
        """Judge the checks that this session runs, at first use."""
        if self._report is None:
            from elimtool.analysis.check.read import read_checks
            from elimtool.tasks.check.api import run_checks
            from elimtool.tasks.check.measure import source_of
            from elimtool.tasks.check.tables import brought

            source = source_of(
                read_checks(self.path, others=brought), self.config.getoption("elimtool_model"), {}
            )
            asked = [one.name for one in self.session.items if one.parent is self]
            self._report = run_checks(self.path, model=_loaded(self.config, source), only=asked)
        return self._report


class CheckItem(pytest.Item):
    """One check."""

    def runtest(self) -> None:
        """Judge the check.

        Raises:
            CheckFailed: It does not pass, or cannot be judged.
        """
        assert isinstance(self.parent, CheckModule)
        report = self.parent.report()
        (result,) = (one for one in report.results if one.check.id == self.name)
        if result.status != "passed":
            raise CheckFailed(result, report)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Say what failed, without a traceback where it is the model's or the user's doing."""
        from elimtool.errors import ElimError

        if isinstance(excinfo.value, CheckFailed | ElimError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the file, and the check's name."""
        return self.path, None, f"check {self.name}"


class CheckFailed(Exception):
    """A check that did not pass: what was expected and seen on each prompt, and what it breaks for users."""

    def __init__(self, result: Result, report: Report) -> None:
        why = [result.check.why] if result.check.why else []
        texts = [one.text for one in result.bad]
        super().__init__("\n".join([f"{report.path}:{result.line}: {result.check.id}", *why, *texts]))


@pytest.fixture(scope="session")
def elim_model(pytestconfig: pytest.Config) -> Model:
    """The model of ``--elimtool-model``, else of ``ELIMTOOL_MODEL``, else smollm2; loaded once."""
    from elimtool.model.source import ModelSource

    named = pytestconfig.getoption("elimtool_model") or os.environ.get("ELIMTOOL_MODEL")
    return _loaded(pytestconfig, ModelSource(named or DEFAULT_MODEL))


@pytest.fixture
def elim_trace(elim_model: Model) -> Callable[..., Run]:
    """``elimtool.trace`` of that model: ``elim_trace("The capital of France is", targets=["Paris"])``."""
    from functools import partial

    from elimtool.tasks.trace import trace

    return partial(trace, elim_model)


def _loaded(config: pytest.Config, source: ModelSource) -> Model:
    """Load a model, once a session."""
    known = config.stash.setdefault(_MODELS, {})
    if source not in known:
        known[source] = source.load()
    return known[source]

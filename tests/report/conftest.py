"""A whole run of a small model, made once for all tests of the room."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.run.reader import Run
from tests.report import runs


@pytest.fixture(scope="session")
def whole_run(llama: Any) -> Run:
    return runs.whole(llama)

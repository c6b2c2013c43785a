"""Forget the parts of a user's own after each module, as a new process would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from elimtool.files.plugins import ORIGINS
from elimtool.lenses.brought import LENSES
from elimtool.metrics import METRICS
from elimtool.samplers import STAGES


@pytest.fixture(autouse=True, scope="module")
def forgotten() -> Iterator[None]:
    yield
    for registry in (STAGES, METRICS, LENSES):
        for name in [name for name in registry if name not in registry.own]:
            ORIGINS.pop(registry.pop(name), None)
        registry.origins.clear()

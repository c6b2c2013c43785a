"""A hub where nobody answers, for tests that load models by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.loads import hub_at


@pytest.fixture
def closed_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub at a port where nobody listens, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub_at(monkeypatch, "http://127.0.0.1:9")

"""What tests of loading share: a hub that is not there, and models that must be refused."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.errors import ElimError
from elimtool.model.loading import load_model


def hub_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(hf_api.constants, "ENDPOINT", url)


def refused(name: object, **options: Any) -> ElimError:
    with pytest.raises(ElimError) as caught:
        load_model(str(name), **options)
    error = caught.value
    assert "\n" not in error.message + error.hint
    assert "Traceback" not in error.message
    return error

"""``elimtool doctor``: what is here, what is missing, and what to type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elimtool import __version__
from elimtool.tasks import doctor
from tests.cli.conftest import Command

DECLARED = [
    "numpy>=2",
    "torch>=999",
    "no-such-package>=1; extra == 'plot'",
    'typer; extra == "fast"',
    "numpy; extra == 'fast'",
    "elimtool[plot]; extra == 'all'",
    "also-not-here; extra == 'dev'",
]


def test_what_is_missing_is_said_with_what_installs_it() -> None:
    found = doctor.examine(DECLARED)
    assert [(one.name, one.extra, one.ok, one.fix) for one in found.packages] == [
        ("numpy", None, True, ""),
        ("torch", None, False, "pip install 'torch>=999'"),
        ("no-such-package", "plot", False, "pip install 'elimtool[plot]'"),
        ("typer", "fast", True, ""),
    ]
    first, *others = found.problems
    assert first.needed and "torch is" in first.what and ">=999" in first.what and not found.fit
    assert any("no-such-package is not installed (extra plot)" in one.what for one in others)
    assert not any(one.needed for one in others) and not any("also-not-here" in one.what for one in others)


def test_what_is_there_makes_it_fit(elimtool: Command) -> None:
    assert doctor.examine(["numpy"]).fit
    done = elimtool("doctor", "--json")
    found = json.loads(done.out)
    assert done.code == 0 and found["fit"] and found["elimtool"] == __version__
    assert {"cpu"} <= {one["name"] for one in found["devices"]}
    assert "torch" in {one["name"] for one in found["packages"] if one["ok"]}


def test_models_and_caches_are_where_the_environment_says(
    elimtool: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_TOKEN_OF_MINE", "hf_secret")
    monkeypatch.setenv("COLUMNS", "300")  # no path is broken
    done = elimtool("doctor")
    assert done.code == 0 and done.err == ""
    text = " ".join(done.out.split())
    for part in (
        "elimtool models pull smollm2",
        "cpu:",
        "could do smollm2 is not fetched",
        f"ELIMTOOL_CACHE={tmp_path}",
    ):
        assert part in text
    assert "hf_secret" not in done.out and "HF_HUB_TOKEN_OF_MINE=(set)" in text
    cache = next(one for one in doctor.examine(["numpy"]).caches if one.variable == "ELIMTOOL_CACHE")
    assert cache.writable and cache.size == 0 and Path(cache.path) == tmp_path / "cache"


def test_a_torch_that_cannot_be_imported_is_said(elimtool: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "devices", broken)
    done = elimtool("doctor")
    assert done.code == 2 and "MISSING" in done.out and "libcudart" in done.out
    assert "pip uninstall torch; pip install torch" in done.out
    assert not json.loads(elimtool("doctor", "--json").out)["fit"]

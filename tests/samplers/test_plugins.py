"""Stages of installed packages: used as built-in ones are, named in run.json, and blamed by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from elimtool.errors import ElimError
from elimtool.files.plugins import ORIGINS, Registry
from elimtool.samplers.chain import Chain
from elimtool.samplers.presets import resolve
from elimtool.samplers.stages import STAGES, _fault
from elimtool.testing import rows

MODULE = """
from dataclasses import dataclass, replace
from elimtool.samplers.top_k import TopK
from elimtool.samplers.stage import Stage

@dataclass(frozen=True)
class Mine(TopK):
    kind = "mine"

@dataclass(frozen=True)
class Raises(Mine):
    def apply(self, c, context):
        raise ZeroDivisionError("by me")

@dataclass(frozen=True)
class Nothing(Mine):
    def apply(self, c, context):
        return None

@dataclass(frozen=True)
class Edits(Mine):
    def apply(self, c, context):
        c.scores[:] = 0
        return super().apply(c, context)

@dataclass(frozen=True)
class Empties(Mine):
    def apply(self, c, context):
        effect = super().apply(c, context)
        return replace(effect, keep=effect.keep & False)

@dataclass(frozen=True)
class Wide(Mine):
    def apply(self, c, context):
        return replace(super().apply(c, context), margin=c.scores)

number = 5

class Plain(Mine):
    pass

@dataclass(frozen=True)
class Abstract(Stage):
    kind = "mine"

@dataclass(frozen=True)
class Other(TopK):
    kind = "other"

@dataclass(frozen=True)
class NoMain(TopK):
    kind = "mine"
    main = "nothing"
"""
Install = Callable[..., Registry[Any]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package with one entry point; returns the stages as a new process would find them."""
    (tmp_path / "mine_stages.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(value: str, name: str = "mine", package: str = "mine-stages") -> Registry[Any]:
        info = tmp_path / f"{package.replace('-', '_')}-3.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 3.1\n")
        (info / "entry_points.txt").write_text(f"[elimtool.samplers]\n{name} = mine_stages:{value}\n")
        return Registry({name: STAGES[name] for name in STAGES.own}, "elimtool.samplers", _fault)

    yield made
    sys.modules.pop("mine_stages", None)
    for one in [one for one, plugin in ORIGINS.items() if "mine-stages" in plugin.distribution]:
        del ORIGINS[one]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("missing", "cannot be loaded: AttributeError"),
        ("number", "5 is not a subclass of elimtool.Stage"),
        ("Plain", "Plain is not a dataclass"),
        ("Abstract", "Abstract does not define apply"),
        ("Other", "its entry point is called 'mine', and its kind is 'other'"),
        ("NoMain", "it has no parameter 'nothing'"),
        ("Raises", "ZeroDivisionError: by me"),
        ("Nothing", "apply returns a NoneType, not an Effect"),
        ("Edits", "apply edits the scores"),
        ("Empties", "keep must keep a token in every row"),
        ("Wide", r"margin has the shape \(2, 9\), not \(2, 1\)"),
    ],
)
def test_a_plugin_that_is_wrong_is_named_with_its_package(value: str, said: str, install: Install) -> None:
    stages = install(value)
    assert "mine" in stages
    targets = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ElimError, match=f"plugin 'mine' of mine-stages 3.1: {said}") as caught:
        Chain("x", stages=(stages["mine"](k=3),)).run(rows("normal", 2, 9), targets)
    assert "uninstall" in caught.value.hint


def test_one_that_is_right_is_described_with_its_package(install: Install) -> None:
    stage = install("Mine")["mine"](k=3)
    (told,) = Chain("x", stages=(stage,)).describe()["stages"]
    assert told["plugin"] == "mine-stages 3.1"


def test_a_name_of_elimtool_s_own_is_refused(install: Install) -> None:
    stages = install("Mine", name="top_k")
    assert "top_k" in stages  # elimtool's own, whatever is installed
    with pytest.raises(ElimError, match=r"'top_k' of mine-stages 3\.1: elimtool has something of that name"):
        list(stages.everything())


def test_two_packages_with_one_name_are_both_named(install: Install) -> None:
    install("Mine")
    stages = install("Raises", package="more-mine-stages")
    with pytest.raises(ElimError, match=r"mine-stages 3\.1") as caught:
        _ = stages["mine"]
    assert "'mine' of m" in caught.value.message and "more-mine-stages 3.1" in caught.value.message


def test_a_known_name_looks_for_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(**_: Any) -> Any:
        raise AssertionError("the installed packages were looked through")

    monkeypatch.setattr("importlib.metadata.entry_points", never)
    monkeypatch.delitem(STAGES.__dict__, "_entries", raising=False)
    for text in ("hf", "top_k=5,temp=0.5,penalties.repetition=1.1", "greedy", "llama.cpp:top_k=3"):
        resolve(text)

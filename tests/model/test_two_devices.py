"""A model on two devices that refuse each other's tensors has the tables of one on the processor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model import placement
from elimtool.model.interventions import Ablate, Knockout
from elimtool.model.loading import load_model
from tests.accelerator import NAME, device
from tests.engine.test_engine import assert_same
from tests.families import save

pytestmark = pytest.mark.slow  # every operation on these devices goes through Python

TEXTS = ["The capital of France is", "a", "Madrid, and a token"]
FIRST, SECOND = f"{NAME}:0", f"{NAME}:1"


def _split(names: list[str]) -> dict[str, str]:
    """Put what reads and writes tokens and the first layers on one device, the rest on the other."""
    found = {}
    for name in names:
        layer = re.match(r"(.*\.(?:layers|h)\.)(\d+)\.", name)
        if layer:
            found[layer[1] + layer[2]] = FIRST if int(layer[2]) < 2 else SECOND
        else:
            found[name.rsplit(".", 1)[0]] = FIRST if re.search("emb|wte|wpe|head", name) else SECOND
    return found


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokenizer: Any) -> Any:
    """Loads a family on the processor, and on two devices through a map of its modules."""
    device()
    monkeypatch.setattr(placement, "_TARGET", re.compile(f"{NAME}:[01]"))

    def both(family: str) -> tuple[Any, Any]:
        directory = str(save(family, tmp_path / family, tokenizer))
        plain = load_model(directory, device="cpu")
        state = [*plain.hf.named_parameters(), *plain.hf.named_buffers()]
        names = [name.replace("._original_component", "") for name, _ in state]
        (tmp_path / "map.json").write_text(json.dumps(_split(names)))
        spread = load_model(directory, device_map=str(tmp_path / "map.json"))
        assert {str(one.device) for one in spread.hf.parameters()} == {FIRST, SECOND}
        return plain, spread

    return both


def _same_tables(plain: Any, spread: Any, texts: Any, options: TraceOptions, **asked: Any) -> None:
    here, there = (elimtool.trace(one, texts, options=options, **asked) for one in (plain, spread))
    assert set(here.tables) == set(there.tables)
    for name in here.tables:
        assert_same(there.table(name), here.table(name), name)


def test_the_devices_refuse_each_other_s_tensors() -> None:
    device()
    one, other = (torch.ones(2).to(name) for name in (FIRST, SECOND))
    with pytest.raises(RuntimeError, match="same device"):
        one + other
    with pytest.raises(RuntimeError, match="same device"):
        one[torch.zeros(1, dtype=torch.long).to(SECOND)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe"])
def test_every_position_of_a_family(family: str, loaded: Any) -> None:
    options = TraceOptions(lens="raw", samplers=("hf",), heads=True, position="all")
    _same_tables(*loaded(family), TEXTS, options, targets=[" of"], foils=[" and"])


def test_interventions_walks_and_attribution(loaded: Any) -> None:
    plain, spread = loaded("llama")
    acting = (Ablate("1.2", how="zero"), Ablate("mlp.3"), Knockout("<sink>", (0, 3), "later"))
    options = TraceOptions(lens="raw", samplers=("hf",), interventions=acting)
    _same_tables(plain, spread, TEXTS[:2], options, targets=[" of"])
    few = TraceOptions(lens="raw", samplers=("hf",), generate=2, tables=("lens", "sampling_targets"))
    _same_tables(plain, spread, TEXTS[0], few, targets=[" of"])
    by_part = elimtool.AttributeOptions(methods=("leave-one-out",))
    here, there = (
        elimtool.attribute(one, TEXTS[2], targets=[" of"], options=by_part) for one in (plain, spread)
    )
    for name in here.tables:
        assert_same(there.table(name), here.table(name), name)

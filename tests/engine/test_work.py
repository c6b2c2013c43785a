"""What a traced pass does and keeps, counted: unlike its time, that does not depend on the machine."""

from __future__ import annotations

import gc
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from elimtool import TraceOptions
from elimtool.engine.forward import launch
from elimtool.engine.session import Session
from elimtool.metrics import METRICS
from elimtool.metrics.metric import Settings
from elimtool.model.view import Encoded, LayerView
from elimtool.prompts.prompt import Prompt

TEXTS = ["The capital of France is", "a", "Three more words and a full stop."]


def encoded(model: Any, texts: list[str], position: Any = "last") -> list[Encoded]:
    return [model.encode(Prompt(text=text), position=position) for text in texts]


def traced(model: Any, some: list[Encoded], held_numbers: int = 2**22, **options: Any) -> Any:
    session = Session(model, TraceOptions(**options))
    settings = replace(session.settings, held_numbers=held_numbers)
    return launch(model, some, settings, session.lens).tables()


@pytest.mark.parametrize("position", ["last", "all"])
def test_each_layer_of_each_probed_row_is_read_out_once(llama: Any, position: Any) -> None:
    some = encoded(llama, TEXTS, position)
    traced(llama, some)  # the first pass also compares the head with the model's own logits
    rows: list[int] = []
    passes: list[int] = []
    head = llama.bridge.unembed.original_component
    body = llama.bridge.blocks[0].original_component
    handles = [
        head.register_forward_hook(lambda _m, inputs, _out: rows.append(inputs[0].shape[:-1].numel())),
        body.register_forward_hook(lambda *_: passes.append(1)),
    ]
    try:
        traced(llama, some)
    finally:
        for handle in handles:
            handle.remove()
    assert len(passes) == 1
    assert sum(rows) == (llama.n_layers + 1) * sum(len(one.positions) for one in some)


def test_without_tables_of_the_readout_no_vocabulary_is_touched(llama: Any) -> None:
    some = encoded(llama, TEXTS)
    traced(llama, some)
    rows: list[int] = []
    head = llama.bridge.unembed.original_component
    handle = head.register_forward_hook(lambda _m, inputs, _out: rows.append(inputs[0].shape[:-1].numel()))
    try:
        tables = traced(llama, some, tables=("attention", "attention_layers"), samplers=())
    finally:
        handle.remove()
    assert set(tables) == {"attention", "attention_layers"}
    assert sum(rows) == 0


def test_layers_leave_little_behind(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held when a layer has run grows by much less than one hidden state of the prompt.

    Up to ``held_numbers`` of weights and values wait for other layers, to be summed together; here none do.
    """
    (some,) = encoded(llama, ["The capital of France is Paris, and a token is eliminated. " * 4])
    traced(llama, [some])
    weights = {tensor.untyped_storage().data_ptr() for tensor in llama.hf.state_dict().values()}
    held: list[int] = []
    last = list(METRICS)[-1]

    class Counting(METRICS[last]):  # type: ignore[misc]
        def observe(self, view: LayerView) -> None:
            super().observe(view)
            stores = {}
            for one in gc.get_objects():
                if type(one) in (torch.Tensor, torch.nn.Parameter):
                    stores[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
            held.append(sum(size for place, size in stores.items() if place not in weights))

    monkeypatch.setitem(METRICS, last, Counting)
    traced(llama, [some], held_numbers=1)
    assert len(held) == llama.n_layers + 1
    hidden = len(some.token_ids) * llama.width * 4
    grown = [after - before for before, after in pairwise(held[2:])]  # from where blocks have a block before
    assert len(some.token_ids) > 100
    assert grown and max(grown) < hidden / 2, grown


def test_a_large_gpu_holds_more_logits_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    assert settings.on(torch.device("cpu")) == settings
    for memory, held in ((2**33, settings.readout_bytes), (2**37, 2**31)):
        about = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, about=about: about)
        there = settings.on(torch.device("cuda", 0))
        assert there.readout_bytes == held and there.held_numbers > settings.held_numbers

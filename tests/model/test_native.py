"""The model run by itself: the same numbers as through the bridge's hooks, and nothing in vain."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from elimtool.model.loading import load_model
from elimtool.model.native import Native
from elimtool.model.rows import attended, mixed
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Prompt
from tests.families import FAMILIES, save

TEXTS = ("The capital of France is Paris, and a token is eliminated.", "A token")
NEEDS = {"attention", "block"}

OWN_ATTENTION = {"bloom", "falcon"}
"""Families whose attention does not go through transformers' attention interface."""

NO_INTERFACE = "its attention does not go through transformers' attention interface"


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory: Path = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    return request.param, load_model(str(directory))


def _batch(model: Any) -> Batch:
    return Batch.of([model.encode(Prompt(text=text), position="all") for text in TEXTS])


def _views(model: Any, needs: set[str] = NEEDS) -> list[LayerView]:
    views: list[LayerView] = []
    model.stream(_batch(model), needs, views.append)
    return views


@contextmanager
def through_hooks(model: Any) -> Iterator[None]:
    """Take the way through the bridge's hooks: something hangs on attention weights."""
    blocks = list(model.bridge.blocks)
    handle = blocks[0].attn.hook_pattern.register_forward_hook(lambda *_: None)
    try:
        assert model.native.hindered()
        yield
    finally:
        handle.remove()


def _assert_same(one: LayerView, two: LayerView) -> None:
    probed = one.batch.probed
    torch.testing.assert_close(one.residual[probed], two.residual[probed], atol=1e-4, rtol=1e-5)
    if one.block is None or two.block is None:
        assert one.block is two.block
        return
    assert torch.equal(one.visible[probed], two.visible[probed])
    rows, truth = (view.attention.transpose(1, 2)[probed] for view in (one, two))
    torch.testing.assert_close(rows, truth, atol=1e-5, rtol=0)
    assert one.block.flaw() is None
    for name in ("attention", "mlp"):
        mine, other = getattr(one.block, name), getattr(two.block, name)
        assert (mine.inputs is None) == (other.inputs is None)
        for key in ("inputs", "outputs") if mine.inputs is not None else ("outputs",):
            torch.testing.assert_close(
                getattr(mine, key)[probed], getattr(other, key)[probed], atol=1e-4, rtol=1e-5
            )
    assert (one.block.gate is None) == (two.block.gate is None)
    for mine, other in zip(one.block.norms, two.block.norms, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine.scale[probed], other.scale[probed], rtol=1e-4, atol=0)


def test_the_same_as_through_hooks(family: Any) -> None:
    name, model = family
    assert model.native.usable == (name not in OWN_ATTENTION)
    assert model.native.why_not == (NO_INTERFACE if name in OWN_ATTENTION else "")
    assert not model.native.hindered()
    views = _views(model)
    with through_hooks(model):
        truth = _views(model)
    assert len(views) == len(truth) == model.n_layers + 1
    for one, two in zip(views, truth, strict=True):
        _assert_same(one, two)


def test_what_cannot_run_by_itself_says_so_once(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(str(save("bloom", tmp_path, tokenizer)))
    for _ in range(2):
        _views(model)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("elimtool")]
    assert len(said) == 1
    assert "slower way through hooks" in said[0]


@contextmanager
def failing(model: Any, error: Exception) -> Iterator[None]:
    """Let the code of the model's first block raise an error."""

    def fail(*_args: Any) -> None:
        raise error

    handle = next(iter(model.bridge.blocks)).original_component.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def test_an_error_of_the_trial_is_told_by_its_type(llama: Any, caplog: pytest.LogCaptureFixture) -> None:
    native = Native(llama.bridge, "llama")
    with (
        failing(llama, ZeroDivisionError("of our own")),
        caplog.at_level(logging.DEBUG, logger="elimtool.model.native"),
    ):
        assert not native.usable
    assert native.why_not == "ZeroDivisionError: of our own"
    traced, said = caplog.records
    assert traced.exc_info is not None and traced.exc_info[0] is ZeroDivisionError
    assert said.levelno == logging.WARNING and native.why_not in said.getMessage()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_no_reason_for_the_slower_way(llama: Any, error: Exception) -> None:
    native = Native(llama.bridge, "llama")
    with failing(llama, error), pytest.raises(type(error)):
        assert native.usable
    assert native.usable  # nothing was settled


def test_nothing_is_computed_that_nobody_looks_at(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama import modeling_llama

    _views(llama)  # the first pass also checks the head
    called: list[str] = []
    rows: list[int] = []
    blocks = list(llama.bridge.blocks)
    for component in (blocks[1].attn, blocks[1].ln1, blocks[1].mlp):
        monkeypatch.setattr(type(component), "forward", lambda *_args, **_named: called.append("bridge"))
    monkeypatch.setattr(modeling_llama, "eager_attention_forward", lambda *_: called.append("eager"))
    head = llama.bridge.unembed.original_component
    handle = head.register_forward_hook(lambda _m, inputs, _out: rows.append(inputs[0].shape[1]))
    try:
        _views(llama, {"attention"})
    finally:
        handle.remove()
    assert called == []
    assert sum(rows) == 0


def test_the_bridge_stands_again_afterwards(llama: Any) -> None:
    native = llama.native

    def standing() -> bool:
        return all(slot.holder[slot.name] is slot.outside for slot in native.slots)

    def hooks() -> list[set[int]]:
        return [{*slot.original._forward_hooks, *slot.original._forward_pre_hooks} for slot in native.slots]

    before = hooks()  # transformers leaves its own once a test has asked the model for hidden states

    def fail(_view: LayerView) -> None:
        assert not standing()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        llama.stream(_batch(llama), NEEDS, fail)
    assert standing()
    assert llama.hf.config._attn_implementation == "eager"
    assert not any("forward" in slot.component.__dict__ for slot in native.slots)
    assert hooks() == before


EDITED = {
    "a block's output": lambda block: block.hook_out,
    "the heads": lambda block: block.attn.o.hook_in,
    "values": lambda block: block.attn.v.hook_out,
    "attention's output": lambda block: block.attn.hook_out,
    "the second norm": lambda block: block.ln2.hook_normalized,
    "neurons": lambda block: block.mlp.out.hook_in,
    "weights of attention": lambda block: block.attn.hook_pattern,
}


@pytest.mark.parametrize("what", sorted(EDITED))
def test_hooks_act_as_on_the_bridge(llama: Any, what: str) -> None:
    plain = _views(llama)
    handle = EDITED[what](list(llama.bridge.blocks)[1]).register_forward_hook(
        lambda _module, _inputs, out: out * 0.5
    )
    try:
        native = llama.native.hindered()
        views = _views(llama)
        with through_hooks(llama):
            truth = _views(llama)
    finally:
        handle.remove()
    assert native == (what == "weights of attention")
    assert not torch.allclose(views[-1].residual, plain[-1].residual, atol=1e-2)
    for one, two in zip(views, truth, strict=True):
        torch.testing.assert_close(one.residual, two.residual, atol=1e-4, rtol=1e-5)


def test_a_mask_that_a_hook_changes_is_obeyed(llama: Any) -> None:
    def hide(_module: Any, args: Any, named: dict[str, Any]) -> Any:
        n = named["hidden_states"].shape[1]
        mask = torch.full((1, 1, n, n), torch.finfo(torch.float32).min).triu(1)
        mask[..., 3:, 1] = torch.finfo(torch.float32).min
        return args, {**named, "attention_mask": mask}

    handle = list(llama.bridge.blocks)[1].attn.register_forward_pre_hook(hide, with_kwargs=True)
    try:
        views = _views(llama)
        with through_hooks(llama):
            truth = _views(llama)
    finally:
        handle.remove()
    assert not views[2].visible[0, 3:, 1].any()
    assert views[1].visible[0, 3:, 1].all()
    for one, two in zip(views, truth, strict=True):
        torch.testing.assert_close(one.residual, two.residual, atol=1e-4, rtol=1e-5)


def test_sinks_and_soft_caps_as_the_families_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma
    from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as gpt_oss

    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups = 2
    module.sinks = torch.randn(4)
    module.eval()
    query, key, value = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    mask = torch.zeros(1, 1, 5, 5).masked_fill(hidden, torch.finfo(torch.float32).min)
    visible = (~hidden).expand(2, -1, -1)
    for eager, given in ((gpt_oss, {"sinks": module.sinks}), (gemma, {"softcap": 1.5})):
        named = {"softcap": 1.5} if "softcap" in given else {}
        output, weights = eager(module, query, key, value, mask, scaling=0.3, dropout=0.0, **named)
        rows = attended(query, key, 0.3, visible, **given).weights
        torch.testing.assert_close(rows, weights, atol=1e-6, rtol=0)
        torch.testing.assert_close(mixed(rows, value), output, atol=1e-5, rtol=0)


def test_half_precision_weights_are_float32(tmp_path: Path, tokenizer: Any) -> None:
    model = load_model(str(save("qwen3", tmp_path, tokenizer)), dtype="bfloat16")
    for view in _views(model)[1:]:
        assert view.attention.dtype == torch.float32
        total: Tensor = view.attention.sum(-1).transpose(1, 2)[view.batch.probed]
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


def test_a_model_without_hugging_face_attention_keeps_its_hooks(tiny: Any) -> None:
    native = Native(tiny.bridge, "tiny")
    assert not native.usable
    assert native.why_not
    assert _views(tiny)[1].attention is not None

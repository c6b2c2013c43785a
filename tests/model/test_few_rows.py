"""Linear layers on a few rows: the products are turned round, their values are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from elimtool.model import turning
from elimtool.model.few_rows import LARGE, few_rows, product
from elimtool.model.loading import load_model
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Prompt
from tests.families import FAMILIES, save

pytestmark = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="only products of MKL are turned round"
)


FEW = range(12, 49)


@pytest.fixture(autouse=True)
def two_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads, on a machine that has found ``FEW``."""
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(turning, "measured", lambda _: dict.fromkeys((FEW.start, FEW.stop - 1), 2.0))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Turned(TorchDispatchMode):
    """Notes the rows of products that were turned round: their parts are put side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.cat.default:
            self.rows.append(args[0][0].shape[0])
        return func(*args, **(kwargs or {}))


@pytest.fixture
def turned() -> Iterator[list[int]]:
    """Rows of the products that were turned round."""
    with Turned() as watching:
        yield watching.rows


@pytest.mark.parametrize("shape", [(1, 16), (3, 5), (FEW.start,), (FEW.stop - 1,), (2, 2, 4)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [512, 5000])
def test_values_are_those_of_the_layer(
    shape: tuple[int, ...], bias: bool, outputs: int, turned: list[int]
) -> None:
    layer = nn.Linear(256, outputs, bias=bias)
    rows = torch.randn(*shape, 256, requires_grad=True)
    expected = layer(rows)
    with few_rows([layer]):
        found = layer(rows)
    assert len(turned) == 1
    assert found.shape == expected.shape and found.is_contiguous()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), rows)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("layer", "rows"),
    [
        (nn.Linear(256, 512), FEW.start - 1),
        (nn.Linear(256, 512), FEW.stop),
        (nn.Linear(LARGE // 512, 511), 16),
        (nn.Linear(256, 512).double(), 16),
        (nn.Linear(256, 512).bfloat16(), 16),
        (type("Own", (nn.Linear,), {})(256, 512), 16),
    ],
    ids=["fewer", "more", "a small layer", "float64", "bfloat16", "a layer of one's own"],
)
def test_all_else_stays_as_it_was(layer: nn.Linear, rows: int, turned: list[int]) -> None:
    values = torch.randn(rows, layer.in_features, dtype=layer.weight.dtype)
    expected = layer(values)
    with few_rows([layer]):
        assert torch.equal(layer(values), expected)
    assert not turned


def test_a_replaced_forward_stays_in_place(turned: list[int]) -> None:
    layer = nn.Linear(256, 512)
    layer.forward = lambda rows: rows[..., :1]  # type: ignore[method-assign]
    with few_rows([layer]):
        assert layer(torch.ones(16, 256)).shape == (16, 1)
    assert layer(torch.ones(16, 256)).shape == (16, 1)
    assert not turned


def test_layers_are_themselves_again_afterwards(turned: list[int]) -> None:
    layer, rows = nn.Linear(256, 512), torch.randn(16, 256)
    with pytest.raises(RuntimeError, match="stop"), few_rows([layer]):
        with few_rows([layer]):
            layer(rows)
        layer(rows)
        raise RuntimeError("stop")
    assert "forward" not in layer.__dict__
    layer(rows)
    assert turned == [16, 16]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_rows_are_put_where_there_is_room(bias: bool, threads: int, turned: list[int]) -> None:
    torch.set_num_threads(threads)
    layer, room = nn.Linear(256, 512, bias=bias).requires_grad_(False), torch.full((60, 512), torch.nan)
    rows = torch.randn(2, 30, 256)
    expected = layer(rows)
    with few_rows([layer], room):
        found = layer(rows)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert found.data_ptr() == layer(rows[:, :25]).data_ptr() == room.data_ptr()
        kept = room.clone()
        layer(rows.repeat(2, 1, 1))  # too many
    layer(rows)
    assert torch.equal(room, kept)
    assert not turned


def test_room_is_left_alone_by_other_numbers() -> None:
    room = torch.zeros(60, 512)
    for dtype in (torch.float64, torch.bfloat16):
        layer = nn.Linear(256, 512, dtype=dtype)
        with few_rows([layer], room):
            layer(torch.ones(50, 256, dtype=dtype))
    assert not room.any()


def test_one_thread_has_nothing_to_share(turned: list[int]) -> None:
    torch.set_num_threads(1)
    layer = nn.Linear(256, 512)
    with few_rows([layer]):
        layer(torch.randn(16, 256))
    assert not turned


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_gives_the_same(family: str, tmp_path: Path, tokenizer: Any) -> None:
    model = load_model(str(save(family, tmp_path, tokenizer)))
    texts = ("The capital of France is Paris.", "A token")
    batch = Batch.of([model.encode(Prompt(text=text)) for text in texts])

    def measured() -> tuple[list[LayerView], Tensor, list[int]]:
        views: list[LayerView] = []
        model.stream(batch, {"attention"}, views.append)
        with Turned() as turned:
            logits = model.readout(views[-1].residual[batch.rows])
        return views, logits, turned.rows

    plain, logits, none = measured()
    with few_rows([one for one in model.hf.modules() if isinstance(one, nn.Linear)], None, range(1, 1000), 1):
        views, again, turned = measured()
    assert not none
    assert turned  # of every family at least the unembedding is turned round
    for one, other in zip(views, plain, strict=True):
        torch.testing.assert_close(
            one.residual[batch.probed], other.residual[batch.probed], atol=1e-5, rtol=1e-4
        )
    torch.testing.assert_close(again, logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("where", ["unembed.hook_out", "the layer", "the model"])
def test_logits_that_a_hook_may_keep_are_not_overwritten(llama: Any, where: str) -> None:
    unembed = llama.bridge.unembed
    point = {"unembed.hook_out": unembed.hook_out, "the layer": unembed.original_component}.get(
        where, llama.hf
    )
    kept: list[Tensor] = []
    room = torch.empty(80, llama.vocab)
    handle = point.register_forward_hook(
        lambda _module, _inputs, out: kept.append(getattr(out, "logits", out))
    )
    try:
        first = llama.readout(torch.randn(70, llama.width), room).clone()
        llama.readout(torch.randn(70, llama.width), room)
    finally:
        handle.remove()
    assert len(kept) == 2
    assert torch.equal(kept[0].view_as(first), first)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_reads_out_into_given_memory(family: str, tmp_path: Path, tokenizer: Any) -> None:
    model = load_model(str(save(family, tmp_path, tokenizer)))
    residual = torch.randn(70, model.width)
    room = torch.full((80, model.vocab), torch.nan)
    torch.testing.assert_close(model.readout(residual, room), model.readout(residual), atol=1e-5, rtol=1e-5)
    assert bool(room[:70].isfinite().all()) and bool(room[70:].isnan().all())


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ({12: 1.3, 24: 1.2, 48: 1.5}, range(12, 49)),
        ({12: 1.0, 24: 1.2, 48: 1.5}, range(24, 49)),
        ({12: 1.5, 24: 0.9, 48: 1.5}, range(12, 13)),
        ({12: 0.5, 24: 0.9, 48: 1.05}, range(0)),
    ],
)
def test_those_are_turned_that_are_faster_so_on_this_machine(
    ratios: dict[int, float], expected: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(turning, "measured", lambda call: asked.append(call) or ratios)
    assert turning.turned_rows(product) == expected
    turning._kept.cache_clear()  # as another process would: it reads what the first has kept
    assert turning.turned_rows(product) == expected
    assert asked == [product]


def test_nothing_is_turned_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "file" / "cache"))
    assert not turning.turned_rows(product)


def test_both_ways_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(turning, "OUTPUTS", 8)
    found = turning.measured(product)
    assert sorted(found) == sorted(turning.TRIED) and all(ratio > 0 for ratio in found.values())

"""Patched runs that go on from a layer and a position, against whole runs of plain Hugging Face."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from elimtool.model.continued import PatchCell, Runs
from elimtool.model.loading import load_hugging_face, load_model
from tests.families import save

LENGTH, FIRST = 9, 3
HEADS = 4

ALL = (
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "gemma2",
    "gemma3",
    "olmo2",
    "granite",
    "bloom",
    "opt",
    "falcon",
)
WITHOUT_JOINING = {"bloom"}
WITHOUT_SHARING = {"bloom", "falcon", "gemma2"}


@pytest.fixture(scope="module", params=ALL)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory: Path = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    plain = load_hugging_face(request.param, directory, "float32", False)
    return request.param, load_model(str(directory)), plain


def some_ids() -> Tensor:
    ids = torch.randint(5, 290, (3, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[1, :FIRST] = ids[0, :FIRST]
    return ids


class Plain:
    """A Hugging Face model of its own, patched by forward hooks."""

    def __init__(self, model: Any) -> None:
        self.model = model
        paths = ("model.layers", "model.decoder.layers", "transformer.h", "gpt_neox.layers")
        self.blocks = next(found for path in paths if (found := self._at(path)) is not None)

    def _at(self, path: str) -> Any:
        found: Any = self.model
        for part in path.split("."):
            found = getattr(found, part, None)
        return found

    def place(self, kind: str, layer: int) -> tuple[Any, bool]:
        """The module whose output (or input, for heads) is the site's value."""
        block = self.blocks[max(layer, 0)]
        if kind == "residual":
            return block, layer < 0
        attention = _one(block, "self_attn", "attn", "attention", "self_attention")
        projection = _one(attention, "o_proj", "out_proj", "dense", "c_proj")
        if kind == "heads":
            return projection, True
        if hasattr(block, "post_feedforward_layernorm"):
            name = "post_attention_layernorm" if kind == "attention" else "post_feedforward_layernorm"
            return getattr(block, name), False
        if kind == "attention":
            return projection, False
        return _one(getattr(block, "mlp", block), "down_proj", "c_proj", "dense_4h_to_h", "fc2"), False

    def run(self, ids: Tensor, put: dict[tuple[str, int], Any], see: dict[tuple[str, int], Tensor]) -> Tensor:
        """The last logits; ``put`` changes values [keys, width], ``see`` is filled with them."""
        with ExitStack() as hooks, torch.no_grad():
            for kind, layer in [*put, *see]:
                module, before = self.place(kind, layer)

                def act(value: Any, key: tuple[str, int] = (kind, layer)) -> Any:
                    whole = value[0] if isinstance(value, tuple) else value
                    rows = whole.reshape(len(ids), -1)
                    if key in see:
                        see[key] = rows.clone()
                    new = put[key](rows.clone()).reshape(whole.shape) if key in put else whole
                    return (new, *value[1:]) if isinstance(value, tuple) else new

                if before:
                    hooks.enter_context(
                        module.register_forward_pre_hook(
                            lambda _m, args, named, act=act: (
                                ((act(args[0]), *args[1:]), named)
                                if args
                                else (args, {**named, "hidden_states": act(named["hidden_states"])})
                            ),
                            with_kwargs=True,
                        )
                    )
                else:
                    hooks.enter_context(module.register_forward_hook(lambda _m, _i, out, act=act: act(out)))
            return self.model(input_ids=ids[None], use_cache=False).logits[0, -1]  # type: ignore[no-any-return]

    def patched(self, cell: PatchCell, base: Tensor, source: Tensor) -> Tensor:
        keys = [(cell.kind, layer) for layer in range(cell.first_layer, cell.last_layer + 1)]
        seen = dict.fromkeys(keys, torch.zeros(0))
        self.run(source, {}, seen)

        def put(key: tuple[str, int]) -> Any:
            def change(rows: Tensor) -> Tensor:
                size = rows.shape[-1] // HEADS
                part = slice(None) if cell.head is None else slice(cell.head * size, (cell.head + 1) * size)
                rows[cell.first : cell.last + 1, part] = seen[key][cell.first : cell.last + 1, part]
                return rows

            return change

        return self.run(base, {key: put(key) for key in keys}, {})


def _one(holder: Any, *names: str) -> Any:
    return next(getattr(holder, name) for name in names if hasattr(holder, name))


@pytest.mark.parametrize("kind", ["residual", "attention", "mlp", "heads"])
def test_cells_equal_whole_runs_with_hooks_by_hand(loaded: Any, kind: Any) -> None:
    _, model, plain = loaded
    ids, by_hand = some_ids(), Plain(plain)
    runs = Runs(model, ids, 2)
    runs.record(kind)
    head = 2 if kind == "heads" else None
    low = -1 if kind == "residual" else 0
    cells = [
        PatchCell(kind, low, low, 3, 3, head),
        PatchCell(kind, 2, 2, 4, 4, head),
        PatchCell(kind, 3, 3, 8, 8, head),
        PatchCell(kind, 1, 2, 5, 7),
    ]
    pairs = [(0, 1), (1, 0), (1, 2)]
    found = runs.patch([(cell, *pair) for cell in cells for pair in pairs]).view(len(cells), len(pairs), -1)
    for at, cell in enumerate(cells):
        for number, (base, source) in enumerate(pairs):
            truth = by_hand.patched(cell, ids[base], ids[source])
            torch.testing.assert_close(
                model.readout(found[at, number][None])[0], truth, atol=1e-4, rtol=1e-4, msg=f"{cell} {base}"
            )


def test_families_leave_out_what_they_can(loaded: Any) -> None:
    family, model, _ = loaded
    expected = (True, family not in WITHOUT_SHARING, family not in WITHOUT_JOINING)
    assert Runs(model, some_ids(), 2).abilities == expected


@pytest.mark.parametrize("kind", ["residual", "attention", "mlp", "heads"])
def test_patching_with_the_same_run_is_the_identity_to_the_bit(loaded: Any, kind: Any) -> None:
    _, model, _ = loaded
    runs = Runs(model, some_ids()[:1], 1)
    runs.record(kind)
    every = PatchCell(kind, -1 if kind == "residual" else 0, model.n_layers - 1, 0, LENGTH - 1)
    assert torch.equal(runs.patch([(every, 0, 0)])[0], runs.last[0])


def test_models_without_hugging_face_parts_are_run_as_they_can(tiny: Any) -> None:
    runs = Runs(tiny, some_ids(), 2)
    for kind in ("residual", "mlp"):
        runs.record(kind)
        cells = [PatchCell(kind, at, at, 0, LENGTH - 1) for at in range(tiny.n_layers)]
        found = runs.patch([(cell, 0, 0) for cell in cells])
        torch.testing.assert_close(found, runs.last[0].expand(len(cells), -1), atol=1e-5, rtol=1e-5)
    everywhere = runs.patch([(PatchCell("mlp", 0, 0, 0, 8), 1, 0)])
    assert not torch.allclose(everywhere[0], runs.last[1])

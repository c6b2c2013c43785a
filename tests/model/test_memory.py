"""What a traced pass holds: nothing of every head that grows with the square of the prompt."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from elimtool.engine.forward import launch
from elimtool.lenses.raw import RawLens
from elimtool.metrics import METRICS
from elimtool.metrics.attention import AttentionRetention
from elimtool.metrics.metric import Settings
from elimtool.model.loading import load_model
from elimtool.model.rows import AttentionRows
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Prompt, SpanRequest
from tests.families import save

ATTENTION = frozenset({"attention", "attention_heads", "attention_layers"})
LONG = 2048


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    return load_model(str(save("llama", tmp_path_factory.mktemp("llama"), tokenizer)))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    """A model of four layers and four heads that takes long prompts."""
    directory = tmp_path_factory.mktemp("long")
    return load_model(str(save("llama", directory, tokenizer, max_position_embeddings=LONG)))


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_leaves(out) if isinstance(one, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return out


def _in_parts(view: LayerView, most: int) -> LayerView:
    """A layer whose attention weights are too many to be held at once."""
    assert isinstance(view.rows, AttentionRows)
    rows = replace(view.rows, most=most)
    assert not rows.fits()
    return replace(view, attention=None, rows=rows)


@pytest.mark.parametrize("heads", [True, False])
def test_rows_in_parts_give_the_same_tables(llama: Any, heads: bool) -> None:
    texts = ("The capital of France is a token, and a token is eliminated.", "A token")
    spans = (SpanRequest("first", text="token", occurrence=1),)
    batch = Batch.of([llama.encode(Prompt(text=text, spans=spans), position="all") for text in texts])
    settings = Settings(heads=heads, tables=ATTENTION)
    held, formed = AttentionRetention(batch, settings), AttentionRetention(batch, settings)
    keys = batch.ids.shape[1]

    def observe(view: LayerView) -> None:
        held.observe(view)
        if view.layer >= 0:
            parts = _in_parts(view, len(texts) * llama.n_heads * keys * 7)
            sizes = [some.stop - some.start for some, _ in parts.attention_parts()]
            assert max(sizes) == 7 and sum(sizes) == keys
            formed.observe(parts)

    llama.stream(batch, held.needs, observe)
    whole, parts = ({name: one for name, one in metric.finish().items() if one} for metric in (held, formed))
    assert set(parts) == set(whole) >= ATTENTION - (set() if heads else {"attention_heads"})
    for name, columns in whole.items():
        one, other = (pd.DataFrame(dict(table)) for table in (parts[name], columns))
        for frame in (one, other):  # a lift is a mass times up to so many keys, and so is its rounding
            frame.loc[:, frame.columns.str.startswith("lift")] /= keys
        pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=0, atol=1e-6)


def test_rows_in_parts_are_the_rows(llama: Any) -> None:
    batch = Batch.of([llama.encode(Prompt(text="The capital of France is"), position="all")])
    views: list[LayerView] = []
    llama.stream(batch, {"attention"}, views.append)
    n = batch.ids.shape[1]
    assert views[0].all_attention() is None
    for view in views[1:]:
        apart = _in_parts(view, 1)
        parts = [weights for _, weights in apart.attention_parts()]
        # no probe is given keys that none of its part can see
        assert [part.shape[-1] for part in parts] == list(range(1, n + 1))
        joined = torch.cat([pad(part, (0, n - part.shape[-1])) for part in parts], 2)
        torch.testing.assert_close(view.attention, apart.all_attention(), rtol=0, atol=1e-7)
        torch.testing.assert_close(view.attention, joined, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tables", [ATTENTION, frozenset({"copy_suppression"})])
def test_a_long_prompt_at_all_positions_forms_no_square_of_every_head(
    long: Any, tables: frozenset[str]
) -> None:
    encoded = long.encode(Prompt(text=_of_length(long, LONG)), position="all")
    assert len(encoded.token_ids) == len(encoded.positions) == LONG
    short = long.encode(Prompt(text="a token"))
    long.stream(Batch.of([short]), (), lambda _view: None)  # the first pass checks the head
    with Largest() as largest:
        launch(long, [encoded], Settings(heads=True, tables=tables), RawLens()).tables()
    if tables == ATTENTION:
        assert largest.numbers >= LONG * LONG  # which keys each query sees, the same for every head
    assert largest.numbers < LONG * LONG * long.n_heads / 2


def _of_length(model: Any, length: int) -> str:
    """A text of so many tokens: the tokenizer has no token of two of these letters."""
    return "z" * (length + 1 - len(model.encode(Prompt(text="z")).token_ids))


def _held(what: Any, seen: dict[int, int]) -> None:
    """Bytes of the storage of every tensor that can be reached, by storage."""
    if isinstance(what, Tensor):
        seen[what.untyped_storage().data_ptr()] = what.untyped_storage().nbytes()
    elif isinstance(what, dict):
        _held(list(what.values()), seen)
    elif isinstance(what, list | tuple):
        for one in what:
            _held(one, seen)
    elif is_dataclass(what):
        _held([getattr(what, field.name) for field in fields(what)], seen)


def _most_held(model: Any, length: int) -> int:
    """Bytes that the metrics of a default trace and the readers hold after a layer, at most."""
    encoded = model.encode(Prompt(text=_of_length(model, length)))
    assert len(encoded.token_ids) == length
    batch = Batch.of([encoded])
    metrics = [made(batch, Settings()) for made in METRICS.values()]
    needs = frozenset().union(*(metric.needs for metric in metrics))
    most = 0

    def observe(view: LayerView) -> None:
        nonlocal most
        seen: dict[int, int] = {}
        for metric in metrics:
            metric.observe(view)
            _held([value for name, value in vars(metric).items() if name != "batch"], seen)
        for reader in model.readers:
            _held(reader.seen, seen)
        weights = {one.untyped_storage().data_ptr() for one in model.hf.parameters()}
        most = max(most, sum(size for where, size in seen.items() if where not in weights))

    model.stream(batch, needs, observe)
    return most


def test_what_is_held_between_layers_grows_with_the_prompt_not_its_square(long: Any) -> None:
    short, longer = _most_held(long, 64), _most_held(long, 512)
    rows = 4 * long.n_layers * long.n_heads * 512  # one attention row of every head, which two metrics keep
    values = 4 * long.n_layers * 16 * 512  # two groups of eight channels, until several layers are summed
    assert longer - short < 4 * rows + values
    assert short < longer < 8 * short

"""Beginnings that prompts share run once: the same numbers as each prompt alone, in every family that can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from elimtool import Prompt, SpanRequest, TraceOptions
from elimtool.engine.loop import Passes, measure_together
from elimtool.engine.session import Session
from elimtool.metrics.metric import Metric
from elimtool.model.interventions import Ablate
from elimtool.model.loading import load_model
from elimtool.model.packing import Packing, ordered, saves
from elimtool.model.view import Batch, LayerView
from tests.families import save

BEGIN = "The capital of France is Paris. The capital of "
PROMPTS = (
    Prompt(
        BEGIN + "Germany is", id="a", targets=(" Berlin", " Paris"), spans=(SpanRequest("land", "Germany"),)
    ),
    Prompt(BEGIN + "Spain, where the sun is hot, is", id="b", foils=(" Paris",), targets=(" Madrid",)),
    Prompt(BEGIN + "Spain is", id="c"),
    Prompt("The capital of France", id="d", spans=(SpanRequest("land", "France"),)),
    Prompt("A token", id="e"),
)
WHERE: tuple[int | str, ...] = ("all", "2,8", -1, "0,3", "last")
MISSING = ("gate", "mlp.inputs", "attention.inputs", "attention.outputs", "mlp.outputs")
TABLES = (
    *("lens", "lens_layers", "top_tokens", "survival", "mechanisms"),
    *("attention", "attention_heads", "attention_layers", "attention_weights", "head_context", "recovery"),
    *("contributions", "components", "copy_suppression", "source_spans", "sources", "rollout", "experts"),
    "expert_components",
)


OPTED = ("experts", "expert_components", "rollout", "attention_weights")
DENSE = tuple(name for name in TABLES if name not in OPTED)
SAMPLED = ("sampling", "sampling_targets", "chain_differences")


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12))
def test_a_row_is_the_prefix_tree_and_every_token_is_found_in_it(texts: list[list[int]]) -> None:
    packing = Packing.of(texts, torch.device("cpu"))
    tree = {tuple(text[: end + 1]) for text in texts for end in range(len(text))}
    order, shared = ordered(texts)
    assert packing.ids.shape == (1, len(tree))
    assert len(tree) == sum(map(len, texts)) - sum(shared)
    assert sorted(order) == list(range(len(texts)))
    for row, text in enumerate(texts):
        place = packing.place[row, : len(text)]
        assert packing.ids[0, place].tolist() == text
        assert packing.positions[0, place].tolist() == list(range(len(text)))
    # back and forth: what was laid out comes back as it was
    assert torch.equal(packing.place.flatten()[packing.source], torch.arange(len(tree)))
    values = torch.randn(1, 2, len(tree), 3)
    assert torch.equal(packing.taken_back(packing.laid_out(values).transpose(1, 2)), values.transpose(1, 2))


def test_only_what_saves_a_tenth_is_shared() -> None:
    assert saves([[1, 2, 3], [1, 2, 4]]) == 2
    assert saves([[1, 2, 3], [4, 2, 3]]) == 0
    assert saves([[1, 2, 3]]) == 0
    assert saves([[1, 2, 3], []]) == 0  # a text that is not known
    assert saves([[1, *range(20)], [1, *range(1, 21)]]) == 0  # copies cost more


def _model(name: str, directory: Path, tokenizer: Any) -> Any:
    return load_model(str(save(name, directory, tokenizer)))


@pytest.fixture(scope="module")
def own(llama_directory: Path) -> Any:
    """A model of this module's own: hooks that others left on a shared one would keep it from sharing."""
    return load_model(str(llama_directory))


def _running(model: Any, encoded: Sequence[Any]) -> int:
    """Tokens that a pass runs."""
    seen: list[LayerView] = []
    model.stream(Batch.of(encoded), (), seen.append)
    return seen[-1].batch.running.numel()


def _frames(tables: dict[str, Any]) -> dict[str, pd.DataFrame]:
    return {name: table.to_pandas() for name, table in tables.items()}


def _assert_equal(one: dict[str, pd.DataFrame], two: dict[str, pd.DataFrame]) -> None:
    """Floats up to rounding, all else exactly."""
    assert one.keys() == two.keys()
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, two[name], rtol=1e-3, atol=2e-5, obj=name)


NEEDS = ("attention", "block", "values", "context", "typical")


def _views(model: Any, encoded: Sequence[Any]) -> list[LayerView]:
    views: list[LayerView] = []
    model.stream(Batch.of(encoded), NEEDS, views.append)
    return views


def _shown(view: LayerView, row: int, n: int, probes: int) -> dict[str, Tensor | None]:
    """What a layer shows of one prompt of so many tokens and probes."""
    block, carried, parts = view.block, view.carried, dict[str, Tensor | None]()
    for name in ("attention", "mlp"):
        part = getattr(block, name, None)
        parts |= {f"{name}.{key}": getattr(part, key, None) for key in ("inputs", "outputs")}
    parts |= {"residual": view.residual, "gate": getattr(block, "gate", None)}
    found = {key: None if one is None else one[row, :probes] for key, one in parts.items()}
    if view.attention is not None:
        found["attention"] = view.attention[row, :, :probes, :n]
        found["visible"] = view.visible[row, :probes, :n]
    found["values"] = None if carried is None else carried.values[row, :, :n]
    found["context"] = None if view.context is None else view.context[row, :n]
    return found | {"typical": view.typical[row]}


# learned positions; rotary, grouped heads; windows; soft caps and windows; mixtures with learned scores
@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma2", "gpt_oss"])
def test_layers_show_what_they_show_of_each_prompt_alone(name: str, tmp_path: Path, tokenizer: Any) -> None:
    model = _model(name, tmp_path, tokenizer)
    # inside what is shared, and at the end
    encoded = [model.encode(one, position=position) for one, position in zip(PROMPTS, WHERE, strict=True)]
    assert _running(model, encoded) < 0.7 * sum(len(one.token_ids) for one in encoded)
    together = _views(model, encoded)
    for row, one in enumerate(encoded):
        size = row, len(one.token_ids), len(one.positions)
        for view, alone in zip(together, _views(model, [one]), strict=True):
            shown, truth = _shown(view, *size), _shown(alone, 0, *size[1:])
            assert {key for key, value in shown.items() if value is None} <= {*MISSING, "context", "values"}
            for key, value in truth.items():
                torch.testing.assert_close(shown[key], value, atol=1e-4, rtol=1e-5, msg=key)


def _assert_alone(session: Session) -> None:
    """Tables of prompts that begin alike are those of each alone."""
    encoded = session.encode_all(PROMPTS[:3])
    assert session.model.shares([one.token_ids for one in encoded])
    together = measure_together(session, encoded)
    for one in encoded[:2]:
        alone = measure_together(session, [one])
        rows = pc.field("prompt_id") == one.prompt_id
        _assert_equal(_frames({name: together[name].filter(rows) for name in alone}), _frames(alone))


def test_every_table_is_that_of_each_prompt_alone(tmp_path: Path, tokenizer: Any) -> None:
    model = _model("gpt_oss", tmp_path, tokenizer)
    options = TraceOptions(tables=TABLES, rollout=True, attention_of=("2.1",))
    _assert_alone(Session(model, options, compiled=False))


def test_chains_are_those_of_each_prompt_alone(tmp_path: Path, tokenizer: Any) -> None:
    model = _model("gpt2", tmp_path, tokenizer)
    _assert_alone(Session(model, TraceOptions(tables=(*DENSE, *SAMPLED), position="all"), compiled=False))


def test_a_lens_and_its_controls_are_those_of_each_prompt_alone(own: Any, random_lens: str) -> None:
    options = TraceOptions(tables=(*DENSE, *SAMPLED, "controls", "regimes"), lens=random_lens)
    _assert_alone(Session(own, options, compiled=False))


# state spaces, short convolutions, and attention that is not transformers' own
@pytest.mark.parametrize("name", ["bamba", "lfm2", "bloom"])
def test_where_tokens_meet_outside_attention_nothing_is_shared(
    name: str, tmp_path: Path, tokenizer: Any
) -> None:
    model = _model(name, tmp_path, tokenizer)
    encoded = [model.encode(one) for one in PROMPTS]
    assert not model.packs
    assert _running(model, encoded) == len(encoded) * max(len(one.token_ids) for one in encoded)


def test_what_may_act_on_places_runs_prompt_by_prompt(own: Any) -> None:
    encoded = [own.encode(one) for one in PROMPTS]
    padded = len(encoded) * max(len(one.token_ids) for one in encoded)
    assert _running(own, encoded) < padded
    assert _running(own.intervened([Ablate("1.1", "zero")]), encoded) == padded
    shapes: list[torch.Size] = []
    inside = next(iter(own.bridge.blocks)).original_component
    handle = inside.register_forward_pre_hook(lambda _module, args: shapes.append(args[0].shape[:2]))
    try:  # of the user's own: it sees the prompts that were asked for
        assert _running(own, encoded) == padded
    finally:
        handle.remove()
    with own.bridge.hooks([("blocks.1.hook_out", lambda value, hook: None)]):
        assert _running(own, encoded) == padded
    with own.whole():
        assert _running(own, encoded) == padded
    assert _running(own, encoded) < padded
    assert shapes == [Batch.of(encoded).ids.shape]


class _Full(Metric):
    """Has memory for few prompts."""

    def __init__(self, batch: Batch, _settings: Any) -> None:
        if len(batch.encoded) > 2:
            raise torch.OutOfMemoryError
        self.batch = batch

    def finish(self) -> dict[str, Any]:
        return {}


def test_passes_keep_the_order_of_prompts_and_halve_without_memory(own: Any) -> None:
    session = Session(own, TraceOptions(tables=("lens", "attention")), compiled=False)
    asked = [
        Prompt(f"{one.text}{end}", id=f"{one.id}{end}") for end in ("", " now", " then") for one in PROMPTS
    ]
    encoded = session.encode_all(asked)
    ids = [one.prompt_id for one in encoded]

    def run(*extra: Any) -> tuple[Passes, dict[str, Any]]:
        passes = Passes(session, extra=extra)
        passes.run(encoded, 4, little=0)
        return passes, passes.tables(ids)

    passes, tables = run()
    assert passes.tokens == sum(len(one.token_ids) for one in encoded)
    assert list(dict.fromkeys(tables["lens"]["prompt_id"].to_pylist())) == ids
    _, again = run()
    assert all(table.equals(again[name]) for name, table in tables.items())
    _, halved = run(_Full)
    _assert_equal(_frames(halved), _frames(tables))

"""Every family against Hugging Face eager on the same weights: attention rows, residuals, logits, windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from elimtool.model.loading import load_hugging_face, load_model
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Prompt
from tests.families import FAMILIES, WINDOW, save
from tests.metrics.invariants import assert_changes_do_nothing, assert_sums
from tests.model.carried import assert_carried, updates

TEXT = "The capital of France is Paris, and a token is eliminated."

WINDOWED = {
    "mistral": [True] * 4,
    "qwen2": [False, False, True, True],
    "gemma2": [True, False, True, False],
    "gemma3": [True, True, False, True],
    "gemma3_images": [True, True, False, True],
    "gpt_oss": [True, False, True, False],
    "starcoder2": [True] * 4,
}
"""Which layers have a sliding window; every layer of the other families sees the whole prompt."""


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory: Path = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    plain = load_hugging_face(request.param, directory, "float32", False)
    return request.param, load_model(str(directory)), plain


def _views(model: Any) -> tuple[Batch, list[LayerView]]:
    batch = Batch.of([model.encode(Prompt(text=TEXT), position="all")])
    views: list[LayerView] = []
    model.stream(batch, {"attention"}, views.append)
    return batch, views


def test_activations_equal_hugging_face(loaded: Any) -> None:
    _, model, plain = loaded
    batch, views = _views(model)
    with torch.inference_mode():
        truth = plain(input_ids=batch.ids, output_attentions=True, output_hidden_states=True)
    assert [view.layer for view in views] == list(range(-1, model.n_layers))
    for view in views[1:]:
        torch.testing.assert_close(view.attention[0], truth.attentions[view.layer][0], atol=1e-5, rtol=0)
    for view in views[:-1]:
        torch.testing.assert_close(
            view.residual[0], truth.hidden_states[view.layer + 1][0], atol=1e-4, rtol=1e-5
        )
    torch.testing.assert_close(model.readout(views[-1].residual[0]), truth.logits[0], atol=1e-4, rtol=0)


def test_attention_is_far_from_uniform_and_the_windows_are_seen(loaded: Any) -> None:
    family, model, _ = loaded
    _, views = _views(model)
    n = views[0].batch.ids.shape[1]
    assert n > 2 * WINDOW
    query, key = torch.arange(n)[:, None], torch.arange(n)[None, :]
    for view, windowed in zip(views[1:], WINDOWED.get(family, [False] * 4), strict=True):
        expected = (key <= query) & (key > query - WINDOW) if windowed else key <= query
        assert torch.equal(view.visible[0], expected)
        assert bool((view.attention[0][:, ~expected] == 0).all())
        if family == "gpt_oss":  # its heads also give weight to a learned score without a key
            assert bool((view.attention.sum(-1) < 0.999).any())
        else:
            torch.testing.assert_close(view.attention.sum(-1), torch.ones(1, 4, n), atol=1e-5, rtol=0)
    assert float(views[2].attention[0, :, -1].max()) > 3 / n


def test_what_heads_carry_sums_to_hugging_faces_update(loaded: Any) -> None:
    _, model, plain = loaded
    batch = Batch.of([model.encode(Prompt(text=TEXT), position="all")])
    views: list[LayerView] = []
    model.stream(batch, {"attention", "block", "values"}, views.append)
    assert all(view.carried is not None for view in views[1:])
    assert_carried(views, updates(plain, model.block_names, batch.ids), ())
    assert_changes_do_nothing(views)


def test_shares_of_weights_norms_and_contributions_sum_to_one(loaded: Any) -> None:
    assert_sums(loaded[1], "A cat is here")


def test_raw_lens_reads_as_the_model_itself_would(loaded: Any) -> None:
    """A model cut off after layer 1 gives the same logits as the readout of layer 1."""
    _, model, plain = loaded
    batch, views = _views(model)
    layers = _layers(plain)
    kept = list(layers)
    try:
        del layers[2:]
        plain.config.get_text_config().num_hidden_layers = 2
        with torch.inference_mode():
            truth = plain(input_ids=batch.ids, use_cache=False).logits[0]
    finally:
        layers.extend(kept[2:])
        plain.config.get_text_config().num_hidden_layers = 4
    torch.testing.assert_close(model.readout(views[2].residual[0]), truth, atol=1e-4, rtol=0)


def _layers(plain: Any) -> Any:
    bodies = ("model", "model.language_model", "model.decoder", "gpt_neox")
    for path in ("transformer.h", *(f"{body}.layers" for body in bodies)):
        found: Any = plain
        for part in path.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise AssertionError("no layers")

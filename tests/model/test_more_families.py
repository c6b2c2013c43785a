"""More families against hooks on plain Hugging Face models, or a documented null where there is no number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import elimtool
from elimtool import TraceOptions
from elimtool.errors import ElimError
from elimtool.model.architectures import supported_architectures
from elimtool.model.interventions import Ablate, Intervention, Knockout
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.model.verify import plain_activations
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Prompt, SpanRequest
from elimtool.tasks.attribute.options import AttributeOptions
from tests.families import FAMILIES, save
from tests.metrics.invariants import assert_changes_do_nothing, assert_sums
from tests.metrics.test_sources import sums_agree
from tests.model.carried import assert_carried, updates
from tests.more_families import ALIKE, IMAGES, LIMITS, MORE, WHOLE, Limits

whole = pytest.mark.parametrize("loaded", WHOLE, indirect=True, scope="module")

TEXT = "The capital of France is Paris"
LAYER, HEAD = 1, 2

PROJECTIONS = ("o_proj", "out_proj", "dense", "c_proj", "resid_out")
MLPS = ("mlp", "feed_forward", "block_sparse_moe", "moe", "ffn", "shared_mlp", "mixer", "fc2")
BEHIND = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_mlp_norm", "post_moe_norm")


@pytest.fixture(scope="module", params=sorted(MORE))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    limits = LIMITS.get(request.param, Limits())
    try:
        directory: Path = save(request.param, tmp_path_factory.mktemp("family"), tokenizer)
        model = load_model(str(directory))
    except (ElimError, ImportError) as error:
        assert limits.refused and limits.refused in str(error)
        pytest.skip(f"refused: {limits.refused}")
    if limits.refused.startswith("pip"):
        pytest.skip("the package is here, and the family was compared without it")
    return limits, model, load_hugging_face(request.param, directory, "float32", False)


def batch_of(model: Any) -> Batch:
    return Batch.of([model.encode(Prompt(text=TEXT), position="all", sinks="none")])


def found(model: Any, batch: Batch, *interventions: Intervention) -> list[LayerView]:
    views: list[LayerView] = []
    model.intervened(interventions).stream(batch, {"attention"}, views.append)
    return views


def test_states_equal_hooks_on_hugging_face(loaded: Any) -> None:
    limits, model, plain = loaded
    batch = batch_of(model)
    if limits.refused:
        with pytest.raises(ElimError, match=limits.refused):
            elimtool.trace(model, TEXT, targets=[" is"])
        return
    views = found(model, batch)
    truth = plain_activations(plain, model.block_names, batch.ids)
    assert [view.layer for view in views] == list(range(-1, model.n_layers)) == sorted(truth.residual)
    assert float(truth.residual[model.n_layers - 1].abs().max()) > 0.1
    for view in views:
        scale = max(1.0, float(truth.residual[view.layer].abs().max()))
        torch.testing.assert_close(view.residual[0], truth.residual[view.layer], atol=1e-4 * scale, rtol=0)
    weights = {view.layer: view.attention[0] for view in views if view.attention is not None}
    expected = range(model.n_layers) if limits.attention is None else limits.attention
    assert tuple(weights) == tuple(expected) == model.attending
    assert set(weights) <= set(truth.attention)
    for layer, ours in weights.items():
        torch.testing.assert_close(ours, truth.attention[layer].to(ours.dtype), atol=2e-5, rtol=0)
    assert {view.no_weights for view in views if view.layer >= 0} - {None} == set(limits.no_weights)
    logits = model.readout(views[-1].residual[0])
    torch.testing.assert_close(logits, truth.logits, atol=1e-4 * float(truth.logits.abs().max()), rtol=0)


def test_what_heads_carry_sums_to_hugging_faces_update(loaded: Any) -> None:
    limits, model, plain = loaded
    if limits.refused:
        return
    batch = batch_of(model)
    views: list[LayerView] = []
    model.stream(batch, {"attention", "block", "values"}, views.append)
    assert_carried(views, updates(plain, model.block_names, batch.ids), limits.uncarried)
    assert_changes_do_nothing(views)


@whole
def test_shares_of_weights_norms_and_contributions_sum_to_one(loaded: Any) -> None:
    assert_sums(loaded[1], "A cat is here")


@whole
def test_parts_sum_to_hugging_faces_logit_or_say_why_not(loaded: Any) -> None:
    limits, model, plain = loaded
    options = TraceOptions(
        heads=True,
        samplers=(),
        sinks="none",
        tables=("attention_layers", "mechanisms", "components", "sources", "source_spans"),
    )
    run = elimtool.trace(model, TEXT, targets=[" is"], options=options)
    layers = run.table("attention_layers")
    assert set(layers["no_weights"].dropna()) == set(limits.no_weights)
    assert layers["layer"].tolist() == list(range(model.n_layers))
    assert layers["entropy"].isna().tolist() == layers["no_weights"].notna().tolist()
    why = set(run.table("mechanisms")["undecomposed"].dropna())
    assert why == set(limits.undecomposed)
    spans = run.table("source_spans")
    unsplit = set(spans["undecomposed"].dropna())
    assert len(spans) and spans["dla"].isna().all() == bool(unsplit)
    if why:
        assert "components" not in run.tables or run.table("components").empty
        assert unsplit
        return
    if not unsplit:
        sums_agree(run)
    table = run.table("components")
    token = model.encode(Prompt(text=TEXT, targets=(" is",))).targets[0].token_id
    cap = getattr(plain.config.get_text_config(), "final_logit_softcapping", None)
    with torch.inference_mode():
        truth = float(plain(input_ids=batch_of(model).ids).logits[0, -1, token])
    if cap:
        truth = cap * float(np.arctanh(truth / cap))
    np.testing.assert_allclose(table["dla"].sum(), truth, atol=2e-4 * max(1.0, abs(truth)))


@whole
def test_ablations_equal_a_hook_by_hand(loaded: Any) -> None:
    limits, model, plain = loaded
    batch = batch_of(model)
    layer = LAYER if limits.attention is None else (limits.attention or (LAYER,))[-1]
    untouched = logits_of(plain, batch)
    head = HEAD if model.attending else 0  # state spaces name one head
    cases = ((f"{layer}.{head}", limits.heads, head_cut), (f"mlp.{layer}", limits.mlp, mlp_cut))
    for component, refused, by_hand in cases:
        if refused:
            with pytest.raises(ElimError, match=refused):
                found(model, batch, Ablate(component, "zero"))
            continue
        with by_hand(plain.get_submodule(model.block_names)[layer], model.n_heads):
            expected = logits_of(plain, batch)
        scale = float(untouched.abs().max())
        assert float((expected - untouched).abs().max()) > 1e-3 * scale, component
        ours = model.readout(found(model, batch, Ablate(component, "zero"))[-1].residual[0])
        torch.testing.assert_close(ours, expected, atol=1e-4 * scale, rtol=0)


def logits_of(plain: Any, batch: Batch) -> Tensor:
    with torch.inference_mode():
        out: Tensor = plain(input_ids=batch.ids, use_cache=False).logits[0]
    return out


@contextmanager
def head_cut(block: Any, n_heads: int) -> Iterator[None]:
    """Zero one head where it enters the output projection of the block's attention."""
    attention = next(one for one in block.modules() if hasattr(one, "num_key_value_groups") or is_old(one))
    projection = next(getattr(attention, name) for name in PROJECTIONS if hasattr(attention, name))

    def cut(_module: Any, args: Any) -> Any:
        x = args[0].clone()
        size = x.shape[-1] // n_heads if x.ndim == 3 else 0
        x[..., HEAD * size : HEAD * size + size] = 0
        return (x, *args[1:])

    with projection.register_forward_pre_hook(cut):
        yield


def is_old(module: Any) -> bool:
    """Whether a module is an attention of a family that transformers has not yet rewritten."""
    name = type(module).__name__
    return "Attention" in name and any(hasattr(module, one) for one in PROJECTIONS)


@contextmanager
def mlp_cut(block: Any, n_heads: int) -> Iterator[None]:
    """Zero what the block's MLP adds."""
    del n_heads
    module = next(getattr(block, name) for name in (*BEHIND, *MLPS) if hasattr(block, name))

    def cut(_module: Any, _inputs: Any, out: Any) -> Any:
        return (torch.zeros_like(out[0]), *out[1:]) if isinstance(out, tuple) else torch.zeros_like(out)

    with module.register_forward_hook(cut):
        yield


@whole
def test_a_knockout_cuts_the_edges_that_there_are(loaded: Any) -> None:
    limits, model, _ = loaded
    batch = Batch.of([model.encode(Prompt(text=TEXT), position="last", sinks="none")])
    near = len(batch.encoded[0].token_ids) - 3  # inside every window
    name, key = next((one.name, one.tokens) for one in batch.encoded[0].spans if one.tokens == (near,))
    if limits.attention == ():
        with pytest.raises(ElimError, match="no attention weights"):
            found(model, batch, Knockout(name))
        return
    before, after = found(model, batch), found(model, batch, Knockout(name))
    first = model.attending[0]
    # in the first layer the scores are the same: what the span got is shared out among the rest
    whole = before[first + 1].attention[0].index_fill(-1, torch.tensor(key), 0.0)
    total = before[first + 1].attention[0].sum(-1, keepdim=True)
    torch.testing.assert_close(
        after[first + 1].attention[0], whole / whole.sum(-1, keepdim=True) * total, atol=2e-5, rtol=1e-4
    )
    for layer in model.attending:
        assert float(after[layer + 1].attention[0][..., list(key)].abs().max()) == 0
    assert float((after[-1].residual - before[-1].residual).abs().max()) > 1e-4


@whole
def test_a_knockout_equals_a_mask_by_hand(loaded: Any) -> None:
    """Against transformers' eager attention with an explicit additive mask [1, 1, queries, keys]."""
    limits, model, plain = loaded
    if limits.attention == ():
        pytest.skip("no attention weights, and the knockout is refused")
    one = model.encode(Prompt(text="Txyzw", spans=(SpanRequest("s", "xy"),)), position="last", sinks="none")
    batch, n = Batch.of([one]), len(one.token_ids)
    span = next(span.tokens for span in one.spans if span.name == "s")
    assert (n, span) == (5, (1, 2))  # inside every window
    hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
    hidden[max(span) + 1 :, list(span)] = True
    mask = torch.zeros(n, n).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]
    with torch.inference_mode():
        truth = plain(input_ids=batch.ids, attention_mask=mask, use_cache=False).logits[0]
    ours = model.readout(found(model, batch, Knockout("s", None, "later"))[-1].residual[0])
    torch.testing.assert_close(ours, truth[-1:], atol=1e-4, rtol=0)
    assert float((truth - logits_of(plain, batch))[-1].abs().max()) > 0.1


def test_families_that_are_tested_less_have_the_hooks_of_another() -> None:
    from transformers.models.auto import modeling_auto as auto

    def hooks(family: str) -> type:
        kind = {**FAMILIES, **MORE}[family]().model_type
        shells = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        name = shells[kind] if family in IMAGES else auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]
        found: type = supported_architectures()[name]
        return found

    for family, other in ALIKE.items():
        assert other in {*FAMILIES, *WHOLE}
        assert shared(hooks(family), hooks(other)), (family, hooks(family).__mro__, other)


def shared(one: type, other: type) -> bool:
    """Whether one adapter is derived from the other, or both from one that says how their blocks look."""
    from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter

    return any(
        issubclass(other, base)
        for base in one.__mro__
        if issubclass(base, ArchitectureAdapter) and base is not ArchitectureAdapter
    )


@pytest.mark.parametrize(("family", "left"), [("mamba", ()), ("bamba", ("knockout",))])
def test_attribution_without_attention_says_what_it_leaves_out(
    family: str, left: tuple[str, ...], tmp_path: Path, tokenizer: Any
) -> None:
    model = load_model(str(save(family, tmp_path, tokenizer)))
    run = elimtool.attribute(model, TEXT, targets=[" is"])
    assert run.table("attribution_methods")["method"].tolist() == ["leave-one-out", "contextcite"]
    assert any("do not have" in one or "no layer has" in one for one in run.manifest.config["notes"])
    options = AttributeOptions(methods=("knockout",), windows=4)
    if not left:
        with pytest.raises(ElimError, match="have no attention weights") as caught:
            elimtool.attribute(model, TEXT, targets=[" is"], options=options)
        assert "contextcite" in caught.value.hint and "knockout" not in caught.value.hint
        return
    cut = elimtool.attribute(model, TEXT, targets=[" is"], options=options).table("attributions")
    first = cut["first_layer"].dropna().unique().tolist()
    assert first == [1, 3]  # windows of one layer each: those without attention have nothing to cut


def test_the_page_of_models_is_current() -> None:
    script = Path(__file__).parents[2] / "scripts" / "make_model_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_hooks_by_hand_give_what_transformers_lists(llama_directory: Path) -> None:
    plain = load_hugging_face("llama", llama_directory, "float32", False)
    ids = torch.arange(20)[None]
    found = plain_activations(plain, "model.layers", ids)
    with torch.inference_mode():
        listed = plain(input_ids=ids, output_attentions=True, output_hidden_states=True)
    for layer, weights in enumerate(listed.attentions):
        assert torch.equal(found.attention[layer], weights[0])
    for layer, residual in enumerate(listed.hidden_states[:-1], start=-1):
        assert torch.equal(found.residual[layer], residual[0])
    assert torch.equal(found.logits, listed.logits[0])

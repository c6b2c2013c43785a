"""Interventions on every family against plain Hugging Face with a hook or a mask of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from elimtool.model.interventions import Ablate, Intervention, Knockout, Patch, Scale
from elimtool.model.interventions.recording import record
from elimtool.model.interventions.reference import ReferenceActivations
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Prompt, SpanRequest
from tests.families import FAMILIES, WINDOW, save

TEXT = "The capital of France is Paris"
HEADS, LAYER, HEAD = 4, 1, 2

PROJECTIONS = ("o_proj", "out_proj", "dense", "c_proj")
MLPS = ("down_proj", "c_proj", "dense_4h_to_h", "fc2")


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory: Path = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    plain = load_hugging_face(request.param, directory, "float32", False)
    return load_model(str(directory)), plain


def logits(model: Any, batch: Batch, *interventions: Intervention, reference: Any = None) -> Tensor:
    """The model's logits at all positions of the first prompt, under interventions."""
    views: list[LayerView] = []
    model.intervened(interventions, reference).stream(batch, (), views.append)
    return model.readout(views[-1].residual[0])


@contextmanager
def hooked(module: Any, before: Callable[..., Any] | None = None, after: Any = None) -> Iterator[None]:
    handle = (
        module.register_forward_pre_hook(lambda _m, args: (before(args[0]), *args[1:]))
        if before
        else module.register_forward_hook(
            lambda _m, _i, out: (after(out[0]), *out[1:]) if isinstance(out, tuple) else after(out)
        )
    )
    try:
        yield
    finally:
        handle.remove()


def _blocks(plain: Any) -> Any:
    for path in (
        "model.layers",
        "model.language_model.layers",
        "model.decoder.layers",
        "transformer.h",
        "gpt_neox.layers",
    ):
        found: Any = plain
        for part in path.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise AssertionError("no layers")


def _projection(plain: Any) -> Any:
    """The output projection of the layer's attention."""
    block = _blocks(plain)[LAYER]
    names = ("self_attn", "attn", "attention", "self_attention")
    attention = next(getattr(block, name) for name in names if hasattr(block, name))
    return next(getattr(attention, name) for name in PROJECTIONS if hasattr(attention, name))


def _mlp(plain: Any) -> Any:
    """The module whose output the layer adds to its residual stream: a norm, or the MLP's last projection."""
    block = _blocks(plain)[LAYER]
    if hasattr(block, "post_feedforward_layernorm"):
        return block.post_feedforward_layernorm
    mlp = getattr(block, "mlp", block)
    found = (getattr(mlp, name) for name in MLPS if hasattr(mlp, name))
    return next(found, mlp)  # of a mixture of experts the whole layer


def _batch(model: Any, text: str = TEXT, sinks: str = "none") -> Batch:
    return Batch.of([model.encode(Prompt(text=text), position="all", sinks=sinks)])


def _truth(plain: Any, batch: Batch, **options: Any) -> Tensor:
    with torch.inference_mode():
        out: Tensor = plain(input_ids=batch.ids, use_cache=False, **options).logits[0]
    return out


def _filled(x: Tensor, part: slice, value: Any, start: int = 0) -> Tensor:
    x = x.clone()
    x.reshape(-1, x.shape[-1])[start:, part] = value
    return x


def _reference(model: Any, size: int) -> ReferenceActivations:
    """A made-up reference: one mean for every head and MLP."""
    from elimtool.model.interventions.edits import Site

    dice = torch.Generator().manual_seed(3)
    sites = [Site(layer, kind) for layer in range(model.n_layers) for kind in ("heads", "mlp")]
    means = {site: torch.randn(size, generator=dice) for site in sites}
    samples = {site: torch.randn(5, size, generator=dice) for site in sites}
    return ReferenceActivations(HEADS, means, samples, {})


def test_ablating_and_scaling_equal_a_hook_by_hand(loaded: Any) -> None:
    model, plain = loaded
    batch = _batch(model)
    projection, mlp = _projection(plain), _mlp(plain)
    head = slice(HEAD * 8, HEAD * 8 + 8)
    reference = _reference(model, 32)
    means = {site.kind: mean for site, mean in reference.means.items() if site.layer == LAYER}
    cases: list[tuple[Intervention, Any]] = [
        (Ablate("1.2", "mean"), hooked(projection, before=lambda x: _filled(x, head, means["heads"][head]))),
        (Scale("1.2", -1.5), hooked(projection, before=lambda x: _filled(x, head, -1.5 * _rows(x, head)))),
        (Ablate("mlp.1", "mean"), hooked(mlp, after=lambda x: _filled(x, slice(None), means["mlp"]))),
        (Scale("mlp.1", 0.5), hooked(mlp, after=lambda x: x * 0.5)),
    ]
    untouched = _truth(plain, batch)
    for intervention, by_hand in cases:
        with by_hand:
            expected = _truth(plain, batch)
        assert float((expected - untouched).abs().max()) > 0.01, str(intervention)
        found = logits(model, batch, intervention, reference=reference)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def _rows(x: Tensor, part: slice) -> Tensor:
    return x.reshape(-1, x.shape[-1])[:, part]


def test_sinks_are_left_as_they_are(loaded: Any) -> None:
    model, plain = loaded
    batch = _batch(model, sinks="auto")
    head = slice(HEAD * 8, HEAD * 8 + 8)
    with hooked(_projection(plain), before=lambda x: _filled(x, head, 0.0, start=1)):
        expected = _truth(plain, batch)
    found = logits(model, batch, Ablate("1.2", "zero"))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0], _truth(plain, batch)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("origin", ["last", "later"])
def test_knockout_equals_a_mask_by_hand(loaded: Any, origin: str) -> None:
    model, plain = loaded
    prompt = Prompt(text="Txyzw", spans=(SpanRequest("s", "xy"),))
    one = model.encode(prompt, position="last", sinks="none")
    batch = Batch.of([one])
    n = len(one.token_ids)
    span = next(span.tokens for span in one.spans if span.name == "s")
    assert n == 5 <= WINDOW and span == (1, 2)
    hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
    rows = [n - 1] if origin == "last" else [i for i in range(n) if i not in span and i > max(span)]
    for row in rows:
        hidden[row, list(span)] = True
    mask = torch.zeros(n, n).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]
    if plain.config.model_type in (
        "bloom",
        "opt",
    ):  # they build their positions from the mask: it must be 2-D
        whole, cut = _pattern(model, batch), _pattern(model, batch, Knockout("s", (0, 0), origin))
        whole = whole.index_fill(-1, torch.tensor(span), 0.0)
        torch.testing.assert_close(cut, whole / whole.sum(-1, keepdim=True), atol=1e-6, rtol=0)
        return
    expected = _truth(plain, batch, attention_mask=mask)[-1:]
    assert float((expected - _truth(plain, batch)[-1:]).abs().max()) > 0.01
    found = logits(model, batch, Knockout("s", None, origin))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def _pattern(model: Any, batch: Batch, *interventions: Intervention) -> Tensor:
    """Attention weights of the first layer at the probed positions."""
    views: list[LayerView] = []
    model.intervened(interventions).stream(batch, {"attention"}, views.append)
    attention: Tensor = views[1].attention
    return attention


def test_patching_a_run_with_itself_and_with_another(loaded: Any, tmp_path: Path) -> None:
    model, _ = loaded
    batch, other = _batch(model), _batch(model, TEXT.replace("France", "Frankl"))
    if batch.ids.shape != other.ids.shape:
        other = _batch(model, TEXT[:-1] + "t")
    assert batch.ids.shape == other.ids.shape and not torch.equal(batch.ids, other.ids)
    own, its = tmp_path / "own.safetensors", tmp_path / "its.safetensors"
    record(model, batch.encoded[0]).save(own)
    record(model, other.encoded[0]).save(its)
    untouched = logits(model, batch)
    assert torch.equal(logits(model, batch, Patch(str(own))), untouched)
    part = logits(model, batch, Patch(str(its), ("residual.2",)))
    assert torch.equal(part, logits(model, other)) and not torch.equal(part, untouched)
    some = logits(model, batch, Patch(str(its), ("1.2", "mlp.1:4-5")))
    # experts run the tokens that chose them together, which rounds them otherwise when others choose
    torch.testing.assert_close(some[:3], untouched[:3], atol=1e-4 if model.has_experts else 0, rtol=0)
    assert not torch.allclose(some, untouched, atol=1e-3)

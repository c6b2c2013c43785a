"""Mixtures of experts of every family of the matrix: rows as Hugging Face routes, or a reason for none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.errors import ElimError
from elimtool.model.interventions import Ablate, Scale
from elimtool.model.loading import load_hugging_face, load_model
from tests.families import FAMILIES, MIXTURES, save
from tests.more_families import EXPERTS, IMAGES, LIMITS, MORE, Limits

TEXT = "The capital of France is"
OPTIONS = TraceOptions(
    position="all",
    samplers=(),
    sinks="none",
    lens="raw",
    heads=True,
    tables=("experts", "expert_components", "components", "mechanisms"),
)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama4_top2": ("llama4_text", {"num_experts_per_tok": 2}),
    "nemotron_moe": (
        "nemotron_h",
        {"layers_block_type": ["linear_attention", "moe", "mlp", "full_attention"]},
    ),
    "nemotron_latent": (
        "nemotron_h",
        {"layers_block_type": ["linear_attention", "moe", "mlp", "full_attention"], "moe_latent_size": 12},
    ),
    "gemma4_moe": (
        "gemma4_text",
        {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16},
    ),
}
"""Families with mixtures that the matrix has without."""

READ = sorted(
    {name for name, why in EXPERTS.items() if not why} - set(MIXTURES) | set(VARIANTS) - {"gemma4_moe"}
)
UNREAD = {**{name: why for name, why in EXPERTS.items() if why}, "gemma4_moe": "Gemma4TextExperts"}


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Any) -> Callable[[str], Path]:
    def written(name: str) -> Path:
        family, changes = VARIANTS.get(name, (name, {}))
        return save(family, tmp_path, tokenizer, **changes)

    return written


def routed(plain: Any, ids: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """What each mixture of a plain Hugging Face model was given and gave: router's output, experts' call."""
    found: list[dict[str, Any]] = []
    handles = []
    for module in plain.modules():
        if not hasattr(module, "experts"):
            continue
        found.append(seen := {})
        router = getattr(module, "router", None) or module.gate
        handles += [
            router.register_forward_hook(lambda _m, _a, out, s=seen: s.update(router=out)),
            module.experts.register_forward_pre_hook(lambda _m, args, s=seen: s.update(call=args)),
        ]
    with torch.inference_mode():
        plain(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return [one for one in found if one]


def expected(seen: dict[str, Any], top_k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, choice as a mask and weights [tokens, experts] of one mixture of Hugging Face's."""
    router, call = seen["router"], seen["call"]
    if len(call) == 1:  # Llama 4: of the router's two outputs the second is its logits
        logits = router[1]
        chosen = logits >= logits.topk(top_k, -1).values[:, -1:]
        return logits, chosen, logits.sigmoid() * chosen
    logits = router[0] if isinstance(router, tuple) else router
    logits = logits.reshape(-1, logits.shape[-1])
    _, index, weights = call
    chosen = torch.zeros(logits.shape, dtype=torch.bool).scatter(-1, index, True)
    return logits, chosen, torch.zeros(logits.shape).scatter(-1, index, weights.float())


@pytest.mark.parametrize("name", READ)
def test_rows_are_what_hugging_face_routes(name: str, saved: Callable[[str], Path]) -> None:
    family, changes = VARIANTS.get(name, (name, {}))
    directory = saved(name)
    run = elimtool.trace(load_model(str(directory)), TEXT, targets=["Paris"], options=OPTIONS)
    plain = load_hugging_face(family, directory, "float32", False)
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    truth = routed(plain, ids)
    table = run.table("experts")
    layers = sorted(set(table["layer"]))
    assert len(layers) == len(truth) > 0
    config = plain.config.get_text_config()
    top_k = changes.get("num_experts_per_tok", getattr(config, "num_experts_per_tok", 1))
    for layer, seen in zip(layers, truth, strict=True):
        rows = table[table["layer"] == layer]
        logits, chosen, weights = expected(seen, top_k)
        shape = logits.shape
        np.testing.assert_allclose(rows["router_logit"].to_numpy().reshape(shape), logits, atol=1e-4)
        assert (rows["chosen"].to_numpy().reshape(shape) == chosen.numpy()).all()
        np.testing.assert_allclose(
            rows["weight"].fillna(0).to_numpy().reshape(shape), weights * chosen, atol=1e-5
        )
    assert table["unsplit"].isna().all()
    if "components" not in run.tables:  # a layer of another kind: then no logit is split, and that is said
        assert run.table("mechanisms")["undecomposed"].notna().any()
        return
    keys = ["position", "target", "layer"]
    parts = run.table("expert_components")
    branch = run.table("components")
    branch = branch[branch["kind"] == "mlp"].set_index(keys)["dla"]
    sums = parts.groupby(keys)["dla"].sum()
    np.testing.assert_allclose(sums, branch[sums.index], atol=1e-4)


@pytest.mark.parametrize("name", sorted(UNREAD))
def test_mixtures_that_cannot_be_read_are_refused_with_the_reason(
    name: str, saved: Callable[[str], Path]
) -> None:
    model = load_model(str(saved(name)))
    for table in ("experts", "expert_components"):
        with pytest.raises(ElimError, match=UNREAD[name]):
            elimtool.trace(model, TEXT, options=replace(OPTIONS, tables=(table,)))
    assert "experts" not in elimtool.trace(model, TEXT, options=replace(OPTIONS, tables=None)).tables


def test_no_family_with_experts_is_left_out() -> None:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    mixed = set()
    for name, build in {**FAMILIES, **MORE}.items():
        loader = AutoModelForImageTextToText if name in IMAGES else AutoModelForCausalLM
        if LIMITS.get(name, Limits()).refused:
            continue
        config = build()
        config.pad_token_id = None
        with torch.device("meta"):
            plain = loader.from_config(config)
        if any(type(one).__name__.endswith("Experts") for one in plain.modules()):
            mixed.add(name)
    assert mixed == set(EXPERTS) >= set(MIXTURES)


def test_an_expert_of_llama_4_is_knocked_out_and_not_scaled(saved: Callable[[str], Path]) -> None:
    """Against plain Hugging Face with the expert's down projection 0."""
    directory = saved("llama4_top2")
    model, plain = load_model(str(directory)), load_hugging_face("llama4_text", directory, "float32", False)
    run = elimtool.trace(model, TEXT, options=OPTIONS)
    table = run.table("experts")
    expert = int(table[(table["layer"] == 3) & table["chosen"]]["expert"].mode()[0])
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    with torch.inference_mode():
        own = plain(input_ids=ids).logits[0, -1]
        plain.model.layers[3].feed_forward.experts.down_proj[expert] = 0
        truth = plain(input_ids=ids).logits[0, -1]
    assert float((truth - own).abs().max()) > 1e-3
    cut = (Ablate.parse(f"expert.3.{expert}"),)
    options = replace(OPTIONS, tables=("top_tokens", "experts", "expert_components"), interventions=cut)
    found = elimtool.trace(model, TEXT, targets=["Paris"], options=options)
    tops = found.table("top_tokens")
    tops = tops[tops["intervention"].notna() & (tops["position"] == ids.shape[1] - 1)]
    ours = tops.set_index("token_id")["logprob"]
    np.testing.assert_allclose(ours, truth.log_softmax(-1).numpy()[ours.index.to_numpy()], atol=1e-4)
    under = found.table("experts")
    mine = under[under["intervention"].notna() & (under["layer"] == 3) & (under["expert"] == expert)]
    assert set(mine.loc[mine["chosen"], "weight"]) == {0} and mine["unsplit"].isna().all()
    with pytest.raises(ElimError, match="what its experts read, not what they write"):
        elimtool.trace(
            model, TEXT, options=replace(OPTIONS, interventions=(Scale.parse(f"expert.3.{expert}=0.5"),))
        )

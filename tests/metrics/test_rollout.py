"""Rollout, against the formula in NumPy on plain Hugging Face states, and what holds for any model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.metrics import rollout
from elimtool.model.interventions import Knockout
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.prompts.prompt import SpanRequest
from tests.families import save
from tests.model.carried import attention_of, norm_behind, projection_of

TEXT = "The capital of France is a token"
ROLLED = TraceOptions(
    position="2,-1", samplers=(), lens="raw", sinks="none", rollout=True, tables=("rollout", "attention")
)
FAMILIES = ("llama", "gpt_neox", "mistral", "gemma2", "granite")
"""Grouped keys; parallel blocks with biases; a window; a norm behind; a multiplier."""


def by_formula(plain: Any, blocks: Any, ids: torch.Tensor) -> np.ndarray[Any, Any]:
    """R and its null, [2, keys, keys], from the states of a plain model, part by part."""
    seen: dict[tuple[int, str], Any] = {}
    hooks = []
    for layer, block in enumerate(blocks):
        attention = attention_of(block)
        projection, norm = projection_of(attention), norm_behind(block)

        def keep(name: str, layer: int = layer) -> Any:
            def hook(_module: Any, given: Any, out: Any) -> None:
                seen[layer, f"{name} in"] = given[0][0] if given else None
                seen[layer, name] = (out[0] if isinstance(out, tuple) else out).reshape(ids.shape[1], -1)

            return hook

        modules = {"block": block, "projection": projection, "norm": norm}
        modules["values"] = getattr(attention, "v_proj", None)
        hooks += [one.register_forward_hook(keep(name)) for name, one in modules.items() if one is not None]
    with torch.inference_mode():
        out = plain(input_ids=ids, output_attentions=True, use_cache=True)
    for hook in hooks:
        hook.remove()
    n = ids.shape[1]
    whole, even = np.eye(n), np.eye(n)
    multiplier = getattr(plain.config, "residual_multiplier", 1.0)
    for layer, block in enumerate(blocks):
        weights = out.attentions[layer][0].double().numpy()
        back = projection_of(attention_of(block)).weight.detach().double().numpy()
        back = back.reshape(len(back), len(weights), -1)  # width, heads, size
        if (layer, "values") in seen:
            values = seen[layer, "values"].reshape(n, -1, back.shape[-1]).transpose(0, 1)
        else:
            values = out.past_key_values.layers[layer].values[0]
        values = values.double().numpy().repeat(len(weights) // len(values), axis=0)
        before, behind = (seen[layer, name].reshape(n, -1).double().numpy() for name in ("block in", "block"))
        update = (
            multiplier * seen[layer, "norm" if (layer, "norm") in seen else "projection"].double().numpy()
        )
        parallel = getattr(plain.config, "use_parallel_residual", False)
        result = behind if parallel else before + update
        mixed, spread = np.zeros((n, n)), np.zeros((n, n))
        for i in range(n):
            parts = np.einsum("hj,hjs,dhs->jd", weights[:, i, : i + 1], values[:, : i + 1], back) * multiplier
            if (layer, "norm") in seen:
                raw = seen[layer, "projection"][i].double().numpy()
                norm = norm_behind(block)
                gain = 1 + norm.weight.detach().double().numpy()
                parts = parts * gain / np.sqrt((raw**2).mean() + norm.eps)
            stays = [before[i], update[i] - parts.sum(0)]
            stays += [behind[i] - before[i] - update[i]] if parallel else []

            def q(part: Any, y: Any = result[i]) -> float:
                return max(0.0, np.abs(y).sum() - np.abs(y - part).sum())

            total = sum(map(q, parts)) + sum(map(q, stays))
            kept = sum(map(q, stays)) / total
            mixed[i, : i + 1] = [q(part) / total for part in parts]
            there = weights[:, i].max(0) > 0
            spread[i, there] = (1 - kept) / there.sum()
            mixed[i, i] += kept
            spread[i, i] += kept
        whole, even = mixed @ whole, spread @ even
    return np.stack([whole, even])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_product_is_that_of_the_formula(family: str, tmp_path: Path, tokenizer: Any) -> None:
    directory = save(family, tmp_path, tokenizer)
    model = load_model(str(directory))
    run = elimtool.trace(model, TEXT, options=ROLLED)
    rows, n = run.table("rollout"), len(run.table("prompts")["token_ids"][0])
    plain = load_hugging_face(family, directory, "float32", False)
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    truth = by_formula(plain, plain.get_submodule(model.block_names), ids)
    assert rows["undecomposed"].isna().all()
    for position, some in rows.groupby("position"):
        own = some[some["rollout"].notna()]
        assert len(some) == n and len(own) == position + 1  # every token is a span; later ones are null
        for place, column in enumerate(("rollout", "rollout_null")):
            np.testing.assert_allclose(own[column], truth[place, position, : position + 1], atol=2e-5)
            assert own[column].sum() == pytest.approx(1, abs=1e-9)
        held = own[own["rollout"] > 0]
        np.testing.assert_allclose(held["lift"], np.log(held["rollout"] / held["rollout_null"]))
        assert own["lift"].notna().sum() == len(held)
    assert rows["lift"].abs().max() > 0.05


def test_the_first_row_is_its_own_token(llama: Any) -> None:
    rows = elimtool.trace(llama, TEXT, options=replace(ROLLED, position=0)).table("rollout")
    assert rows["rollout"].dropna().tolist() == [pytest.approx(1)]
    assert rows["lift"].dropna().tolist() == [pytest.approx(0, abs=1e-12)]


def test_even_rows_have_no_lift(tmp_path: Path, tokenizer: Any) -> None:
    """One token repeated has equal values everywhere, and queries of 0 weigh them equally."""
    from transformers import AutoModelForCausalLM

    directory = save("llama", tmp_path, tokenizer)
    plain = AutoModelForCausalLM.from_pretrained(directory)
    for layer in plain.model.layers:
        torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
    plain.save_pretrained(directory)
    rows = elimtool.trace(load_model(str(directory)), "zzzzzzz", options=ROLLED).table("rollout")
    assert rows["rollout"].notna().sum() > 8
    np.testing.assert_allclose(rows["lift"].dropna(), 0, atol=1e-5)


def test_one_layer_has_the_contributions_of_its_row(tmp_path: Path, tokenizer: Any) -> None:
    model = load_model(str(save("llama", tmp_path, tokenizer, num_hidden_layers=1)))
    options = replace(ROLLED, position="last", tables=("rollout", "contributions"))
    run = elimtool.trace(model, TEXT, options=options)
    parts = run.table("contributions").query("block_step == 'attention'").set_index("part")["contribution"]
    rows = run.table("rollout").set_index("span")["rollout"]
    stays = parts["<residual>"] + parts["<bias>"]
    own = rows.index[-1]
    np.testing.assert_allclose(rows[:-1], parts.reindex(rows.index)[:-1], atol=1e-6)
    assert rows[own] == pytest.approx(parts[own] + stays, abs=1e-6)


def test_batched_equals_single_and_in_parts(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = (SpanRequest("country", "France"), SpanRequest("first", "The capital"))
    asked = [Prompt(text=TEXT, spans=spans, id="long"), Prompt(text="A token", id="short")]
    together = elimtool.trace(llama, asked, options=ROLLED).table("rollout")
    monkeypatch.setattr(rollout, "ROWS", 3)
    for one in asked:
        alone = elimtool.trace(llama, one, options=ROLLED).table("rollout")
        mine = together[together["prompt_id"] == one.id].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, alone, check_dtype=False, atol=1e-6, rtol=1e-5)
    tokens = elimtool.trace(llama, Prompt(text=TEXT, id="long"), options=ROLLED).table("rollout")
    last = tokens[tokens["position"] == tokens["position"].max()]["rollout"].tolist()
    where = llama.encode(asked[0], position="last", sinks="none").spans
    named = together[(together["prompt_id"] == "long") & (together["position"] == len(last) - 1)]
    for span, found in zip(where, named["rollout"], strict=True):
        assert found == pytest.approx(sum(last[token] for token in span.tokens), abs=1e-6)


def test_an_intervention_on_the_last_query_leaves_the_rows_before_it(llama: Any) -> None:
    """What the last query no longer reads reaches it through later tokens, whose rows are not cut."""
    asked = Prompt(text=TEXT, spans=(SpanRequest("cut", "France"),))
    cut = replace(ROLLED, position="last", interventions=(Knockout.parse("cut"),))
    rows = elimtool.trace(llama, asked, options=cut).table("rollout")
    plain, under = rows[rows["span"] == "cut"].sort_values("intervention", na_position="first")["rollout"]
    assert 0 < under < plain


def test_what_cannot_be_read_is_null_and_says_why(tmp_path: Path, tokenizer: Any) -> None:
    rows = elimtool.trace(load_model(str(save("bitnet", tmp_path, tokenizer))), TEXT, options=ROLLED)
    rows = rows.table("rollout")
    assert len(rows) and rows[["rollout", "rollout_null", "lift"]].isna().all(axis=None)
    assert rows["undecomposed"].str.contains("something else").all()


def test_only_its_option_fills_it_and_long_prompts_are_refused(tiny: Any, llama: Any) -> None:
    assert "rollout" not in elimtool.trace(tiny, TEXT).tables
    assert "rollout" in elimtool.trace(tiny, TEXT, options=TraceOptions(rollout=True)).tables
    with pytest.raises(ElimError, match="table rollout needs `rollout`"):
        TraceOptions(tables=("rollout",))
    one = llama.encode(Prompt(text=TEXT), position="all")
    rollout.refuse_long(one)
    with pytest.raises(ElimError, match=r"`rollout` .* 257 rows, more than 256, .* 17 forward passes"):
        rollout.refuse_long(replace(one, positions=(3, 256)))

"""Mixtures of experts against Hugging Face: router logits, choices, single experts' outputs, knockouts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import elimtool
from elimtool.analysis.experts import by_layer
from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError
from elimtool.model.interventions import Ablate, Scale
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.model.mixture import router_scores
from elimtool.report.facts import Probe, Tables
from elimtool.report.figures.experts import experts
from tests.engine.tables import tables
from tests.families import MIXTURES, dense_layers, save
from tests.report.printed import printed

TEXT = "The capital of France is"
EVERY = TraceOptions(position="all", samplers=(), sinks="none", lens="raw", heads=True)


@pytest.fixture(scope="module", params=sorted(MIXTURES))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    directory: Path = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    both = load_model(str(directory)), load_hugging_face(request.param, directory, "float32", False)
    for name, buffer in [*both[0].hf.named_buffers(), *both[1].named_buffers()]:
        if name.endswith("e_score_correction_bias"):  # DeepSeek's, for the choice alone; 0 when made
            buffer.copy_(torch.linspace(-0.4, 0.4, len(buffer)))
    return request.param, *both


@pytest.fixture(scope="module")
def run(loaded: Any) -> Any:
    prompt = elimtool.Prompt(text=TEXT, targets=("Paris", "Rome"))
    return elimtool.trace(loaded[1], prompt, options=EVERY)


def _mixed(family: str) -> list[int]:
    return sorted(set(range(4)) - dense_layers(family))


def test_router_logits_and_choices_equal_hugging_face(loaded: Any, run: Any) -> None:
    family, _, plain = loaded
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    called: list[tuple[Any, ...]] = []
    handles = [
        plain.model.layers[layer].mlp.experts.register_forward_pre_hook(lambda _m, args: called.append(args))
        for layer in _mixed(family)
    ]
    with torch.inference_mode():
        truth = plain(input_ids=ids, output_router_logits=True).router_logits
    for handle in handles:
        handle.remove()
    table = run.table("experts")
    assert sorted(set(table["layer"])) == _mixed(family)
    for layer, logits, (_, chosen, weights) in zip(_mixed(family), truth, called, strict=True):
        rows = table[table["layer"] == layer]
        mine = rows.pivot(index="position", columns="expert", values="router_logit").to_numpy()
        np.testing.assert_allclose(mine, logits, atol=1e-4)
        ran = torch.zeros(logits.shape, dtype=torch.bool).scatter(-1, chosen, True)
        assert (rows["chosen"].to_numpy().reshape(ran.shape) == ran.numpy()).all()
        given = rows.loc[rows["chosen"], "weight"].to_numpy().reshape(chosen.shape)
        np.testing.assert_allclose(given, weights.gather(-1, chosen.argsort(-1)), atol=1e-5)


def test_scores_are_the_familys_own_and_what_is_dropped_is_the_rest(loaded: Any, run: Any) -> None:
    family = loaded[0]
    table = run.table("experts")
    logits = torch.tensor(table["router_logit"].to_numpy().reshape(-1, 6))
    scores = logits.sigmoid() if family == "deepseek_v3" else logits.softmax(-1)
    np.testing.assert_allclose(table["router_prob"], scores.flatten(), atol=1e-6)
    ran = torch.tensor(table["chosen"].to_numpy().reshape(-1, 6))
    dropped = 1 - (scores * ran).sum(-1) / scores.sum(-1)
    np.testing.assert_allclose(table["dropped_mass"].to_numpy()[::6], dropped, atol=1e-5)
    order = logits.argsort(-1, descending=True).argsort(-1) + 1
    assert (table["rank"].to_numpy().reshape(-1, 6) == order.numpy()).all()
    least = logits.masked_fill(~ran, torch.inf).amin(-1, keepdim=True)
    np.testing.assert_allclose(table["margin"], (logits - least).flatten(), atol=1e-5)
    if family == "deepseek_v3":  # groups and a bias decide there too
        assert ((table["margin"] > 0) & ~table["chosen"]).any()
    else:
        assert ((table["rank"] <= 2) == table["chosen"]).all()


def test_experts_sum_to_their_mlp(loaded: Any, run: Any) -> None:
    family = loaded[0]
    assert run.table("experts")["unsplit"].isna().all()
    parts, whole = run.table("expert_components"), run.table("components")
    keys = ["position", "target", "layer"]
    whole = whole[(whole["kind"] == "mlp") & whole["layer"].isin(_mixed(family))].set_index(keys)
    assert parts["component"].str.startswith("shared").any() == (family in ("qwen2_moe", "deepseek_v3"))
    for column in ("dla", "dla_centred"):
        sums = parts.groupby(keys)[column].sum()
        assert len(sums) == len(whole)
        torch.testing.assert_close(
            torch.tensor(sums.to_numpy()),
            torch.tensor(whole[column][sums.index].to_numpy()),
            atol=1e-4,
            rtol=0,
        )


def test_an_experts_share_is_what_its_own_weights_write(loaded: Any, run: Any) -> None:
    """The last layer's experts by hand: gate and up, down, weight, final norm's scale, unembedding."""
    family, _, plain = loaded
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    seen: dict[str, Any] = {}
    block = plain.model.layers[3]
    handles = [
        block.mlp.experts.register_forward_pre_hook(lambda _m, args: seen.update(args=args)),
        plain.model.norm.register_forward_pre_hook(lambda _m, args: seen.update(last=args[0][0])),
    ]
    with torch.inference_mode():
        plain(input_ids=ids)
        for handle in handles:
            handle.remove()
        tokens, chosen, weights = seen["args"]
        at = len(ids[0]) - 1
        expert, factor = int(chosen[at, 0]), weights[at, 0]
        own = block.mlp.experts
        if family == "gpt_oss":  # transposed, with biases, gate and up side by side
            both = tokens[at] @ own.gate_up_proj[expert] + own.gate_up_proj_bias[expert]
            gate, up = both[::2].clamp(max=own.limit), both[1::2].clamp(-own.limit, own.limit)
            inner = (up + 1) * gate * torch.sigmoid(own.alpha * gate)
            wrote = factor * (inner @ own.down_proj[expert] + own.down_proj_bias[expert])
        else:
            gate, up = (own.gate_up_proj[expert] @ tokens[at]).chunk(2)
            wrote = factor * (own.down_proj[expert] @ (own.act_fn(gate) * up))
        scale = plain.model.norm(seen["last"][at : at + 1])[0] / seen["last"][at]
        token = run.table("survival")["token_id"].iloc[-1]
        truth = float(plain.lm_head.weight[token] @ (wrote * scale))
    rows = run.table("expert_components")
    target = run.table("survival")["target"].iloc[-1]
    row = rows[(rows["position"] == at) & (rows["target"] == target)]
    row = row[row["component"] == f"expert 3.{expert}"]
    assert row["dla"].item() == pytest.approx(truth, abs=1e-4)


def test_batched_equals_single(loaded: Any) -> None:
    model = loaded[1]
    texts = [TEXT, "A shorter one"]
    together = tables(model, texts, EVERY)
    for text in texts:
        alone = tables(model, [text], EVERY)
        for name in ("experts", "expert_components"):
            mine = alone[name]
            both = together[name][together[name]["prompt_id"] == mine["prompt_id"].iloc[0]]
            for column in mine.columns:
                one, two = mine[column], both[column].reset_index(drop=True)
                if one.dtype.kind == "f":
                    np.testing.assert_allclose(one, two, atol=1e-4)
                else:
                    assert (
                        one.astype(object)
                        .where(one.notna(), None)
                        .equals(two.astype(object).where(two.notna(), None))
                    ), column


def _logits(model: Any, ids: Any, *interventions: Any) -> Any:
    from elimtool.model.view import Batch
    from elimtool.prompts.prompt import Prompt

    batch = Batch.of([model.encode(Prompt(text=TEXT), position="all", sinks="none")])
    assert batch.ids.tolist() == ids.tolist()
    views: list[Any] = []
    model.intervened(interventions).stream(batch, (), views.append)
    return model.readout(views[-1].residual[0])


@pytest.mark.parametrize("name", ["expert.2.{}", "L2E{}", "expert 2.{}"])
def test_a_knocked_out_expert_is_one_whose_output_is_zero(loaded: Any, run: Any, name: str) -> None:
    """Against plain Hugging Face with the expert's down projection 0: it is routed to, and writes 0."""
    _, model, plain = loaded
    ids = torch.tensor(run.table("prompts")["token_ids"][0].tolist())[None]
    table = run.table("experts")
    expert = int(table[(table["layer"] == 2) & table["chosen"]]["expert"].mode()[0])
    experts = plain.model.layers[2].mlp.experts
    kept = {key: value[expert].clone() for key, value in experts.named_parameters() if "down" in key}
    with torch.inference_mode():
        own = plain(input_ids=ids).logits[0]
        for key in kept:
            getattr(experts, key)[expert] = 0
        truth = plain(input_ids=ids).logits[0]
        for key, value in kept.items():
            getattr(experts, key)[expert] = value
    assert float((truth - own).abs().max()) > 1e-2
    found = _logits(model, ids, Ablate.parse(name.format(expert)))
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=0)
    nothing = _logits(model, ids, Scale.parse(f"expert.2.{expert}=1"))
    torch.testing.assert_close(nothing, own, atol=1e-4, rtol=0)


def test_under_a_knockout_the_choice_stays_and_the_part_is_zero(loaded: Any, run: Any) -> None:
    model = loaded[1]
    table = run.table("experts")
    expert = int(table[(table["layer"] == 2) & table["chosen"]]["expert"].mode()[0])
    options = replace(EVERY, interventions=(Ablate.parse(f"expert.2.{expert}"),))
    found = elimtool.trace(model, TEXT, options=options)
    under = found.table("experts")
    under = under[under["intervention"] == f"ablate expert.2.{expert} zero"]
    mine = under[(under["layer"] == 2) & (under["expert"] == expert)]
    before = table[(table["layer"] == 2) & (table["expert"] == expert)]
    assert mine["chosen"].tolist() == before["chosen"].tolist()
    assert set(mine.loc[mine["chosen"], "weight"]) == {0}
    parts = found.table("expert_components")
    parts = parts[parts["intervention"].notna() & (parts["component"] == f"expert 2.{expert}")]
    assert len(parts)
    assert (parts["dla"] == 0).all()


def test_experts_that_are_not_there_are_refused(loaded: Any, llama: Any) -> None:
    family, model, _ = loaded
    with pytest.raises(ElimError, match="has no expert 6"):
        model.intervened([Ablate.parse("expert.2.6")])
    with pytest.raises(ElimError, match="only where it is chosen"):
        Ablate.parse("expert.2.1", "resample")
    for layer in dense_layers(family):
        with pytest.raises(ElimError, match=f"no experts in layer {layer}") as refused:
            model.intervened([Ablate.parse(f"expert.{layer}.0")])
        assert "to 3" in refused.value.hint
    with pytest.raises(ElimError, match="no experts in layer 1"):
        llama.intervened([Ablate.parse("expert.1.0")])


def test_the_story_says_how_much_was_dropped_only_where_there_are_experts(run: Any, llama: Any) -> None:
    told = " ".join(printed(run, width=100).split())
    table = run.table("experts")
    told_of = re.search(r"In full: position (\d+)", told)  # where the first target is likeliest
    assert told_of is not None
    mean = table[table["position"] == int(told_of[1])]["dropped_mass"].mean()
    assert f"2 experts of 6 ran in each of {table['layer'].nunique()} layers" in told
    assert f"the others had {mean:.0%} of the router's scores" in told
    dense = elimtool.trace(llama, TEXT, options=TraceOptions(samplers=()))
    assert "experts" not in printed(dense, width=100).lower()
    assert not {"experts", "expert_components"} & set(dense.tables)


def test_the_page_draws_them_and_what_did_not_run_small(run: Any, llama: Any) -> None:
    tables_of = Tables(run.under(None))
    prompt = run.arrow("prompts").to_pylist()[0]
    (figure,) = experts(Probe(tables_of, prompt, prompt["n_tokens"] - 1))
    table = run.table("experts")
    rows = table[table["position"] == prompt["n_tokens"] - 1]
    assert np.array(figure.values).flatten().tolist() == rows["router_prob"].tolist()
    assert len(figure.dimmed) == (~rows["chosen"]).sum()
    dense = elimtool.trace(llama, TEXT, options=TraceOptions(samplers=()))
    prompt = dense.arrow("prompts").to_pylist()[0]
    assert experts(Probe(Tables(dense), prompt, prompt["n_tokens"] - 1)) == []


def test_load_by_hand() -> None:
    rows = [(0, 0, True, 0.25), (0, 1, False, 0.25), (0, 2, False, 0.25)]
    rows += [(0, 0, True, 0.75), (0, 1, True, 0.75), (0, 2, False, 0.75)]
    names = ("layer", "expert", "chosen", "dropped_mass")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    assert by_layer(table) == [
        {
            "layer": 0,
            "n_experts": 3,
            "n_chosen": 1.5,
            "dropped": 0.5,
            "busiest": 0,
            "busiest_share": 1.0,
            "n_idle": 1,
        }
    ]


def test_weights_that_fit_neither_softmax_nor_sigmoid_have_no_scores() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0]])
    chosen = torch.tensor([[0, 1]])
    assert router_scores(logits, chosen, torch.tensor([[0.5, 0.5]])) is None
    scores = router_scores(logits, chosen, 3 * logits.sigmoid()[:, :2])
    assert scores is not None
    torch.testing.assert_close(scores(logits), logits.sigmoid())

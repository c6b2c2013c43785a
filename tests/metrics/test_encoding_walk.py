"""Encoding walks against hooks of transformers, numbers worked out by hand, and what must hold of all."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.metrics.encoding_walk import EncodingWalk, random_orders, turning, walked
from elimtool.metrics.metric import Settings
from elimtool.model.loading import load_model
from elimtool.model.view import Batch, LayerView
from elimtool.report.facts import Tables
from elimtool.report.figures.encoding_walk import encoding_walks
from elimtool.report.screen import Screen
from elimtool.report.trace.encoding_walk import encoding_lines, mean_sentences, walk_sentence
from tests.metrics.views import encoded

TEXT = "The capital of France is Paris, and"
NAMED = ("encoding_walk", "encoding_steps", "lens", "mechanisms")


def traced(model: Any, *texts: str, position: str | int = "all", named: tuple[str, ...] = NAMED) -> Any:
    options = TraceOptions(position=position, lens="raw", samplers=(), tables=named)
    return elimtool.trace(model, list(texts), targets=("e", "a"), options=options)


@pytest.fixture(scope="module")
def run(llama: Any) -> Any:
    return traced(llama, TEXT)


@pytest.fixture(scope="module")
def states(llama: Any, llama_directory: Path) -> dict[str, Any]:
    """What transformers itself has of the prompt: residuals, and what attention and MLP of each block add."""
    from transformers import AutoModelForCausalLM

    found: dict[str, list[torch.Tensor]] = {"attention": [], "mlp": [], "block": [], "own": []}
    hf = AutoModelForCausalLM.from_pretrained(llama_directory, attn_implementation="eager")

    def keep(name: str) -> Callable[..., None]:
        return lambda _m, _a, out: found[name].append((out[0] if isinstance(out, tuple) else out)[0].clone())

    def keep_values(layer: Any) -> Callable[..., None]:
        return lambda _m, _a, out: found["own"].append((out[0].clone(), layer.self_attn))

    for layer in hf.model.layers:
        for name, module in (("attention", layer.self_attn), ("mlp", layer.mlp), ("block", layer)):
            module.register_forward_hook(keep(name))
        layer.self_attn.v_proj.register_forward_hook(keep_values(layer))
    ids = torch.tensor([llama.encode(Prompt(text=TEXT)).token_ids])
    with torch.inference_mode():
        out = hf(input_ids=ids, output_hidden_states=True, output_attentions=True, use_cache=False)
    own = []
    for (values, module), weights in zip(found["own"], out.attentions, strict=True):  # type: ignore[misc]
        heads, keys = weights.shape[1], weights.shape[-1]
        each = values.view(keys, -1, module.head_dim).repeat_interleave(module.num_key_value_groups, 1)
        mine = weights[0].diagonal(0, 1, 2).T[..., None] * each  # [keys, heads, size]
        assert mine.shape[1] == heads
        own.append((mine.flatten(1) @ module.o_proj.weight.T).detach())
    start = out.hidden_states[0][0]
    residuals = torch.stack([start, *found["block"]], 1).double()
    parts = {name: torch.stack(found[name], 1).double() for name in ("attention", "mlp")}
    return {"residuals": residuals, "own": torch.stack(own, 1).double(), **parts}


def test_a_walk_is_that_of_the_hidden_states_of_transformers(run: Any, states: dict[str, Any]) -> None:
    walk, x = run.table("encoding_walk"), states["residuals"]
    d = x.diff(dim=1)
    # steps sum to the displacement, and the halves to the steps
    torch.testing.assert_close(
        states["attention"] + states["mlp"], d, atol=1e-6 * float(x.abs().max()), rtol=0
    )
    sizes, a, m = (one.norm(dim=-1) for one in (d, states["attention"], states["mlp"]))
    moved = (x[:, -1] - x[:, 0]).norm(dim=-1)
    cosines = torch.cosine_similarity(d[:, 1:], d[:, :-1], dim=-1)
    along = torch.cosine_similarity(d, x[:, :-1], dim=-1)
    expected = {
        "length": (a + m).sum(1),
        "length_blocks": sizes.sum(1),
        "displacement": moved,
        "straightness": moved / sizes.sum(1),
        "straightness_null": sizes.norm(dim=-1) / sizes.sum(1),
        "turning": cosines.mean(1),
        "radial_share": along.square().mean(1),
        "radial_null": torch.full_like(moved, 1 / x.shape[-1]),
        "aggregation_share": a.sum(1) / (a + m).sum(1),
        "self_share": states["own"].norm(dim=-1).sum(1) / a.sum(1),
        "largest_step_layer": sizes.argmax(1),
        "largest_step_share": sizes.amax(1) / sizes.sum(1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(walk[name], values.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(walk["straightness_ratio"], walk["straightness"] / walk["straightness_null"])
    assert walk["self_share"][0] == pytest.approx(1, abs=1e-5)  # the first token has only itself
    assert not walk["massive"].any() and walk["undecomposed"].isna().all()
    orders = random_orders(d.shape[1])
    drawn = [
        torch.cosine_similarity(d[:, one][:, 1:], d[:, one][:, :-1], dim=-1).mean(1).numpy() for one in orders
    ]
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    np.testing.assert_allclose(walk["turning_null_low"], low, atol=1e-5)
    np.testing.assert_allclose(walk["turning_null_high"], high, atol=1e-5)


def test_steps_are_those_of_transformers_and_of_mechanisms(run: Any, states: dict[str, Any]) -> None:
    steps, x = run.table("encoding_steps"), states["residuals"]
    a, m, d = states["attention"], states["mlp"], states["residuals"].diff(dim=1)
    nothing = torch.full_like(d[:, :1], torch.nan)
    before = {
        "attention": torch.cat([nothing, m[:, :-1]], 1),
        "mlp": a,
        "block": torch.cat([nothing, d[:, :-1]], 1),
    }
    entered = {"attention": x[:, :-1], "mlp": x[:, :-1] + a, "block": x[:, :-1]}
    for kind, step in {"attention": a, "mlp": m, "block": d}.items():
        own = steps[steps["kind"] == kind]
        for name, values in {
            "step_length": step.norm(dim=-1),
            "cos_previous": torch.cosine_similarity(step, before[kind], dim=-1),
            "cos_residual": torch.cosine_similarity(step, entered[kind], dim=-1),
        }.items():
            np.testing.assert_allclose(
                own[name], values.flatten().numpy(), rtol=1e-4, atol=2e-6, err_msg=name
            )
        np.testing.assert_allclose(own["radial"], own["cos_residual"] ** 2)
    blocks = steps[steps["kind"] == "block"]
    np.testing.assert_allclose(blocks["cos_residual"], run.table("mechanisms")["update_cos"], atol=1e-6)
    assert steps["kind"][:3].tolist() == ["attention", "mlp", "block"]


def test_cosines_are_of_the_normed_residual_and_the_unembedding(
    llama: Any, run: Any, states: dict[str, Any]
) -> None:
    lens = run.table("lens")
    with torch.inference_mode():
        normed = llama.hf.model.norm(states["residuals"].float())
        rows = llama.hf.lm_head.weight
    cosines = torch.cosine_similarity(normed[:, :, None], rows, dim=-1)  # [positions, layers, vocab]
    for row in lens.itertuples():
        own = cosines[row.position, row.layer + 1]
        assert row.cosine == pytest.approx(float(own[row.token_id]), abs=1e-5)
        near = int((own > own[row.token_id] + 1e-6).sum()), int((own > own[row.token_id] - 1e-6).sum())
        assert near[0] + 1 <= row.cosine_rank <= near[1] + 1
    assert (lens["rank"] != lens["cosine_rank"]).any()


def test_rows_of_one_length_leave_the_order_as_it_is(llama_directory: Path) -> None:
    other = load_model(str(llama_directory))
    with torch.no_grad():
        weight = other.hf.lm_head.weight
        weight.copy_(torch.nn.functional.normalize(weight, dim=-1) * 3.0)
    lens = traced(other, TEXT).table("lens")
    assert (lens["rank"] == lens["cosine_rank"]).all()


def test_a_prefix_has_the_rows_that_it_has_alone_and_in_a_batch(llama: Any, run: Any) -> None:
    together = traced(llama, TEXT, TEXT + " so on, and on", "A")
    first = together.prompts["prompt_id"]
    for table in NAMED[:3]:
        whole = run.table(table).drop(columns="prompt_id")
        rows = together.table(table)
        for which in (first[0], first[1]):
            own = rows[rows["prompt_id"] == which].drop(columns="prompt_id").head(len(whole))
            for name in whole:
                if whole[name].dtype.kind == "f":
                    np.testing.assert_allclose(own[name], whole[name], rtol=2e-3, atol=1e-4, err_msg=name)
                elif name not in ("rank", "cosine_rank", "rank_ties"):
                    assert own[name].tolist() == whole[name].tolist() or own[name].isna().all(), name


def test_hand_computed_walks() -> None:
    right = torch.eye(4)[None, :3]  # three steps at right angles
    found = turning(right, random_orders(3))
    assert [float(one) for one in found.values()] == [0, 0, 0]
    back = torch.tensor([[[1.0, 0], [-2, 0], [1, 0], [-2, 0]]])  # to and fro: no order turns more
    to_and_fro = turning(back, random_orders(4))
    assert float(to_and_fro["turning"]) == -1 == float(to_and_fro["turning_null_low"])
    assert float(to_and_fro["turning_null_high"]) > 0
    assert all(bool(one.isnan()) for one in turning(back[:, :1], random_orders(1)).values())
    assert all(bool(one.isnan()) for one in turning(back * 0, random_orders(4)).values())
    lengths = torch.tensor([[[3.0, 1.0, 4.0], [1.0, 3.0, 3.0]]]).double()
    own, radial = torch.tensor([[1.0, 1.0]]).double(), torch.tensor([[0.5, 0.1]]).double()
    one = {name: float(values) for name, values in walked(lengths, own, radial).items()}
    assert one == pytest.approx(
        {
            "length": 8,
            "length_blocks": 7,
            "straightness_null": 5 / 7,
            "radial_share": 0.3,
            "aggregation_share": 0.5,
            "self_share": 0.5,
            "largest_step_layer": 0,
            "largest_step_share": 4 / 7,
        }
    )
    larger = {name: float(values) for name, values in walked(lengths * 9, own * 9, radial).items()}
    assert all(larger[name] == pytest.approx(one[name]) for name in one if not name.startswith("length"))
    still = walked(lengths * 0, own * 0, radial)
    assert math.isnan(float(still["largest_step_layer"])) and math.isnan(float(still["self_share"]))


@pytest.mark.parametrize(
    ("size", "typical", "massive"), [(101.0, 0.1, True), (99.0, 0.01, False), (900.0, 1.0, False)]
)
def test_massive_rows_are_marked_and_blocks_that_show_no_parts_are_named(
    size: float, typical: float, massive: bool
) -> None:
    batch = Batch.of([encoded(3, (1, 2), {}, ())])
    metric = EncodingWalk(batch, Settings())
    generator = torch.Generator().manual_seed(0)
    for layer in range(-1, 3):
        residual = torch.randn(1, 2, 8, generator=generator)
        if layer == 1:
            residual[0, 0, 3] = -size
        metric.observe(LayerView(layer, batch, residual, typical=torch.tensor([typical])))
    walk = metric.finish()["encoding_walk"]
    assert walk["massive"].tolist() == [massive, False]
    assert np.isnan(walk["length"]).all() and np.isnan(walk["self_share"]).all()
    assert np.isfinite(walk["straightness_ratio"]).all() and np.isfinite(walk["turning"]).all()
    assert list(walk["undecomposed"]) == ["layer 0: the output of attention or MLP cannot be seen"] * 2


def test_it_is_measured_only_where_it_is_named(llama: Any) -> None:
    assert not {"encoding_walk", "encoding_steps"} & TraceOptions().selection().measured
    lens = traced(llama, "a b", position="last", named=("lens",)).table("lens")
    assert lens["cosine"].isna().all() and lens["cosine_rank"].isna().all()
    alone = traced(llama, "a b", position="last", named=("encoding_walk",))
    assert set(alone.tables) == {"prompts", "encoding_walk"}
    with pytest.raises(ElimError, match="did you mean 'encoding_walk'"):
        TraceOptions(tables=("encoding_wlak",))


def test_the_story_and_the_page_have_the_null_and_leave_massive_positions_out(run: Any) -> None:
    tables, prompt = Tables(run), run.arrow("prompts").to_pylist()[0]
    told = " ".join(line.plain.strip() for line in encoding_lines(tables, prompt, Screen(80)))
    assert "times as straight as orthogonal steps" in told and "95 % of orders" in told
    assert "By its angle alone" in told and "Mean over" in told
    steps, listing = encoding_walks(tables, prompt)
    assert [line.name for line in steps.lines] == ["attention", "MLP", "both (the block)"]  # type: ignore[attr-defined]
    assert len(listing.rows) == len(prompt["tokens"])  # type: ignore[attr-defined]
    rows = tables.rows("encoding_walk", prompt["prompt_id"])
    spoilt = [{**rows[0], "massive": True, "straightness_ratio": 1e9}, *rows[1:]]
    assert mean_sentences(spoilt)[0].startswith(f"Mean over {len(rows) - 1} positions (1 with a massive")
    assert "1000000000" not in mean_sentences(spoilt)[0]
    assert "none is a walk" in mean_sentences([{**row, "massive": True} for row in rows])[0]
    for turned, said in ((-1.0, "turns back more than"), (1.0, "goes on more than")):
        assert said in walk_sentence(prompt, [{**rows[-1], "turning": turned}], Screen(80))
    assert "it is no walk" in walk_sentence(prompt, [{**rows[-1], "massive": True}], Screen(80))
    assert "nothing moves" in walk_sentence(prompt, [{**rows[-1], "straightness": None}], Screen(80))


def test_a_check_holds_a_walk_against_its_null_without_massive_rows(run: Any, tmp_path: Path) -> None:
    from elimtool.cli import app

    checks, out = tmp_path / "checks.yaml", tmp_path / "run"
    run.save(out)
    metric = "metric: encoding_walk.straightness_ratio, position: all, rows: {massive: false}, agg: mean"
    for bounds, code in (("min: 0.01, max: 99", 0), ("max: 0.001", 10)):
        checks.write_text(f"version: 1\nchecks:\n  - {{id: straight, {metric}, {bounds}}}\n")
        with pytest.raises(SystemExit) as left:
            app.main(["check", str(checks), "--run", str(out)])
        assert (left.value.code or 0) == code

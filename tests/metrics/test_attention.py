"""Attention retention against numbers worked out by hand, a naive loop, and the definitions' invariants."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elimtool.metrics.attention import AttentionRetention
from elimtool.metrics.attention_columns import RULE
from elimtool.metrics.metric import Settings
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import SINK
from tests.metrics.views import attention_view, encoded, with_attention


def frames(batch: Batch, views: list[LayerView], heads: bool = True) -> dict[str, pd.DataFrame]:
    metric = AttentionRetention(batch, Settings(heads=heads))
    for view in views:
        metric.observe(view)
    return {name: pd.DataFrame(dict(columns)) for name, columns in metric.finish().items() if columns}


def by_hand() -> tuple[Batch, LayerView]:
    """One query over four keys, two heads; key 0 is the sink."""
    batch = Batch.of([encoded(4, (3,), {"a": (1, 2), "b": (3,)}, (0,))])
    weights = torch.tensor([[[[0.6, 0.1, 0.1, 0.2]], [[0.2, 0.4, 0.4, 0.0]]]])
    return batch, with_attention(batch, 0, weights, torch.ones(1, 1, 4, dtype=torch.bool))


def test_hand_computed_masses() -> None:
    batch, view = by_hand()
    table = frames(batch, [view])["attention"].set_index("span")
    assert list(table.index) == [SINK, "a", "b"]
    assert table.loc["a", "mass"] == pytest.approx((0.2 + 0.8) / 2)
    assert table.loc["a", "mass_max"] == pytest.approx(0.8)
    assert table.loc["a", "mass_max_head"] == 1
    assert table.loc["a", "lift"] == pytest.approx(0.5 * 4 / 2)
    assert table.loc["a", "mass_no_sink"] == pytest.approx((0.2 / 0.4 + 0.8 / 0.8) / 2)
    assert table.loc["a", "lift_no_sink"] == pytest.approx(0.75 * 3 / 2)
    assert table.loc[SINK, "mass"] == pytest.approx(0.4)
    assert table.loc[[SINK], ["mass_no_sink", "lift_no_sink"]].isna().all(axis=None)
    assert table.loc["b", "mass_no_sink"] == pytest.approx((0.2 / 0.4 + 0.0) / 2)
    assert list(table["span_size"]) == [1, 2, 1]
    assert list(table["n_keys"]) == [4, 4, 4]


def test_hand_computed_layer_row() -> None:
    batch, view = by_hand()
    row = frames(batch, [view])["attention_layers"].iloc[0]
    entropies = [-sum(p * math.log(p) for p in head if p) for head in ((0.6, 0.1, 0.1, 0.2), (0.2, 0.4, 0.4))]
    assert row["entropy"] == pytest.approx(np.mean(entropies))
    assert row["n_eff"] == pytest.approx(np.mean(np.exp(entropies)))
    assert row["sink_mass"] == pytest.approx(0.4)
    # threshold 0.25 / 3 on (0.25, 0.25, 0.5) and (0.5, 0.5, 0): one of six pairs is below
    assert row["eliminated_frac"] == pytest.approx(1 / 6)
    assert row["masked_frac"] == 0
    assert row["rule"] == RULE


def test_hand_computed_heads() -> None:
    batch, view = by_hand()
    table = frames(batch, [view])["attention_heads"]
    assert list(zip(table["head"], table["span"], strict=True)) == [
        (h, s) for h in (0, 1) for s in (SINK, "a", "b")
    ]
    chosen = table[(table["head"] == 1) & (table["span"] == "a")].iloc[0]
    assert chosen["mass"] == pytest.approx(0.8)
    assert chosen["lift"] == pytest.approx(0.8 * 4 / 2)
    assert chosen["mass_no_sink"] == pytest.approx(1.0)
    assert "attention_heads" not in frames(batch, [view], heads=False)


def test_a_head_that_gives_only_to_the_sink_has_no_distribution_outside() -> None:
    batch = Batch.of([encoded(3, (2,), {"a": (1, 2)}, (0,))])
    weights = torch.tensor([[[[0.995, 0.005, 0.0]], [[0.5, 0.1, 0.4]]]])
    view = with_attention(batch, 0, weights, torch.ones(1, 1, 3, dtype=torch.bool))
    found = frames(batch, [view])
    heads = found["attention_heads"].set_index(["head", "span"])["mass_no_sink"]
    assert math.isnan(heads[0, "a"])
    assert heads[1, "a"] == pytest.approx(1.0)
    assert found["attention"].set_index("span").loc["a", "mass_no_sink"] == pytest.approx(1.0)
    only = with_attention(batch, 0, weights[:, :1], view.visible)
    nothing = frames(batch, [only])
    assert math.isnan(nothing["attention"].set_index("span").loc["a", "mass_no_sink"])
    assert math.isnan(nothing["attention_layers"]["eliminated_frac"].iloc[0])


def test_masked_is_not_eliminated() -> None:
    batch = Batch.of([encoded(10, (9,), {"far": (1, 2), "edge": (6, 7), "near": (8, 9)}, (0,))])
    found = frames(batch, [attention_view(batch, 0, 2, window=3)])
    table = found["attention"].set_index("span")
    assert list(table["span_size"]) == [0, 0, 1, 2]
    assert (table["n_keys"] == 3).all()
    assert table.loc[["far", SINK], ["mass", "lift", "mass_max", "mass_no_sink"]].isna().all(axis=None)
    assert table["mass_max_head"].isna().tolist() == [True, True, False, False]
    layer = found["attention_layers"].iloc[0]
    assert layer["masked_frac"] == pytest.approx(0.7)
    assert layer["sink_mass"] == 0


def test_first_position_sees_only_itself() -> None:
    batch = Batch.of([encoded(3, (0,), {"later": (1, 2)}, (0,))])
    found = frames(batch, [attention_view(batch, 0, 2)])
    assert found["attention"].set_index("span").loc[SINK, "mass"] == 1
    assert math.isnan(found["attention"].set_index("span").loc["later", "mass"])
    layer = found["attention_layers"].iloc[0]
    assert (layer["entropy"], layer["n_eff"], layer["sink_mass"]) == (0, 1, 1)
    assert math.isnan(layer["eliminated_frac"])


def test_without_a_sink_set_its_mass_is_null() -> None:
    batch = Batch.of([encoded(3, (2,), {"a": (0, 1), "b": (2,)}, ())])
    found = frames(batch, [attention_view(batch, 0, 2)])
    assert math.isnan(found["attention_layers"]["sink_mass"].iloc[0])
    table = found["attention"]
    np.testing.assert_allclose(table["mass"], table["mass_no_sink"], rtol=1e-6)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Batch, list[LayerView]]:
    n = draw(st.integers(1, 24))
    positions = tuple(sorted(draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=4))))
    sinks = tuple(sorted(draw(st.sets(st.integers(0, n - 1), max_size=2))))
    parts = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    free = [i for i in range(n) if i not in sinks]
    spans = {f"part{k}": tuple(i for i in free if parts[i] == k) for k in range(4)}
    spans = {name: tokens for name, tokens in spans.items() if tokens}
    spans |= {"all": tuple(range(n)), "union": spans.get("part0", ()) + spans.get("part1", ())}
    spans = {name: tokens for name, tokens in spans.items() if tokens}
    window = draw(st.none() | st.integers(1, n))
    seed, sharpness = draw(st.integers(0, 2**20)), draw(st.sampled_from([0.0, 1.0, 6.0]))
    batch = Batch.of([encoded(n, positions, spans, sinks)])
    return batch, [attention_view(batch, i, 3, window, seed + i, sharpness) for i in range(2)]


@settings(deadline=None, max_examples=75)
@given(cases())
def test_invariants(case: tuple[Batch, list[LayerView]]) -> None:
    batch, views = case
    found = frames(batch, views)
    table, layers = found["attention"], found["attention_layers"]
    for _, rows in table.groupby(["position", "layer"]):
        mass = rows.set_index("span")["mass"]
        parts = mass[[name for name in mass.index if name.startswith("part") or name == SINK]]
        assert parts.sum() == pytest.approx(1.0, abs=1e-5)
        whole = rows.set_index("span").loc["all"]
        assert whole["lift"] == pytest.approx(1.0, abs=1e-5)
        assert whole["mass"] == pytest.approx(1.0, abs=1e-5)
        if "union" in mass.index and not math.isnan(mass["union"]):
            assert mass["union"] == pytest.approx(mass.reindex(["part0", "part1"]).fillna(0).sum(), abs=1e-5)
        outside = rows.set_index("span")["mass_no_sink"]
        outside = outside[[name for name in outside.index if name.startswith("part")]].dropna()
        if len(outside):
            assert outside.sum() == pytest.approx(1.0, abs=1e-5)
    n_keys = table.groupby(["position", "layer"])["n_keys"].first().to_numpy()
    assert (layers["entropy"] >= -1e-6).all()
    assert (layers["entropy"].to_numpy() <= np.log(n_keys) + 1e-5).all()
    assert (layers["n_eff"] >= 1 - 1e-6).all()
    assert (layers["n_eff"].to_numpy() <= n_keys * (1 + 1e-5)).all()
    assert layers["eliminated_frac"].dropna().between(0, 1).all()


@settings(deadline=None, max_examples=50)
@given(cases())
def test_equals_a_naive_loop(case: tuple[Batch, list[LayerView]]) -> None:
    batch, views = case
    table = frames(batch, views)["attention"].set_index(["position", "layer", "span"])
    one = batch.encoded[0]
    for view in views:
        for probe, position in enumerate(one.positions):
            visible = view.visible[0, probe].nonzero()[:, 0].tolist()
            outside = [j for j in visible if j not in one.sinks]
            for span in one.spans:
                row = table.loc[(position, view.layer, span.name)]
                seen = [j for j in span.tokens if j in visible]
                weights = view.attention[0, :, probe].double().numpy()
                if not seen:
                    assert math.isnan(row["mass"])
                    continue
                assert row["mass"] == pytest.approx(weights[:, seen].sum(1).mean(), abs=1e-6)
                assert row["mass_max"] == pytest.approx(weights[:, seen].sum(1).max(), abs=1e-6)
                kept = [j for j in seen if j in outside]
                rest = weights[:, outside].sum(1)
                if span.name == SINK or not kept or not (rest >= 0.01).any():
                    assert math.isnan(row["mass_no_sink"])
                else:
                    share = [weights[h, kept].sum() / rest[h] for h in range(3) if rest[h] >= 0.01]
                    assert row["mass_no_sink"] == pytest.approx(np.mean(share), abs=1e-5)


def test_a_padded_batch_equals_single_prompts() -> None:
    long = encoded(9, (8, 3), {"a": (1, 2, 3), "b": (4, 5, 6, 7, 8)}, (0,), "long")
    short = encoded(4, (3,), {"a": (1, 2)}, (0,), "short")
    together = Batch.of([long, short])
    views = [attention_view(together, i, 2, seed=i) for i in range(2)]
    found = frames(together, views)
    for row, one in enumerate((long, short)):
        alone = Batch.of([one])
        n, p = len(one.token_ids), len(one.positions)
        cut = [
            with_attention(alone, v.layer, v.attention[[row], :, :p, :n], v.visible[[row], :p, :n])
            for v in views
        ]
        for name, table in frames(alone, cut).items():
            whole = found[name][found[name]["prompt_id"] == one.prompt_id].reset_index(drop=True)
            pd.testing.assert_frame_equal(whole, table, check_exact=False, check_dtype=False, rtol=1e-6)


def test_observing_changes_nothing() -> None:
    batch = Batch.of([encoded(5, (4, 2), {"a": (1, 2)}, (0,))])
    view = attention_view(batch, 0, 2)
    before = view.attention.clone(), view.visible.clone()
    frames(batch, [view])
    assert torch.equal(before[0], view.attention)
    assert torch.equal(before[1], view.visible)

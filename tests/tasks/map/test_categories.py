"""What heads keep of each category: sums, their exact expectation, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elimtool.analysis.map.categories import exceeding, index_of
from elimtool.analysis.map.named import OVERLAYS, WRITTEN
from elimtool.analysis.map.units import ratio_interval
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.run.analysis import Analysis
from elimtool.tasks.map.categories import CategorySums, by_distance
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.readable import PAST
from elimtool.tasks.map.units import MapSource, Unit, Units

LONG = 64
CAUSAL = torch.tril(torch.ones(LONG, LONG, dtype=torch.bool))
DISTANCE = (torch.arange(LONG)[:, None] - torch.arange(LONG)).clamp(min=0)
BIN = torch.where(DISTANCE > 0, DISTANCE.double().clamp(min=1).log2().floor().long() + 1, 0)


@pytest.fixture(scope="module")
def units(llama: Any, corpus: Path) -> list[Unit]:
    records = MapSource(llama, Corpus.of(corpus), MapOptions.of(tokens=LONG)).records()
    return [one for record in records if (one := Units(llama, LONG).of(record)).kind == "text"][:3]


def summed(llama: Any, units: list[Unit], weights: torch.Tensor) -> tuple[CategorySums, dict[str, Any]]:
    """Sums of layer 0, in which each head has these weights [heads, queries, keys]."""
    batch = Batch.of([one.encoded for one in units])
    sums = CategorySums(llama, WRITTEN, units, batch)
    whole = weights.expand(len(units), llama.n_heads, -1, -1)
    visible = CAUSAL.expand(len(units), -1, -1)
    sums.observe(LayerView(0, batch, torch.zeros(len(units), LONG, 16), visible=visible), Formed(whole))
    return sums, {name: one[:, 0] for name, one in sums.sums().items() if one.ndim > 2} | {
        "tokens": sums.sums()["tokens"]
    }


def randomly(heads: int) -> torch.Tensor:
    scores = 2 * torch.randn(heads, LONG, LONG, generator=torch.Generator().manual_seed(1))
    return torch.softmax(scores.masked_fill(~CAUSAL, -torch.inf), -1)


def test_even_attention_keeps_all_alike(llama: Any, units: list[Unit]) -> None:
    _, found = summed(llama, units, CAUSAL / CAUSAL.sum(-1, keepdim=True))
    np.testing.assert_allclose(found["found"], found["uniform"], atol=1e-5)
    np.testing.assert_allclose(found["found"], found["expected"], atol=1e-5)


def test_a_head_that_looks_at_distances_alone_selects_nothing(llama: Any, units: list[Unit]) -> None:
    chances = torch.tensor([0.3, 0.05, 0.9, 0.2, 0.01, 0.6, 0.1, 0.2])[BIN] * CAUSAL
    _, found = summed(llama, units, chances / chances.sum(-1, keepdim=True))
    np.testing.assert_allclose(found["found"], found["expected"], atol=1e-5)
    assert np.abs(found["found"] / np.maximum(found["uniform"], 1e-9) - 1).max() > 0.05


def test_what_is_expected_is_the_mean_over_all_that_change_places(llama: Any, units: list[Unit]) -> None:
    weights = randomly(llama.n_heads)
    sums, found = summed(llama, units, weights)
    kinds = sums.kinds.numpy()
    for unit in range(len(units)):
        own = weights.double().numpy().copy()
        own[:, :, 0] = 0  # the sink
        own /= np.maximum(own.sum(-1, keepdims=True), 1e-12)
        expected = np.zeros((llama.n_heads, kinds.shape[-1]))
        for query in range(PAST, LONG):
            for kind in range(int(BIN.max()) + 1):
                keys = [at for at in range(1, query + 1) if BIN[query, at] == kind]
                if keys:
                    share = kinds[unit, keys].mean(0)
                    expected += own[:, query, keys].sum(-1)[:, None] * share
        np.testing.assert_allclose(found["expected"][unit], expected, rtol=1e-6, atol=1e-9)
        assert (found["rows"][unit] == LONG - PAST).all()


def test_shares_of_all_categories_sum_to_the_rows(llama: Any, units: list[Unit]) -> None:
    _, found = summed(llama, units, randomly(llama.n_heads))
    for name in ("found", "uniform", "expected"):
        whole = found[name][..., : len(WRITTEN)].sum(-1)
        np.testing.assert_allclose(whole, found["rows"], rtol=1e-9)
    assert (found["tokens"][:, : len(WRITTEN)].sum(-1) == LONG - 1).all()


def test_a_head_that_reads_one_category_keeps_it_alone(llama: Any, units: list[Unit]) -> None:
    unit = units[:1]
    sums, _ = summed(llama, unit, randomly(llama.n_heads))
    name = WRITTEN.index("function")
    there = sums.kinds[0, :, name].bool()[None] & CAUSAL
    there[:, 0] |= ~there.any(-1)
    _, found = summed(llama, unit, there / there.sum(-1, keepdim=True))
    kept = ratio_interval(found["found"], found["expected"]).mean[0][: len(WRITTEN)]
    known = kept[~np.isnan(kept)]
    assert kept[name] > 1.5 and (np.delete(known, int(np.argmax(known))) == 0).all()
    assert index_of(known) == 1.0 and index_of(np.ones(5)) == pytest.approx(0, abs=1e-12)


def test_rows_of_a_head_that_reads_the_sink_alone_do_not_count(llama: Any, units: list[Unit]) -> None:
    weights = torch.zeros(LONG, LONG)
    weights[:, 0] = 0.995
    weights[range(LONG), range(LONG)] += 0.005
    _, found = summed(llama, units, weights)
    assert not found["rows"].any() and not found["found"].any() and not found["uniform"].any()


def test_bins_hold_every_key_once() -> None:
    values = torch.randn(2, LONG - 5, LONG, dtype=torch.float64).masked_fill(~CAUSAL[5:], 0)
    found = by_distance(values, 5)
    for kind in range(found.shape[-1]):
        inside = (BIN[5:] == kind) & CAUSAL[5:]
        torch.testing.assert_close(found[..., kind], (values * inside).sum(-1))


def test_categories_of_a_map(mapped: Analysis) -> None:
    rows = mapped.table("head_categories")
    assert set(rows["category"]) == {*WRITTEN, *OVERLAYS}
    known = rows[rows["unmeasured"].isna()]
    assert len(known) and known[["retention", "selectivity", "low", "high"]].notna().all(axis=None)
    assert ((known["low"] <= known["selectivity"]) & (known["selectivity"] <= known["high"])).all()
    assert (known["n_tokens"] >= 20).all() and (known["n_passages"] >= 3).all()
    unknown = rows[rows["unmeasured"].notna()]
    assert unknown["selectivity"].isna().all() and set(unknown["category"]) == {"word", "negation"}
    # attention of random weights hardly depends on what is written
    assert abs(known["selectivity"].mean() - 1) < 0.1
    best = mapped.table("head_selectivity")
    assert best["selectivity_index"].between(0, 0.2).all() and set(best["kept"]) <= set(WRITTEN)


def test_ratios_of_sums_and_what_has_none() -> None:
    over, under = np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    found = ratio_interval(over, under)
    assert found.mean[0] == 2 and found.low[0] == 1 and found.high[0] == 3
    assert np.isnan([found.mean[1], found.low[1], found.high[1]]).all()
    assert np.isnan(ratio_interval(over[:1], under[:1]).low).all()


def test_heads_that_keep_a_category_are_corrected_for_all_heads() -> None:
    random = np.random.default_rng(0)
    expected = np.ones((16, 5, 40, 1))
    chance = expected + random.normal(0, 0.2, expected.shape)
    unmeasured = np.zeros((5, 40), bool)
    unmeasured[4, 39] = True
    chance[:, 0, 0] = 1.5  # one of 200 heads keeps it
    p, q = exceeding(chance, expected, unmeasured)
    assert (p[..., 0] <= 0.05).sum() > 5, "by chance alone one in twenty is over what distance explains"
    assert np.argwhere(q[..., 0] <= 0.05).tolist() == [[0, 0]] and np.isnan(q[4, 39, 0])
    low = ratio_interval(chance, expected).low[..., 0]
    assert (low > 1).sum() > 3, "intervals of single heads are not enough"


def test_of_a_map_every_number_has_its_test(mapped: Analysis) -> None:
    rows = mapped.table("head_categories")
    known = rows["unmeasured"].isna()
    assert (rows[["p", "q"]].notna().all(axis=1) == known).all() and (rows["q"] >= rows["p"])[known].all()

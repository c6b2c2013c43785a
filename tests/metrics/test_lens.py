"""Lens trajectories against numbers worked out by hand and against a plain recomputation."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from elimtool.metrics.lens import LensTrajectory
from elimtool.metrics.metric import Followed, ReadoutView, Settings
from elimtool.model.view import Batch, Target
from elimtool.numerics.shapes import shapes
from tests.metrics.views import encoded


def view_of(logits: torch.Tensor, ids: list[list[int]], foils: tuple[int, ...] = ()) -> ReadoutView:
    """A readout of one prompt whose rows are its probed positions."""
    n_rows = logits.shape[1]
    batch = Batch.of([encoded(n_rows + 1, tuple(range(1, n_rows + 1)), {"a": (1,)}, (0,))])
    tokens = torch.tensor(ids)
    followed = Followed(
        ids=tokens,
        is_foil=torch.isin(tokens, torch.tensor(foils)),
        ambiguous=torch.zeros_like(tokens, dtype=torch.bool),
        targets=[[Target.single(f"t{i}", i) for i in row if i >= 0] for row in ids],
        logprob=torch.zeros(tokens.shape, dtype=torch.float64),
    )
    return ReadoutView(
        batch,
        batch.rows,
        "raw",
        logits,
        shapes(logits),
        logits[-1].log_softmax(-1),
        followed,
        lambda i: f"t{i}",
    )


def tables(view: ReadoutView) -> tuple[pd.DataFrame, pd.DataFrame]:
    metric = LensTrajectory(view.batch, Settings())
    metric.read(view)
    found = metric.finish()
    return pd.DataFrame(dict(found["lens"])), pd.DataFrame(dict(found["lens_layers"]))


def test_hand_computed_trajectory() -> None:
    ln = math.log
    logits = torch.tensor(
        [[[ln(0.5), ln(0.3), ln(0.2)]], [[ln(0.04), ln(0.04), ln(0.92)]], [[ln(0.05), ln(0.92), ln(0.03)]]]
    )
    lens, layers = tables(view_of(logits, [[1, 2]], foils=(2,)))
    assert lens["layer"].tolist() == [-1, -1, 0, 0, 1, 1]
    assert lens["target"].tolist() == ["t1", "t2"] * 3
    assert lens["is_foil"].tolist() == [False, True] * 3
    assert lens["rank"].tolist() == [2, 3, 2, 1, 1, 3]
    assert lens["rank_ties"].tolist() == [0, 0, 1, 0, 0, 0]
    assert lens["prob"].tolist() == pytest.approx([0.3, 0.2, 0.04, 0.92, 0.92, 0.03], abs=1e-6)
    assert lens["logprob"].tolist() == pytest.approx(
        [ln(p) for p in (0.3, 0.2, 0.04, 0.92, 0.92, 0.03)], abs=1e-6
    )
    assert lens["position"].tolist() == [1] * 6
    assert layers["top_token"].tolist() == ["t0", "t2", "t1"]
    assert layers["top_prob"].tolist() == pytest.approx([0.5, 0.92, 0.92], abs=1e-6)
    assert layers["nucleus_size"].tolist() == [3, 1, 1]
    assert layers["survivor_jaccard"].tolist() == pytest.approx([1 / 3, 0, 1])  # {0, 1, 2}, {2}, {1}
    assert layers["survivor_mass"].tolist() == pytest.approx([0.3, 0.04, 0.92], abs=1e-6)
    assert layers["collision"].tolist() == pytest.approx([0.38, 0.8496, 0.8498], abs=1e-5)
    final = [0.05, 0.92, 0.03]
    for row, probs in enumerate([[0.5, 0.3, 0.2], [0.04, 0.04, 0.92], final]):
        expected = sum(p * ln(p / q) for p, q in zip(final, probs, strict=True))
        assert layers["kl_to_final"][row] == pytest.approx(expected, abs=1e-6)
        assert layers["entropy"][row] == pytest.approx(-sum(q * ln(q) for q in probs), abs=1e-6)


def test_survivors_against_sets() -> None:
    logits = torch.randn(5, 3, 400, generator=torch.Generator().manual_seed(3)) * 3
    _, layers = tables(view_of(logits, [[1], [2], [3]]))
    layers = layers.set_index(["position", "layer"])
    for row in range(3):
        kept = []
        for layer in range(5):
            probs, order = logits[layer, row].double().softmax(-1).sort(descending=True)
            size = int((probs.cumsum(0) - probs < 0.9).sum())
            kept.append(set(order[:size].tolist()))
        final = logits[:, row].double().softmax(-1)
        for layer in range(5):
            found = layers.loc[(row + 1, layer - 1)]
            assert found["nucleus_size"] == len(kept[layer])
            shared = len(kept[layer] & kept[-1]) / len(kept[layer] | kept[-1])
            assert found["survivor_jaccard"] == pytest.approx(shared)
            assert found["survivor_mass"] == pytest.approx(
                float(final[layer, list(kept[-1])].sum()), abs=1e-5
            )


def test_last_layer_agrees_with_itself() -> None:
    logits = torch.randn(4, 2, 50, generator=torch.Generator().manual_seed(1))
    _, layers = tables(view_of(logits, [[0], [0]]))
    last = layers[layers["layer"] == 2]
    assert last["kl_to_final"].tolist() == [0, 0]
    assert last["survivor_jaccard"].tolist() == [1, 1]
    assert (last["survivor_mass"] >= 0.9).all()


def test_rows_that_follow_fewer_tokens_have_fewer_rows() -> None:
    logits = torch.randn(3, 2, 20, generator=torch.Generator().manual_seed(1))
    lens, layers = tables(view_of(logits, [[4, 5], [6, -1]]))
    assert len(layers) == 6
    assert lens.groupby("position")["target"].unique().map(list).tolist() == [["t4", "t5"], ["t6"]]


def test_ranks_do_not_depend_on_a_constant_or_a_scale() -> None:
    logits = torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    plain, _ = tables(view_of(logits, [[3, 7], [1, 2]]))
    moved, layers = tables(view_of(logits + 5.0, [[3, 7], [1, 2]]))
    sharper, _ = tables(view_of(logits * 3.0, [[3, 7], [1, 2]]))
    assert plain["rank"].tolist() == moved["rank"].tolist() == sharper["rank"].tolist()
    assert moved["logprob"].tolist() == pytest.approx(plain["logprob"].tolist(), abs=1e-12)
    assert (layers["nucleus_size"] >= 1).all()

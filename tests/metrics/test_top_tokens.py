"""The first tokens of the output: order, ties and probabilities."""

from __future__ import annotations

import pandas as pd
import torch

from elimtool.metrics.metric import Settings
from elimtool.metrics.top_tokens import PLACES, TopTokens
from tests.metrics.test_lens import view_of


def first(logits: torch.Tensor) -> pd.DataFrame:
    view = view_of(logits, [[0]] * logits.shape[1])
    metric = TopTokens(view.batch, Settings())
    metric.read(view)
    return pd.DataFrame(dict(metric.finish()["top_tokens"]))


def test_places_follow_the_output_and_equals_their_ids() -> None:
    logits = torch.zeros(2, 1, 6)
    logits[0, 0, 5] = 9.0  # an earlier layer's favourite does not count
    logits[1, 0] = torch.tensor([0.0, 2.0, 1.0, 2.0, 1.0, 0.0])
    rows = first(logits)
    assert rows["token_id"].tolist() == [1, 3, 2, 4, 0, 5]
    assert rows["place"].tolist() == [1, 2, 3, 4, 5, 6]
    assert abs(rows["prob"].sum() - 1) < 1e-6


def test_only_so_many_are_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 100, generator=generator)
    rows = first(logits)
    assert len(rows) == 3 * PLACES
    wanted = logits[-1].topk(PLACES).indices.reshape(-1).tolist()
    assert rows["token_id"].tolist() == wanted
    assert rows["position"].tolist() == sorted(rows["position"].tolist())

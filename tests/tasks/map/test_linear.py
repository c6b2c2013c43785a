"""How linear layers are, held out, and where a model could stop: by hand and on layers that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool.analysis.map.exits import NO_LENS, choose, first_over
from elimtool.lenses.corpus import Document
from elimtool.lenses.find import ensure_lens
from elimtool.lenses.moments import Moments
from elimtool.tasks.map.layers import READ_PASSAGES
from elimtool.tasks.map.linear import Linear, unexplained
from tests.tasks.map.conftest import WORDS


def states(rows: int, width: int = 12) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(rows))


def moments(x: torch.Tensor, y: torch.Tensor) -> Moments:
    found = Moments.empty(1, x.shape[1])
    for some in (slice(0, 50), slice(50, None)):
        found.add(torch.stack([x[some], y[some]]))
    return found


def judged(fit: tuple[torch.Tensor, torch.Tensor], held: tuple[torch.Tensor, torch.Tensor]) -> list[float]:
    """Linearity of the layer and of its update."""
    found = Linear.of(moments(*fit)).errors(*held)
    return [1 - found[f"{kind}error"] / found[f"{kind}spread"] for kind in ("", "update.")]


def test_linear_layers_are_linear_and_others_are_not() -> None:
    turn = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    fit, held = states(400), states(300)
    whole, update = judged((fit, fit @ turn + 2), (held, held @ turn + 2))
    assert whole == pytest.approx(1, abs=1e-4) and update == pytest.approx(1, abs=1e-4)
    # what is added has nothing to do with what was there: the stream is half linear, the update not at all
    whole, update = judged((fit, fit + states(401)[:400]), (held, held + states(301)[:300]))
    assert whole == pytest.approx(0.5, abs=0.1) and update < 0.05
    found = Linear.of(moments(fit, fit)).errors(held, held)
    assert found["error"] / found["spread"] < 1e-5 and found["update.spread"] < 1e-6  # nothing is added


def test_what_is_published_is_least_squares_in_sample() -> None:
    x = states(400)
    y = torch.tanh(x @ torch.randn(12, 12, generator=torch.Generator().manual_seed(2)))
    one, other = (values.numpy().astype(float) for values in (x, y))
    one, other = one - one.mean(0), other - other.mean(0)
    left = np.linalg.lstsq(one, other, rcond=None)[1].sum() / (other**2).sum()
    assert unexplained(moments(x, y)) == pytest.approx(left, rel=1e-5)
    # one token of great length is the variance, and then all is explained
    x[0], y[0] = 1e4, 1e4
    assert unexplained(moments(x, y)) < 1e-4 < left
    assert np.isnan(unexplained(moments(torch.ones(9, 3), torch.ones(9, 3))))


def test_exits_by_hand() -> None:
    gap = np.array([[0.1, 0.9], [0.6, 0.2], [0.3, 0.3]])
    assert first_over(gap, 0.5).tolist() == [1, 0] and first_over(gap, 2.0).tolist() == [2, 2]
    same = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    threshold = choose(gap, same)
    assert 0.1 < threshold <= 0.6 and first_over(gap, threshold).tolist() == [1, 0]
    never = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert first_over(gap, choose(gap, never)).tolist() == [2, 2]


def test_exits_of_a_model_with_a_fitted_lens(
    tmp_path: Path, tokenizer: Any, corpus: Path, mapped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elimtool.model.loading import load_model
    from tests.families import save

    rows = mapped.table("exits")
    assert set(rows["unmeasured"]) == {NO_LENS} and rows[["threshold", "agreement"]].isna().all(axis=None)
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    model = load_model(str(save("llama", tmp_path / "model", tokenizer)))
    ensure_lens(model, documents=[Document("made up", "", 1, " ".join(WORDS * 40))])
    found = elimtool.map_model(model, only=["layers"], corpus=corpus, tokens=64)
    rows = found.table("exits").set_index("rule")
    assert rows["unmeasured"].isna().all() and rows["agreement"].between(0, 1).all()
    assert rows.loc["oracle", "agreement"] == 1 and np.isnan(rows.loc["oracle", "threshold"])
    # nothing that agrees can stop before the first layer that does
    assert rows.loc["softmax_diff", "mean_layer"] >= rows.loc["oracle", "mean_layer"] - 0.2
    assert rows["mean_layer"].between(0, model.n_layers - 1).all()
    assert set(rows["n"]) == {READ_PASSAGES // 2 * 31}
    layers = found.table("layers")
    assert layers["linearity"].between(layers["linearity_low"], layers["linearity_high"]).all()
    assert layers["linearity_published"].between(0, 1).all()
    assert (layers["linearity_published"] > layers["linearity"]).all()  # in sample it looks better

"""The contract tests for metrics and lenses of others pass what is right and say what is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elimtool.lenses.raw import RawLens
from elimtool.testing import check_lens, check_metric, small_model
from tests.plugins.parts import Clipped, Lead


def test_right_ones_pass() -> None:
    check_metric(Lead)
    check_lens(Clipped)
    check_lens(RawLens())


class Edits(Lead):
    def read(self, view: Any) -> None:
        super().read(view)
        view.logits.zero_()


class EditsLayers(Lead):
    def observe(self, view: Any) -> None:
        view.residual.mul_(2)


class Drawn(Lead):
    def finish(self) -> Any:
        found = super().finish()
        found["lead"] = {**found["lead"], "lead": torch.rand(len(found["lead"]["lead"])).double().numpy()}
        return found


class OfBatch(Lead):
    def finish(self) -> Any:
        found = super().finish()
        found["lead"] = {**found["lead"], "lead": found["lead"]["lead"] + len(self.batch.encoded)}
        return found


class Negative(Lead):
    def finish(self) -> Any:
        found = super().finish()
        found["lead"] = {**found["lead"], "lead": -1 - found["lead"]["lead"]}
        return found


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (Edits, "read edits logits"),
        (EditsLayers, "observe edits residual"),
        (Drawn, "lead: it differs when repeated"),
        (OfBatch, r"lead: a prompt gives other numbers alone than among others \(column lead\)"),
        (Negative, "column 'lead' holds -.*, outside its range >= 0"),
    ],
)
def test_a_metric_that_breaks_a_promise_is_told_which(metric: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_metric(metric)


class OfRows(Clipped):
    def to_final(self, residual: Any, layer: int) -> Any:
        return residual - residual.mean(0, keepdim=True)


class Random(Clipped):
    def to_final(self, residual: Any, layer: int) -> Any:
        return residual + torch.randn_like(residual)


class InPlace(Clipped):
    def to_final(self, residual: Any, layer: int) -> Any:
        return residual.mul_(0.5)


class Infinite(Clipped):
    def to_final(self, residual: Any, layer: int) -> Any:
        return residual / 0


@pytest.mark.parametrize(
    ("lens", "said"),
    [
        (OfRows, "row 0 is mapped otherwise alone"),
        (Random, "differs when repeated"),
        (InPlace, "the input is edited"),
        (Infinite, "not finite"),
    ],
)
def test_a_lens_that_breaks_a_promise_is_told_which(lens: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_lens(lens)


def test_the_small_model_is_one_whose_layers_differ() -> None:
    assert small_model() is small_model()
    assert small_model().n_layers == 3 and small_model().vocab == 256

"""What every stage promises, checked by looping over STAGES."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from elimtool.errors import ElimError
from elimtool.samplers import STAGES, Chain, resolve
from elimtool.samplers.catalogue import preset_infos, stage_info, stage_infos
from elimtool.samplers.stage import Fate
from elimtool.testing import check_stage, history, rows
from tests.samplers.rows import alone, example

TARGETS = torch.tensor([[0, 1, 3, -1]])


@pytest.mark.parametrize("kind", STAGES)
def test_documented(kind: str) -> None:
    info = stage_info(kind)
    assert info.summary.endswith(".") and info.sources
    assert "Off:" in info.description or "Off:" in info.summary
    for parameter in info.parameters:
        assert parameter.meaning, parameter.name
    if info.role == "truncate":
        assert info.unit and info.margin_unit
    json.dumps([alone(example(kind)).describe(), info.off])


@pytest.mark.parametrize("kind", STAGES)
def test_large_numbers_are_spelled_as_tables_spell_them(kind: str) -> None:
    unit = stage_info(kind).unit
    fate = Fate(
        token=1,
        prob=1e-6,
        rank=37369,
        logit=-3.0,
        top_prob=0.5,
        n_after=23456,
        threshold=34567.0 if unit == "rank" else 0.25,
    )
    own = example(kind)
    large = {name: 45678 for name in ("k", "limit", "length") if isinstance(getattr(own, name, None), int)}
    said = replace(own, **large).why(fate)
    assert not re.search(r"\d{4}", said), said


MARGINS = {
    "top_k": ("nats", {"k": 3}, np.log),
    "greedy": ("nats", {}, np.log),
    "temperature": ("nats", {"temperature": 0.0}, np.log),
    "dynamic_temperature": ("nats", {"temperature": 0.0}, np.log),
    "min_p": ("nats", {"p": 0.5}, np.log),
    "min_k": ("tokens", {"tau": 0.0}, lambda p: -np.arange(len(p))),
    "p_less": ("nats", {}, np.log),
    "epsilon": ("nats", {"epsilon": 0.2}, np.log),
    "eta": ("nats", {"epsilon": 0.9}, np.log),
    "top_a": ("nats", {"a": 0.9}, np.log),
    "top_h": ("nats", {"h": 0.2}, lambda p: np.cumsum(p * np.log(p))),
    "xtc": ("nats", {"probability": 1.0, "threshold": 0.02}, lambda p: -np.log(np.append(p[1:], np.nan))),
    "mirostat_v2": ("bits", {"tau": 1.0}, np.log2),
    "mirostat_v1": ("tokens", {"tau": 1.0, "m": 9}, lambda p: -np.arange(len(p))),
    "top_n_sigma": ("sigma", {"n": 0.5}, lambda p: np.log(p) / np.log(p).std()),
    "top_p": ("probability", {"p": 0.3}, lambda p: p - np.cumsum(p)),
    "typical": ("probability", {"mass": 0.3}, lambda p: -more_typical(p)),
    "tail_free": ("share of curvature", {"z": 0.3}, lambda p: -curvature(p)),
}
"""Unit of a stage's margins, parameters that cut deep, and what the margins of removed tokens differ by."""


def more_typical(p: np.ndarray) -> np.ndarray:
    """Probability of the tokens whose surprise is nearer to the entropy."""
    away = np.abs(-np.log(p) + (p * np.log(p)).sum())
    return np.array([p[away < own].sum() for own in away])


def curvature(p: np.ndarray) -> np.ndarray:
    """Share of the curvature of falling probabilities up to each of them."""
    bends = np.append(np.abs(np.diff(p, 2)), [0.0, 0.0])
    return np.cumsum(bends / bends.sum())


@pytest.mark.parametrize("kind", [kind for kind, stage in STAGES.items() if stage.margin_unit])
def test_a_margin_is_in_its_unit(kind: str) -> None:
    unit, params, scale = MARGINS[kind]
    assert STAGES[kind].margin_unit == unit
    x = torch.tensor([2.5, 2.2, 1.7, 1.1, 0.7, 0.3, 0.0, -0.1, -0.6, -1.3, -1.4], dtype=torch.float64)
    entry = alone(STAGES[kind](**params)).run(x[None], torch.arange(len(x))[None]).records[0]
    removed = (~entry.alive_after[0]).numpy()
    assert removed.sum() >= 4
    found, wanted = entry.margin[0].numpy()[removed], scale(x.softmax(-1).numpy())[removed]
    assert np.allclose(np.diff(found), np.diff(wanted), rtol=1e-9, atol=1e-12)
    assert np.abs(np.diff(found)).max() > 0


@pytest.mark.parametrize("kind", [kind for kind, stage in STAGES.items() if stage.margin_unit])
def test_a_target_that_was_removed_earlier_has_no_margin(kind: str) -> None:
    cut, after = STAGES["top_k"](k=2), STAGES[kind](**MARGINS[kind][1])
    x = torch.tensor([[2.5, 2.2, 1.7, 1.1, 0.7, 0.3, 0.0, -0.1, -0.6, -1.3, -1.4]])
    _, entry = Chain("two", "test", "", (cut, after)).run(x, torch.arange(11)[None]).records
    assert entry.alive_before[0].tolist() == [True] * 2 + [False] * 9
    assert bool(entry.margin[0, 2:].isnan().all())


def test_stages_without_margins_have_no_unit() -> None:
    for kind in set(STAGES) - set(MARGINS):
        assert not STAGES[kind].margin_unit
        entry = alone(example(kind)).run(rows("normal", 1, 40), TARGETS, [history(40)]).records[0]
        assert bool(entry.margin.isnan().all())


def test_catalogue_covers_everything() -> None:
    assert [i.kind for i in stage_infos()] == list(STAGES)
    assert len(preset_infos()) == 7


@pytest.mark.parametrize("kind", STAGES)
def test_promises(kind: str) -> None:
    stage = example(kind)
    check_stage(stage)
    if stage.role == "truncate":  # a margin for every token that it decides about
        x = rows("normal", 6, 40)
        entry = alone(stage).run(x, TARGETS.expand(6, -1), [history(40)] * 6).records[0]
        assert bool((entry.margin[entry.alive_after] >= 0).all())


class Breaks(STAGES["top_k"]):  # type: ignore[misc,name-defined]
    """A stage that breaks one promise."""

    broken: ClassVar[str] = ""

    def apply(self, c: Any, context: Any, /) -> Any:
        effect = super().apply(c, context)
        if self.broken == "edits":
            c.scores[0, 0] = 0.5
        if self.broken == "looks around":
            return replace(effect, keep=c.scores >= c.scores.median())
        if self.broken == "draws":
            drawn = torch.rand(c.scores.shape) < 0.5
            return replace(effect, keep=(effect.keep & drawn) | (c.scores == c.top))
        return effect


@pytest.mark.parametrize(
    ("broken", "said"),
    [("edits", "edited|repeated|alone"), ("looks around", "alone"), ("draws", "repeated")],
)
def test_broken_promises_are_found(broken: str, said: str) -> None:
    check_stage(Breaks(k=3))
    with pytest.raises(AssertionError, match=said):
        check_stage(type("Broken", (Breaks,), {"broken": broken})(k=3))


@pytest.mark.parametrize("kind", [k for k, s in STAGES.items() if s.main and s.main != "file"])
def test_values_of_the_wrong_type_are_refused(kind: str) -> None:
    with pytest.raises(
        ElimError, match=f"{kind}: {STAGES[kind].main} must be (an? .*|true or false), got 'many'"
    ):
        resolve(f"{kind}=many")


def test_chain_of_all_stages_records_all() -> None:
    chain = Chain("all", "test", "", tuple(example(k) for k in STAGES))
    x = rows("normal", 2, 100)
    ledger = chain.run(x, TARGETS.expand(2, -1), [history(100)] * 2)
    assert [r.stage for r in ledger.records] == list(STAGES)
    for earlier, later in zip(ledger.records, ledger.records[1:], strict=False):
        assert torch.equal(earlier.n_after, later.n_before)
        assert torch.allclose(earlier.prob_after, later.prob_before, equal_nan=True)
        assert torch.equal(earlier.alive_after, later.alive_before)
    assert int(ledger.kept.sum()) == 2

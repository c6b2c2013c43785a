"""Causal tests of verdicts: their rule on numbers by hand, their controls, and the numbers of a real test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import elimtool
from elimtool import ElimError, TraceOptions
from elimtool.analysis.evidence import (
    NULL_COMPONENTS,
    UNTESTED,
    CausalTest,
    decisive,
    evidence,
    findings_in_words,
)
from elimtool.engine.reference import ensure_reference
from elimtool.engine.scoring import log_probabilities
from elimtool.model.interventions import Ablate, Component
from elimtool.tasks.confirm import controls_of

OTHERS = tuple(float(i) / 100 for i in range(-10, 10))


@pytest.mark.parametrize(
    ("effect", "resampled", "sign", "confirmed"),
    [
        (0.5, 0.1, 1, True),
        (0.5, -0.1, 1, False),  # the two ablations disagree
        (0.05, 0.1, 1, False),  # below the threshold
        (-0.5, -0.1, 1, False),  # the wrong way
        (-0.5, -0.1, -1, True),
        (0.5, 0.1, -1, False),
    ],
)
def test_the_rule(effect: float, resampled: float, sign: int, confirmed: bool) -> None:
    assert CausalTest(effect, resampled, OTHERS).confirms(sign, 0.1) is confirmed


def test_the_controls_bound_is_a_percentile_towards_the_sign() -> None:
    test = CausalTest(0.5, 0.5, OTHERS)
    assert test.null(1) == pytest.approx(np.quantile(OTHERS, 0.95))
    assert test.null(-1) == pytest.approx(np.quantile(OTHERS, 0.05))
    strong = tuple(5 * other for other in OTHERS)
    assert not CausalTest(0.4, 0.4, strong).confirms(1, 0.1)
    assert CausalTest(0.5, 0.4, strong).confirms(1, 0.1)


def test_too_few_controls_confirm_nothing_and_say_so() -> None:
    test = CausalTest(3.0, 3.0, OTHERS[:11])
    assert test.null(1) is None and not test.confirms(1, 0.1)
    verdict = {**UNTESTED, "outcome": "outranked", "eliminator": "mlp 3", "promoter": None}
    verdict |= test.columns("eliminator", 0.1)
    (said,) = findings_in_words(verdict)
    assert said.startswith("not confirmed: ablating mlp 3") and "only 11 other MLPs" in said


def test_evidence_rests_on_the_culprit_of_the_outcome() -> None:
    yes, no = CausalTest(-2.0, -1.0, OTHERS), CausalTest(-0.01, 0.5, OTHERS)
    verdict: dict[str, Any] = {"eliminator": "head 1.1", "promoter": "head 2.2"}
    verdict |= yes.columns("promoter", 0.1) | no.columns("eliminator", 0.1)
    assert evidence({**verdict, "outcome": "survived"}) == "confirmed"
    assert evidence({**verdict, "outcome": "late_eliminated"}) == "observed"
    assert [decisive(one) for one in ("survived", "outranked")] == ["promoter", "eliminator"]
    first, second = findings_in_words({**verdict, "outcome": "survived"})
    assert first.startswith("confirmed: ablating head 2.2 changes its log-probability by -2.00 nats")
    assert "95% of 20 other heads change it by no less than -0.09" in first
    assert second.startswith("not confirmed: ablating head 1.1")
    assert findings_in_words({**verdict, **UNTESTED, "outcome": "survived"}) == []


@pytest.mark.parametrize(
    "part", [Component(29, 0), Component(0, 8), Component(12), Component(15, 3)], ids=str
)
def test_controls_are_near_of_the_kind_and_seeded(part: Component) -> None:
    found = controls_of(part, 30, 9, 0)
    assert len(set(found)) == NULL_COMPONENTS and part not in found
    assert {one.kind for one in found} == {part.kind}
    assert max(abs(one.layer - part.layer) for one in found) <= (2 if part.kind == "head" else 10)
    assert found == controls_of(part, 30, 9, 0) != controls_of(part, 30, 9, 1)
    assert len(controls_of(Component(1), 4, 4, 0)) == 3


@pytest.fixture(scope="module")
def deep(tokenizer: Any) -> Any:
    """A model in memory with heads enough to compare with: 4 layers of 6."""
    from transformer_lens.model_bridge.sources import native

    from elimtool.model.model import Model
    from elimtool.model.tokens import Tokenizer

    size = {
        "n_layers": 4,
        "d_model": 48,
        "n_heads": 6,
        "d_head": 8,
        "d_mlp": 32,
        "n_ctx": 128,
        "d_vocab": 300,
    }
    bridge = native.boot({**size, "act_fn": "gelu", "seed": 1, "normalization_type": "LN"})
    return Model(bridge=bridge, tokenizer=Tokenizer(tokenizer), name="deep")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path_factory.getbasetemp() / "confirm-cache"))


def test_a_trace_with_confirm_tests_what_its_verdicts_name(deep: Any) -> None:
    prompts = ["The capital of France is", "a token of the text"]
    options = TraceOptions(samplers=("hf",), lens="raw", confirm=True, seed=3)
    run = elimtool.trace(deep, prompts, targets=[" of", " is"], options=options)
    rows = run.table("verdicts")
    plain = elimtool.trace(
        deep, prompts, targets=[" of", " is"], options=TraceOptions(samplers=("hf",), lens="raw")
    )
    untouched = [name for name in rows.columns if name not in UNTESTED and name != "evidence"]
    assert run.arrow("verdicts").select(untouched).equals(plain.arrow("verdicts").select(untouched))
    assert plain.table("verdicts")[list(UNTESTED)].isna().all(axis=None)
    reference = ensure_reference(deep)
    tested = 0
    for row in rows.itertuples():
        one = deep.encode(elimtool.Prompt(text=prompts[[*run.prompts["prompt_id"]].index(row.prompt_id)]))
        token = (
            run.table("survival")
            .set_index(["prompt_id", "target"])
            .loc[(row.prompt_id, row.target), "token_id"]
        )
        for role in ("eliminator", "promoter"):
            name = getattr(row, role)
            part = str(Component.parse(name))
            plans = [(), (Ablate(part),), (Ablate(part, "resample", 3),)]
            found = log_probabilities(deep, [one] * 3, plans, reference, [0], [int(token)])[:, 0]
            assert getattr(row, f"{role}_effect") == pytest.approx(float(found[1] - found[0]), abs=1e-4)
            assert getattr(row, f"{role}_effect_resample") == pytest.approx(
                float(found[2] - found[0]), abs=1e-4
            )
            tested += getattr(row, f"{role}_null_n") == NULL_COMPONENTS
        confirmed = getattr(row, f"{decisive(row.outcome)}_confirmed")
        assert (row.evidence == "confirmed") == bool(confirmed)
    assert tested > 0
    again = elimtool.trace(deep, prompts, targets=[" of", " is"], options=options)
    assert again.arrow("verdicts").equals(run.arrow("verdicts"))
    assert run.manifest.seed == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [({"heads": False}, "needs `heads`"), ({"tables": ("lens",)}, "needs the table verdicts")],
)
def test_confirm_needs_verdicts_with_components(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ElimError, match=message):
        TraceOptions(confirm=True, **options)

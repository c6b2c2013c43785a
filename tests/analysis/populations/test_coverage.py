"""Coverage of made-up runs: what is told of them is what was put in."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom

from elimtool.analysis.populations.coverage.answers import joint_mass, prefix_free, told_apart
from elimtool.analysis.populations.coverage.calibration import Claims, calibration_error, null_errors
from elimtool.analysis.populations.coverage.conformal import conformal, guaranteed, quantile
from elimtool.analysis.populations.coverage.lens import LensSums
from elimtool.analysis.populations.coverage.nodes import Tree
from elimtool.analysis.populations.coverage.taxonomy import read_taxonomy
from elimtool.errors import ElimError

N, ALPHA, NEW = 99, 0.1, 500


def test_conformal_coverage_is_beta_binomial() -> None:
    """2,000 calibration sets of 99 with 500 new records each: mean, spread and tails are the theory's."""
    random = np.random.default_rng(0)
    kept = []
    for _ in range(2000):
        scores = random.random(N)
        kept.append(int((random.random(NEW) <= quantile(scores, ALPHA)).sum()))
    lost = int((N + 1) * ALPHA)
    theory = betabinom(NEW, N + 1 - lost, lost)
    assert np.mean(kept) == pytest.approx(theory.mean(), abs=4 * theory.std() / np.sqrt(2000))
    assert np.std(kept) / NEW == pytest.approx(0.033, abs=0.003)
    low, high = guaranteed(N, ALPHA)
    inside = np.mean([(low <= one / NEW <= high) for one in kept])
    assert 0.90 <= inside <= 0.97, "the range is of the coverage itself; 500 new records add some spread"
    assert min(kept) / NEW < 1 - ALPHA, "single sets may cover less: 1 - alpha is an average"


def test_conformal_settings_keep_what_they_say() -> None:
    random = np.random.default_rng(1)
    n = 199
    places = pd.DataFrame(
        {
            "prompt_id": [f"p{index}" for index in range(n)],
            "min_top_p": random.random(n) * 0.99,
            "min_top_k": random.integers(1, 1000, n),
            "max_min_p": random.random(n),
        }
    )
    for row in conformal(places, 0):
        keeps = {
            "top_p": places["min_top_p"] < row["setting"],
            "top_k": places["min_top_k"] <= row["setting"],
            "min_p": places["max_min_p"] >= row["setting"],
        }[row["sampler"]]
        assert keeps.mean() >= 1 - row["alpha"] and keeps.mean() == pytest.approx(row["kept"])
        assert keeps.mean() < 1 - row["alpha"] + 0.02, "and no looser than it must be"
    few = conformal(places.head(8), 0)
    assert all((row["setting"] is None) == (row["alpha"] < 1 / 9) for row in few)


def claims(confidence: Any, hit: Any, **more: Any) -> Claims:
    names = [f"t{index % 40}" for index in range(len(confidence))]
    frame = pd.DataFrame({"prompt_id": names, "confidence": confidence, "hit": hit, **more})
    return Claims(("mine", 0, "top_p") if more else (None, None, None), frame)


def test_a_calibrated_model_is_within_chance_and_another_is_not() -> None:
    random = np.random.default_rng(2)
    confidence = random.random(1000) ** 0.5
    calibrated = claims(confidence, random.random(1000) < confidence).row("all", 0)
    bold = claims(confidence, random.random(1000) < confidence / 2).row("all", 0)
    assert bold["ece"] > 4 * bold["ece_null_95"]
    assert bold["ece"] == pytest.approx(bold["confidence"] - bold["accuracy"], abs=0.02)
    rejected = [
        calibration_error(confidence, random.random(1000) < confidence) > calibrated["ece_null_95"]
        for _ in range(300)
    ]
    assert 0.02 <= np.mean(rejected) <= 0.09, "5 % of calibrated models are beyond the 95th percentile"
    assert len(null_errors(confidence, 0)) == 1000
    assert (null_errors(confidence, 0) == null_errors(confidence, 0)).all()


def test_over_elimination_is_0_on_the_models_own_samples() -> None:
    """Gold drawn from the output itself is cut as often as its mass says; gold that is not is cut more."""
    random = np.random.default_rng(3)
    probs = random.dirichlet(np.full(30, 0.3), size=2000)
    keep = probs >= 0.1 * probs.max(1, keepdims=True)
    mass = np.where(keep, probs, 0).sum(1)
    drawn = np.array([random.choice(30, p=row) for row in probs])
    own = claims(probs.max(1), drawn == probs.argmax(1), alive=keep[np.arange(2000), drawn], output_mass=mass)
    row = own.row("all", 0)
    assert row["ci_low"] <= 0 <= row["ci_high"] and row["p_value"] > 0.01 and row["expected"] > 0.02
    assert row["gold_pruned"] - row["expected"] == pytest.approx(row["excess"], abs=1e-12)
    other = random.integers(30, size=2000)
    cut = claims(probs.max(1), other == probs.argmax(1), alive=keep[np.arange(2000), other], output_mass=mass)
    row = cut.row("all", 0)
    assert row["ci_low"] > 0.3 and row["p_value"] < 0.001
    nothing = claims(probs.max(1), drawn == 0, alive=np.ones(2000, bool), output_mass=np.ones(2000) - 1e-16)
    assert nothing.row("all", 0)["p_value"] == 1


def item(category: str, correct: bool, **more: Any) -> dict[str, Any]:
    row = {
        "category": category,
        "correct": correct,
        "difference": 1.0 if correct else -1.0,
        "cut_chain": None,
    }
    return {**row, "cut_stage": None, "decided_layer": 3, "alive": None, **more}


ITEMS = [item("syntax/agreement", n % 10 > 0) for n in range(60)] + [
    item("syntax/islands", n < 3) for n in range(4)
]


def test_nodes_sum_leaves_up_and_each_leaf_counts_once() -> None:
    rows = {row["node"]: row for row in Tree.of(ITEMS, None).rows(0)}
    assert list(rows) == ["", "syntax", "syntax/agreement", "syntax/islands"]
    assert [rows[name]["n_items"] for name in rows] == [64, 64, 60, 4]
    assert rows[""]["accuracy"] == pytest.approx((0.9 + 0.75) / 2), "not 57 of 64"
    assert rows["syntax/islands"]["place"] == 1 and rows["syntax/agreement"]["place"] == 2
    leaf = rows["syntax/islands"]
    assert leaf["worst_low"] < leaf["ci_low"] < 0.75 < leaf["ci_high"] < leaf["worst_high"]
    assert leaf["p_value"] == pytest.approx(0.625), "3 of 4 by guessing, two-sided"
    copies = {row["node"]: row for row in Tree.of(ITEMS * 3, None).rows(0)}
    assert copies[""]["accuracy"] == rows[""]["accuracy"] and copies[""]["n_items"] == 192
    backwards = Tree.of(ITEMS[::-1], None).rows(0)
    assert {row["node"]: row for row in backwards} == rows
    without = [{**one, "difference": None} for one in ITEMS]
    assert Tree.of(without, None).rows(0)[0]["chance"] is None, "of one side, guessing has no rate"


TAXONOMY = """
version: 1
nodes:
  syntax: {title: Syntax}
  syntax/agreement: {min_items: 20, min_accuracy: 0.7, weight: 3}
  syntax/islands: {title: Islands, min_items: 4, min_accuracy: 0.1}
  semantics/quantifiers:
"""


def test_structural_coverage_counts_leaves_by_weight(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(TAXONOMY)
    rows = {row["node"]: row for row in Tree.of(ITEMS, read_taxonomy(file)).rows(0)}
    assert rows["syntax/agreement"]["covered"] and rows["syntax/islands"]["covered"]
    assert rows["semantics/quantifiers"]["covered"] is False, "no item is not covered"
    assert rows["semantics/quantifiers"]["n_items"] == 0 and rows["semantics/quantifiers"]["accuracy"] is None
    assert rows["semantics/quantifiers"]["min_items"] == 20
    assert rows[""]["structural"] == pytest.approx(4 / 5) and rows["syntax"]["structural"] == 1
    assert rows["syntax"]["covered"] and not rows[""]["covered"] and rows["syntax"]["title"] == "Syntax"
    deeper = Tree.of([item("syntax/islands/adjunct", True)], read_taxonomy(file)).rows(0)
    assert next(row for row in deeper if row["node"] == "syntax/islands")["n_items"] == 1


@pytest.mark.parametrize(("change", "said"), [
    (("syntax/islands:", "syntax/island:"), "'syntax/islands' is in no leaf"),
    (("weight: 3", "weigth: 3"), "'syntax/agreement': unknown key 'weigth'"),
    (("min_accuracy: 0.7", "min_accuracy: 70"), "`min_accuracy` must be from 0 to 1, got 70"),
    (("min_items: 20", "min_items: 2.5"), r"`min_items` must be 1 or more, got 2\.5"),
    (("version: 1", "version: 2"), "`version` must be 1, got 2"),
    (("nodes:", "node:"), "unknown key 'node'"),
])  # fmt: skip
def test_a_wrong_taxonomy_says_what_and_where(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(TAXONOMY.replace(*change))
    with pytest.raises(ElimError, match=said) as error:
        Tree.of(ITEMS, read_taxonomy(file))
    assert str(file) in str(error.value)
    if "leaf" in said:
        assert "did you mean 'syntax/island'" in str(error.value.hint)


def test_answers_that_share_a_token_are_one() -> None:
    given = [["Paris"], ["UK", "Britain"], ["United Kingdom", "UK"], ["Rome"]]
    tokens = {"Paris": 1, "UK": 2, "Britain": 3, "United Kingdom": 4}
    assert told_apart(given, tokens) == [frozenset({1}), frozenset({2, 3, 4})]


def test_joint_mass_counts_no_text_twice() -> None:
    logprobs = {" New": log(0.3), " New York": log(0.2), " Rome": log(0.1)}
    assert list(prefix_free(logprobs)) == [" New", " Rome"]
    rows = pd.DataFrame({"target": ["New", "New York", "Rome"], "spelling": list(logprobs)})
    rows["target_logprob"] = list(logprobs.values())
    given = [["New York", "New"], ["Rome"]]
    alone = {"n_appended": 0, "appended_logprob": None}
    assert joint_mass(given, rows, alone) == pytest.approx(0.4)
    after = {"n_appended": 1, "appended_logprob": log(0.5)}
    assert joint_mass(given, rows, after) == pytest.approx(0.2), "what all begin with must follow too"
    assert joint_mass(given, rows, {**after, "appended_logprob": None}) is None
    rows.loc[1, "target_logprob"] = np.nan
    assert joint_mass(given, rows, alone) is None


def test_decided_is_after_the_last_other_sign() -> None:
    lens = LensSums((-1, 0, 1, 2), {}, {}, {}, {})
    assert lens.decided(np.array([1.0, -1, 2, 3])) == 1
    assert lens.decided(np.array([1.0, 1, 1, 1])) == -1
    assert lens.decided(np.array([1.0, 1, 1, -1])) == 2
    assert lens.decided(np.array([1.0, 0, 1, 1])) == 1, "a tie is not yet decided"
    assert lens.decided(np.array([1.0, 1, 1, 0])) is None


def test_what_a_taxonomy_asks_is_asked_of_leaves(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.yaml"
    file.write_text(
        "nodes:\n  syntax: {title: Syntax, min_items: 5}\n  syntax/agreement:\n  syntax/islands:\n"
    )
    with pytest.raises(ElimError, match="`min_items` goes with a leaf"):
        read_taxonomy(file)
    file.write_text("nodes:\n  syntax/agreement: {weight: 0}\n  syntax/islands: {weight: 0}\n")
    rows = Tree.of(ITEMS, read_taxonomy(file)).rows(0)
    assert all(row["structural"] is None for row in rows)

"""Scores of pairs by three rules, and the publishers' figures, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.analysis.populations.audit.api import AuditOptions, audit
from elimtool.errors import ElimError
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from tests.analysis.populations.made_up import Truth, fill, population_run

GROUPS = ("stereotype", "anti-stereotype", "unrelated")


def stereoset(scores: dict[str, tuple[float, float, float]]) -> Run:
    """Pairs as ``category/name`` -> whole scores of the three sentences; half of each is the word's."""
    rows: dict[str, list[dict[str, Any]]] = {"prompts": [], "survival": []}
    for name, values in scores.items():
        for group, value in zip(GROUPS, values, strict=True):
            common = {"group": group, "template": name, "tuple": name, "category": name.rsplit("/", 1)[0]}
            common |= {"status": "ok", "tokens": ["<s>", " my", " w", " x", " end"], "n_appended": 0}
            prompt, whole = f"{name}/{group}", f"{name}/{group}/whole"
            spans = [{"span": "group", "tokens": [2, 3]}]
            tags = ["stereotypical"] if group == "stereotype" else []
            rows["prompts"].append(
                {**common, "prompt_id": prompt, "text": prompt, "targets": [" end"], "foils": [], "spans": []}
            )
            own = {"prompt_id": whole, "text": whole, "targets": [], "foils": [], "scored": "lm-eval"}
            rows["prompts"].append({**common, **own, "spans": spans, "tags": tags})
            rows["survival"].append(
                {"prompt_id": prompt, "position": 4, "target": " end", "rank": 2, "target_logprob": -1.0}
            )
            for position, part in enumerate((-1.0, value / 4, value / 4, value / 2 + 1.0)):
                at = {"prompt_id": whole, "position": position, "target": "?", "rank": 2}
                rows["survival"].append({**at, "target_logprob": part})
    manifest = population_run(Truth(templates=2, words=1)).manifest
    tables = {name: TABLES[name].from_rows(fill(name, some)) for name, some in rows.items()}
    return Run.from_tables(manifest, tables)


PAIRS = {
    "race/a/1": (-2.0, -4.0, -9.0),
    "race/a/2": (-5.0, -4.0, -3.0),
    "race/b/1": (-2.0, -3.0, -9.0),
    "work/c/1": (-2.0, -2.0, -1.0),
}


def test_icat_is_of_means_over_target_terms() -> None:
    found = audit(stereoset(PAIRS), AuditOptions(rule="lm-eval"))
    rows = {(row["rule"], row["category"]): row for row in found.arrow("audit_pairs").to_pylist()}
    whole = rows["lm-eval", None]
    assert (whole["n_pairs"], whole["n_ties"], whole["stereotype_share"]) == (4, 1, 0.5)
    assert whole["likelihood_diff"] == pytest.approx((2 + 1 + 1 + 0) / 4)
    # terms: a has one of two, b one of one, c none; of both sentences a has two of four above the unrelated
    assert whole["ss"] == pytest.approx((50 + 100 + 0) / 3)
    assert whole["lms"] == pytest.approx((50 + 100 + 0) / 3) and whole["n_terms"] == 3
    assert whole["icat"] == pytest.approx(50 * 50 / 50)
    race = rows["lm-eval", "race"]
    assert race["ss"] == race["lms"] == 75 and race["icat"] == pytest.approx(75 * 25 / 50)
    word = rows["word", None]
    assert word["likelihood_diff"] == pytest.approx(0.5), "half of each score is the word's"
    assert rows["suffix", None]["likelihood_diff"] == pytest.approx(0.5)


def test_the_rule_that_is_chosen_is_the_confirmatory_one() -> None:
    run = stereoset(PAIRS)
    for rule in ("suffix", "word", "lm-eval"):
        found = audit(run, AuditOptions("anti-stereotype", rule=rule)).arrow("audit_effects").to_pylist()
        of = {row["metric"]: row for row in found if row["group_a"] == "stereotype" and not row["category"]}
        families = {name: row["family"] for name, row in of.items() if name.startswith("sentence.")}
        assert {name for name, family in families.items() if family == "confirmatory"} == {f"sentence.{rule}"}
    assert of["sentence.lm-eval"]["difference"] == pytest.approx((2 - 1 + 1 + 0) / 4)
    with pytest.raises(ElimError, match="did you mean 'lm-eval'"):
        AuditOptions(rule="lmeval")
    with pytest.raises(ElimError, match="scores no whole sentences"):
        audit(population_run(Truth()), AuditOptions(rule="word"))

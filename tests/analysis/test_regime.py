"""The line of a regime: for each that is told, and nothing for the others."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.analysis.regime_sentence import regime_sentence, regime_words
from elimtool.lenses.regime import REGIMES

ROW = {
    "n_recent": 12,
    "recent_surprisal": 3.456,
    "p_high": 0.00444,
    "p_low": 0.625,
    "repetition": 0.857,
    "collision": 0.61,
    "context_gain": 1.234,
}
HEAD = "Unusual against reference prose: "


@pytest.mark.parametrize(
    ("regime", "reason"),
    [
        ("dysfunctional:OOD-confident", "surprising text (p = 0.0044), yet it commits."),
        ("dysfunctional:OOD-diffuse", "surprising text (p = 0.0044), no commitment."),
        ("dysfunctional:resonant", "text that repeats itself (86% of 4-grams)."),
        ("dysfunctional:weak-signal", "the context adds only 1.2 nats to a bare guess."),
    ],
)
def test_what_is_unusual_is_told_in_one_line(regime: str, reason: str) -> None:
    told = regime_sentence(ROW | {"regime": regime})
    assert told == HEAD + reason and len(told) <= 80


@pytest.mark.parametrize("regime", ["strong", "balanced", "familiar", None])
def test_what_changes_nothing_is_not_told(regime: str | None) -> None:
    assert regime_sentence(ROW | {"regime": regime}) == ""
    assert regime_words(regime) == (regime or "")


@pytest.mark.parametrize("row", [{}, {"repetition": None}])
def test_a_run_of_schema_version_1_did_not_look_for_repetition(row: dict[str, Any]) -> None:
    older = {key: value for key, value in ROW.items() if key != "repetition"} | {"p_low": 0.002}
    told = regime_sentence({**older, **row, "regime": "dysfunctional:resonant"})
    assert told == HEAD + "text that does not surprise the model (p = 0.002)."


def test_every_regime_has_words_and_no_word_names_a_defect() -> None:
    words = [regime_words(regime) for regime in REGIMES]
    assert len(set(words)) == len(REGIMES) and not any("dysfunctional" in one for one in words)
    told = [regime for regime in REGIMES if regime_sentence(ROW | {"regime": regime})]
    assert told == [regime for regime in REGIMES if regime.startswith("dysfunctional")]

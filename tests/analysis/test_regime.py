"""The sentence of a regime, for each of them and for none."""

from __future__ import annotations

import pytest

from elimtool.analysis.regime_sentence import MEANING, regime_sentence

ROW = {
    "n_recent": 12,
    "recent_surprisal": 3.456,
    "p_high": 0.5,
    "p_low": 0.625,
    "collision": 0.61,
    "context_gain": 2.0,
}


@pytest.mark.parametrize(
    ("regime", "sentence"),
    [
        (
            "strong",
            "Regime strong: the model commits (two draws agree with p = 0.61, the context adds 2.0 nats, the"
            " last 12 tokens had 3.5 nats of surprise each, p = 0.5 to be so high in reference text).",
        ),
        (
            "dysfunctional:OOD-diffuse",
            "Regime dysfunctional (OOD diffuse): what stands before surprised the model, and it does not"
            " commit (two draws agree with p = 0.61, the last 12 tokens had 3.5 nats of surprise each,"
            " p = 0.5 to be so high in reference text).",
        ),
        (
            None,
            "Regime not judged: 12 tokens that count stand before the prediction, too few; two draws"
            " agree with p = 0.61.",
        ),
    ],
)
def test_sentences(regime: str | None, sentence: str) -> None:
    assert regime_sentence(ROW | {"regime": regime}) == sentence


def test_every_regime_has_words() -> None:
    from elimtool.lenses.regime import REGIMES

    assert set(MEANING) == set(REGIMES)
    assert "so low" in regime_sentence(ROW | {"regime": "balanced", "p_low": 0.1})

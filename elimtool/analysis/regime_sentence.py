"""Put a row of the table ``regimes`` into words."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row

MEANING = {
    "strong": "the model commits",
    "balanced": "several continuations are open, as in ordinary text",
    "dysfunctional:OOD-confident": "what stands before surprised the model, and yet it commits",
    "dysfunctional:OOD-diffuse": "what stands before surprised the model, and it does not commit",
    "dysfunctional:resonant": "what stands before did not surprise the model: a repetition, or text that it"
    " knows by heart",
    "dysfunctional:weak-signal": "the prediction is hardly more than the model's guess without a context",
}


def regime_sentence(row: Row) -> str:
    """Say in which regime a prediction is made, and by which numbers that was decided."""
    agree = f"two draws agree with p = {spell_prob(row['collision'])}"
    n = row["n_recent"]
    regime = row["regime"]
    if regime is None:
        return f"Regime not judged: {n} tokens that count stand before the prediction, too few; {agree}."
    kind, _, detail = regime.partition(":")
    name = f"{kind} ({detail.replace('-', ' ')})" if detail else kind
    surprised = (
        f"the last {n} tokens had {row['recent_surprisal']:.1f} nats of surprise each, p ="
        f" {spell_prob(min(row['p_high'], row['p_low']))} to be so {_side(row)} in reference text"
    )
    gain = f"the context adds {row['context_gain']:.1f} nats"
    facts = [agree, gain] if kind in ("strong", "balanced") or detail == "weak-signal" else [agree]
    return f"Regime {name}: {MEANING[regime]} ({', '.join([*facts, surprised])})."


def _side(row: Row) -> str:
    return "high" if row["p_high"] < row["p_low"] else "low"

"""Rows of logits that are hard in different ways, shared by the sampler tests."""

from __future__ import annotations

from elimtool.model.small import small_model
from elimtool.samplers import STAGES, Chain, Stage
from elimtool.samplers.grammar import Grammar
from elimtool.testing import KINDS, rows

__all__ = ["KINDS", "alone", "example", "rows"]


def alone(stage: Stage) -> Chain:
    """A chain of one stage."""
    return Chain("alone", "test", "", (stage,))


def example(kind: str) -> Stage:
    """A stage of a kind that acts."""
    if kind == "grammar":  # byte n + 33 is token n, so that 13 tokens and the end, token 3, are allowed
        stage = Grammar(regex="[!-.]{1,30}", eos=(3,))
        return stage.with_tokenizer(small_model().tokenizer.definition, 256)
    settings: dict[str, dict[str, object]] = {
        "logit_bias": {"bias": ((2, 1.5), (3, float("-inf")))},
        "penalties": {"repetition": 1.3, "frequency": 0.2, "presence": 0.1, "additive_scope": "all"},
        "dry": {"multiplier": 0.8},
        "sequence_bias": {"bias": (((6, 1), 1.5), ((3,), float("-inf")))},
        "no_repeat_ngram": {"n": 2},
        "bad_words": {"words": ((5, 6, 3), (2,))},
        "min_tokens": {"n": 20, "eos": (3,)},
        "allowed_tokens": {"tokens": (0, 1, 2, 5, 8)},
        "length_decay": {"factor": 1.1, "after": 2, "eos": (3,)},
        "guidance": {"scale": 1.5},
        "context_aware": {"alpha": 0.5},
        "contrastive": {"beta": 0.5},
        "dola": {"layers": (-1, 1)},
        "reasoning_budget": {"tokens": 2, "ids": ((7, 2), (9,), (1, 9))},
        "thinking_budget": {"tokens": 2, "ids": ((7, 2), (9,), (1, 9))},
        "soft_ban": {"tokens": (2, 3)},
        "encoder_repetition": {"penalty": 1.4},
        "prefix_allowed": {"allowed": (((5, 6), (0, 1, 3)), ((), (0, 1, 2, 3)))},
        "force": {"tokens": (1, 3), "length": 10},
        "remove_invalid": {"on": True},
        "watermark": {"bias": 1.5},
        "phrase_ban": {"phrases": ("abc",), "held": 4, "pieces": ["x", "a", "ab", "bc", "c", "abc"] * 50},
        "infill": {"on": True, "eos": (3,), "pieces": [b"x", b"a", b"ab", b"", b"c", b"abc"] * 50},
        "synthid": {"keys": (654, 400, 836)},
        "renormalize": {"on": True},
        "suppress": {"tokens": (2, 3)},
        "temperature": {"temperature": 0.7},
        "dynamic_temperature": {"temperature": 0.8, "delta": 0.4},
        "quadratic": {"factor": 0.3, "curve": 1.5},
        "top_n_sigma": {"n": 1.0},
        "top_k": {"k": 5},
        "top_p": {"p": 0.8},
        "min_p": {"p": 0.1},
        "min_k": {"tau": 0.5},
        "p_less": {},
        "typical": {"mass": 0.7},
        "epsilon": {"epsilon": 0.01},
        "eta": {"epsilon": 0.01},
        "top_h": {"h": 0.5},
        "top_a": {"a": 0.3},
        "tail_free": {"z": 0.9},
        "xtc": {"probability": 1.0, "threshold": 0.05},
        "mirostat_v1": {"tau": 2.0},
        "mirostat_v2": {"tau": 2.0},
        "adaptive_p": {"target": 0.2},
        "greedy": {},
    }
    return STAGES[kind](**settings[kind])

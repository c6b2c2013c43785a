from math import exp

import pytest

from elimtool.analysis.closing import closing_sentence, commit_layer, spell_prob
from elimtool.analysis.fate import ChainFate, needed


def layers(*ranks):
    return list(enumerate(ranks, start=-1))


def kept(*chains, left=40):
    return [ChainFate(chain, left=left) for chain in chains]


CUT = ChainFate("llama.cpp", "top_p", "needed p > 0.96", left=12)


@pytest.mark.parametrize(
    ("ranks", "prob", "fates", "sentence"),
    [
        (
            layers(31_204, 212, 1, 1),
            0.7734,
            kept("llama.cpp", "hf", "vllm"),
            "'x' led from layer 1 on, reached the samplers at rank 1 with p = 0.77 and survived"
            " llama.cpp, hf and vllm.",
        ),
        (
            layers(900, 2, 2, 3),
            0.012,
            [CUT],
            "'x' never led (best rank 2 at layer 0), reached the samplers at rank 3 (p = 0.012) and was cut"
            " by top_p of llama.cpp (needed p > 0.96).",
        ),
        (
            layers(900, 1, 1, 7),
            8e-5,
            [CUT, *kept("hf", "vllm")],
            "'x' led from layer 0 to layer 1 but lost the lead at layer 2, reached the samplers at rank 7"
            " (p = 8e-05) and was cut by top_p of llama.cpp (needed p > 0.96), but survived hf and vllm.",
        ),
        (
            layers(1, 3, 1, 4, 1),
            0.4,
            [ChainFate("greedy", left=1)],
            "'x' took the lead at the last layer, after an earlier lead at 2 layers between the embedding and"
            " layer 1, reached the samplers at rank 1 with p = 0.4 and is the only token left by greedy.",
        ),
        (
            layers(1, 1, 1),
            1.0,
            kept("hf"),
            "'x' led from the embedding on, reached the samplers at rank 1 with p = 1 and survived hf.",
        ),
        (
            layers(5, 5, 2),
            0.2,
            [ChainFate("greedy", "greedy", "needed rank 1", left=1)],
            "'x' never led, reached the samplers at rank 2 (p = 0.2) and was cut by greedy (needed rank 1).",
        ),
        (
            layers(5, 1, 49_152),
            0.0,
            kept("hf"),
            "'x' led at layer 0 but lost the lead at layer 1 and reached the samplers at rank 49,152 (p = 0):"
            " no setting keeps a token of probability 0.",
        ),
        (
            layers(5, 1, 1),
            0.9,
            [],
            "'x' led from layer 0 on and reached the samplers at rank 1 with p = 0.9.",
        ),
        (
            layers(5, 1, 1),
            0.9,
            [
                ChainFate("a", "xtc", "too probable to stay", 3),
                ChainFate("b", left=1),
                ChainFate("c", left=9),
            ],
            "'x' led from layer 0 on, reached the samplers at rank 1 with p = 0.9 and was cut by xtc of a"
            " (too probable to stay), but is the only token left by b and survived c.",
        ),
        (
            [(0, 1)],
            0.9,
            kept("a"),
            "'x' took the lead at the last layer, reached the samplers at rank 1 with p = 0.9 and"
            " survived a.",
        ),
        (
            layers(5, 1, 3, 1, 1),
            0.9,
            kept("a"),
            "'x' led from layer 2 on, after an earlier lead at layer 0, reached the samplers at rank 1 with"
            " p = 0.9 and survived a.",
        ),
    ],
)
def test_sentence(ranks, prob, fates, sentence):
    assert closing_sentence("'x'", ranks, prob, fates) == sentence


def test_a_token_that_was_dead_before_the_chain():
    told = closing_sentence("'x'", layers(9, 9), 1e-9, [ChainFate("hf", dead=True)])
    assert told.endswith("and was ruled out before any stage (its logit is minus infinity).")


@pytest.mark.parametrize(
    ("kind", "params", "rank", "margin", "words"),
    [
        ("top_k", {"k": 40}, 1_200, -3.0, "needed k of at least 1,200"),
        ("top_p", {"p": 0.95}, 30, -0.0112, "needed p > 0.962"),
        ("top_p", {"p": 0.95}, 30, -0.0000112, "needed p > 0.950012"),
        ("top_p", {"p": 0.95}, 30, -0.0499991, "needed p > 0.9999991"),
        ("top_p", {"p": 0.95}, 30, -0.05, "needed p = 1"),
        ("typical", {"mass": 0.5}, 30, -0.2, "needed mass > 0.70"),
        ("min_p", {"p": 0.05}, 30, -1.0, "needed min_p of at most 0.018"),
        ("min_p", {"p": 0.05}, 30, -1e-4, "needed min_p of at most 0.049995"),
        ("top_n_sigma", {"n": 1.0}, 30, -0.501, "needed n of at least 1.51"),
        ("greedy", {}, 2, -1.0, "needed rank 1"),
        ("temperature", {"temperature": 0.0}, 2, -1.0, "needed rank 1"),
        ("dynamic_temperature", {"temperature": 0.0, "delta": 0.0}, 2, -1.0, "needed rank 1"),
        ("xtc", {"probability": 1.0, "threshold": 0.1}, 1, -1.0, "too probable to stay"),
        ("top_p", {"p": 0.95}, 30, None, ""),
        ("min_p", {}, 30, -1.0, ""),
        ("mirostat_v2", {"tau": 5.0}, 30, -1.0, ""),
    ],
)
def test_what_a_stage_would_have_had_to_be(kind, params, rank, margin, words):
    assert needed(kind, params, rank, margin) == words


@pytest.mark.parametrize("margin", [-1e-6, -0.003, -0.0199, -0.0499])
def test_the_p_that_is_named_does_keep_the_target(margin):
    named = float(needed("top_p", {"p": 0.95}, 9, margin).split()[-1])
    assert named >= 0.95 - margin and named > 0.95


@pytest.mark.parametrize("margin", [-1e-6, -0.01, -0.7, -12.0, -400.0])
def test_the_min_p_that_is_named_does_keep_the_target(margin):
    named = float(needed("min_p", {"p": 0.05}, 9, margin).split()[-1])
    assert named <= 0.05 * exp(margin) and named < 0.05


def test_commit_layer():
    assert commit_layer(layers(4, 1, 1, 1)) == 0
    assert commit_layer(layers(1, 4, 1)) == 1
    assert commit_layer(layers(3, 3, 3)) == -1


@pytest.mark.parametrize(
    ("prob", "text"),
    [
        (0.7734, "0.77"),
        (0.0123, "0.012"),
        (8e-5, "8e-05"),
        (0.0, "0"),
        (1.0, "1"),
        (1 - 1e-12, "1"),
        (0.9962, "0.996"),
        (0.99996, "0.99996"),
        (0.994, "0.99"),
        (0.5, "0.5"),
        (1e-300, "1e-300"),
    ],
)
def test_probabilities_are_spelt_in_two_digits(prob, text):
    assert spell_prob(prob) == text

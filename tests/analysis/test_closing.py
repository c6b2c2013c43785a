from math import exp

import pytest

from elimtool.analysis.closing import closing_sentence, commit_layer, course, spell_prob
from elimtool.analysis.fate import Bound, ChainFate, bound, fate_of


def layers(*ranks):
    return list(enumerate(ranks, start=-1))


def kept(*chains, left=40):
    return [ChainFate(chain, left=left) for chain in chains]


CUT = ChainFate("llama.cpp", "top_p", Bound("needed top_p > 0.96", 0.96, 0.95), left=12)


@pytest.mark.parametrize(
    ("ranks", "prob", "fates", "sentence"),
    [
        (
            layers(31_204, 212, 1, 1),
            0.7734,
            kept("llama.cpp", "hf", "vllm"),
            "'x' ends at rank 1 with p = 0.77, rank 1 from layer 1 on; it survived llama.cpp, hf and vllm.",
        ),
        (
            layers(900, 22, 12, 13),
            0.012,
            [CUT],
            "'x' ends at rank 13 (p = 0.012), best rank 12, at layer 1; it was cut by top_p of llama.cpp"
            " (needed top_p > 0.96, is 0.95).",
        ),
        (
            layers(900, 1, 1, 17),
            8e-5,
            [CUT, *kept("hf", "vllm")],
            "'x' ends at rank 17 (p = 8e-05), top-10 at layers 0-1, then out (rank 1 at layers 0-1); it"
            " was cut by top_p of llama.cpp (needed top_p > 0.96, is 0.95), but survived hf and vllm.",
        ),
        (
            layers(1, 3, 1, 4, 1),
            0.4,
            [ChainFate("greedy", left=1)],
            "'x' ends at rank 1 with p = 0.4, rank 1 at layer 3, the last (and at layer 1); it is the only"
            " token left by greedy.",
        ),
        (
            layers(5, 5, 2),
            0.2,
            [ChainFate("greedy", "greedy", Bound("needed rank 1"), left=1)],
            "'x' ends at rank 2 (p = 0.2), top-10 from layer 0 on; it was cut by greedy (needed rank 1).",
        ),
        (
            layers(5, 1, 49_152),
            0.0,
            kept("hf"),
            "'x' ends at rank 49,152 (p = 0), top-10 at layer 0, then out (rank 1 at layer 0): no setting"
            " keeps a token of probability 0.",
        ),
        ([], 0.9, [], "'x' ends at rank 1 with p = 0.9."),
        (
            layers(5, 1, 1),
            0.9,
            [
                ChainFate("a", "xtc", Bound("too probable to stay"), 3),
                ChainFate("b", left=1),
                ChainFate("c", left=9),
            ],
            "'x' ends at rank 1 with p = 0.9, rank 1 from layer 0 on; it was cut by xtc of a (too probable to"
            " stay), but is the only token left by b and survived c.",
        ),
        (
            layers(90, 90),
            0.0001,
            [
                ChainFate("a", "top_k", Bound("needed k of at least 90", 90, 40)),
                ChainFate("b", "top_k", Bound("needed k of at least 90", 90, 50)),
            ],
            "'x' ends at rank 90 (p = 0.0001), best rank 90, at layer 0; it was cut by top_k of a and b"
            " (needed k of at least 90, is 40 and 50).",
        ),
    ],
)
def test_sentence(ranks, prob, fates, sentence):
    final = ranks[-1][1] if ranks else 1
    assert closing_sentence("'x'", ranks, final, prob, fates) == sentence


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ([9, 1, 1], "rank 1 from layer 0 on"),
        ([9, 1, 3, 1, 1], "rank 1 from layer 2 on (and at layer 0)"),
        ([9, 1, 1, 4, 1], "rank 1 at layer 3, the last (and at layers 0-1)"),
        ([9, 20, 30, 4], "top-10 at layer 2, the last"),
        ([1], "rank 1 from the embedding on"),
        ([9, 1, 4], "top-10 from layer 0 on (rank 1 at layer 0)"),
        ([9, 2, 4], "top-10 from layer 0 on"),
        ([1, 20, 4, 30, 3, 12], "top-10 at 2 layers of 1-3, then out"),
        ([900, 30, 40], "best rank 30, at layer 0"),
        ([1, 30, 40], "best rank 30, at layer 0"),
    ],
)
def test_the_course_of_a_rank(ranks, words):
    assert course(layers(*ranks)) == words


CUT_AFTER_TOP_K = [
    {"stage_index": 0, "stage": "top_k", "kind": "top_k", "rank_before": 2, "margin": 1.0,
     "alive_before": True, "alive_after": True, "prob_before": 0.34, "prob_after": 0.38},
    {"stage_index": 1, "stage": "min_p", "kind": "min_p", "rank_before": 2, "margin": 1.0,
     "alive_before": True, "alive_after": True, "prob_before": 0.38, "prob_after": 0.38},
    {"stage_index": 2, "stage": "top_p", "kind": "top_p", "rank_before": 2, "margin": -0.0957,
     "alive_before": True, "alive_after": False, "prob_before": 0.38, "prob_after": 0.0},
]  # fmt: skip


def test_a_cut_says_what_the_stage_saw_if_it_was_not_the_models_own_probability():
    stages = [{"stage_index": 2, "n_after": 1, "params": '{"p": 0.3}'}]
    told = closing_sentence("'x'", [], 2, 0.34, [fate_of("own", CUT_AFTER_TOP_K, stages)])
    seen = "p 0.38 after top_k, one likelier token holds 0.396; needed top_p > 0.396, is 0.3"
    assert told == f"'x' ends at rank 2 (p = 0.34); it was cut by top_p of own ({seen})."


def test_a_token_that_was_dead_before_the_chain():
    told = closing_sentence("'x'", layers(9, 9), 9, 1e-9, [ChainFate("hf", dead=True)])
    assert told.endswith("it was ruled out before any stage (its logit is minus infinity).")


@pytest.mark.parametrize(
    ("kind", "params", "rank", "margin", "words"),
    [
        ("top_k", {"k": 40}, 1_200, -3.0, "needed k of at least 1,200"),
        ("top_p", {"p": 0.95}, 30, -0.0112, "needed top_p > 0.9612"),
        ("top_p", {"p": 0.95}, 30, -0.0000112, "needed top_p > 0.9500112"),
        ("top_p", {"p": 0.95}, 30, -0.0499991, "needed top_p > 0.99999910"),
        ("top_p", {"p": 0.95}, 30, -0.05, "needed top_p = 1"),
        ("typical", {"mass": 0.5}, 30, -0.2, "needed typical > 0.700"),
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
    assert bound(kind, params, rank, margin).words == words


@pytest.mark.parametrize("margin", [-1e-6, -0.003, -0.0199, -0.0499])
def test_the_p_that_is_named_does_keep_the_target(margin):
    named = float(bound("top_p", {"p": 0.95}, 9, margin).words.split()[-1])
    assert named >= 0.95 - margin and named > 0.95


@pytest.mark.parametrize("margin", [-1e-6, -0.01, -0.7, -12.0, -400.0])
def test_the_min_p_that_is_named_does_keep_the_target(margin):
    named = float(bound("min_p", {"p": 0.05}, 9, margin).words.split()[-1])
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

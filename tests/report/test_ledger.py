import re

import pytest

from elimtool.samplers import STAGES
from tests.report.printed import detailed, flat
from tests.report.synthetic import FRANCE, HF, LLAMA, PARIS, VLLM, FakePrompt, Token, make_run, path

TOKENS = ["The", " capital", " of", " France", " is"]


def token(rank, text=" x", **more):
    return Token(text, path(30_000, (29, rank)), **more)


def ledger(*chains, targets=(PARIS,), width=80, **changes):
    lines = detailed(
        make_run(FakePrompt(TOKENS, list(targets), chains=chains, **changes)), width
    ).splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("Samplers"))
    end = lines.index("", first)
    return lines[first + 1 : end], flat("\n".join(lines[end:]))


def test_each_active_stage_has_a_line_and_the_others_share_one():
    lines, _ = ledger(LLAMA)
    assert [line.split()[0] for line in lines] == [
        "llama.cpp", "top_k", "top_p", "min_p", "temperature", "left:", "off:",
    ]  # fmt: skip
    assert lines[1].split() == ["top_k", "40", "49,152", "→", "40", "9.7%"]
    assert lines[4].split() == ["temperature", "0.8", "1", "kept"]
    assert lines[-1] == "  off: top_n_sigma, typical, xtc"


@pytest.mark.parametrize(
    ("stages", "rank", "cut", "why"),
    [
        (
            [("top_k", {"k": 40, "ties": "all"})],
            300,
            "cut ' x' by",
            "top_k of own (needed k of at least 300, is 40)",
        ),
        ([("top_p", {"p": 0.9})], 300, "probability", "needed top_p > 0."),
        (
            [("min_p", {"p": 0.05})],
            3,
            "cut ' x' by 1.2 nats",
            "min_p of own (needed min_p of at most 0.015, is 0.05)",
        ),
        ([("greedy", {})], 2, "cut ' x' by 3.6 nats", "greedy of own (needed rank 1)"),
        ([("temperature", {"temperature": 0.0})], 2, "nats", "temperature of own (needed rank 1)"),
        ([("xtc", {"probability": 1.0, "threshold": 0.01})], 1, "cut ' x' by", "(too probable to stay)"),
        ([("typical", {"mass": 0.2})], 300, "probability", "typical of own (needed typical > 0."),
        ([("top_n_sigma", {"n": 1.0})], 300, "sigma", "top_n_sigma of own (needed n of at least"),
        (
            [("mirostat_v2", {"tau": 5.0, "eta": 0.1})],
            3,
            "cut ' x' by 0.5 bits",
            "cut by mirostat_v2 of own.",
        ),
        ([("my stage", {"q": [1], "on": True})], 3, "cut ' x' by 0.5", "cut by my stage of own."),
    ],
)
def test_the_stage_that_cuts_a_target_is_named(stages, rank, cut, why):
    lines, closing = ledger(("own", stages), targets=[token(rank)])
    assert cut in flat("\n".join(lines))
    assert "  no target is left" in lines
    assert why in closing


DEEP = {
    "top_k": {"k": 2},
    "top_p": {"p": 0.5},
    "min_p": {"p": 0.9},
    "typical": {"mass": 0.1},
    "top_n_sigma": {"n": 0.1},
    "xtc": {"probability": 1.0, "threshold": 0.0},
}


@pytest.mark.parametrize("kind", [kind for kind, stage in STAGES.items() if stage.role == "truncate"])
def test_every_truncating_stage_has_a_unit_and_the_ledger_prints_it(kind):
    unit = STAGES[kind].margin_unit
    assert unit
    lines, _ = ledger(("own", [(f"{kind}#2", DEEP.get(kind, {}))]), targets=[token(5)])
    assert re.search(rf"cut ' x' by [0-9.e+]+ {unit}(?![a-z])", flat("\n".join(lines))), lines


def test_the_margin_is_of_the_cut():
    lines, closing = ledger(("own", [("top_p", {"p": 0.8})]), targets=[token(6)])
    before = FRANCE[:5].sum()
    assert f"cut ' x' by {before - 0.8:.2g} probability" in flat("\n".join(lines))
    named = float(closing.split("needed top_p > ")[1].split(",")[0])
    assert before - 1e-6 <= named < before + 0.001
    said = closing.split("needed top_p > ")[1].split(",")[0]
    assert f"likelier tokens hold {said}; needed" in closing


def test_a_chain_that_is_all_off():
    lines, closing = ledger(VLLM, targets=[token(2_000)])
    assert lines[0] == "vllm: nothing is cut, all 49,152 tokens stay"
    assert lines[-1] == "  off: temperature, top_k, top_p"
    assert closing.endswith("it survived vllm.")


def test_a_chain_that_is_on_but_cuts_nothing():
    lines, _ = ledger(("warm", [("temperature", {"temperature": 1.5})]))
    assert lines[0] == "warm: nothing is cut, all 49,152 tokens stay"
    assert lines[1].split() == ["temperature", "1.5", "49,152", "kept"]


def test_cut_in_one_chain_and_kept_in_another():
    _, closing = ledger(LLAMA, HF, VLLM, targets=[token(3, " London")])
    why = "p 0.014 after top_p; needed min_p of at most 0.015, is 0.05"
    assert f"was cut by min_p of llama.cpp ({why}), but survived hf and vllm." in closing


def test_a_target_of_probability_zero():
    _, closing = ledger(HF, targets=[token(9, prob=0.0)])
    assert "(p = 0), " in closing and closing.endswith(": no setting keeps a token of probability 0.")


def test_labels_do_not_hide_the_kind_of_a_stage():
    labelled = ("own", [("prefilter", {"k": 40, "ties": "exact", "min_keep": 0})])
    lines, closing = ledger(labelled, targets=[token(300)])
    assert lines[1].split()[:2] == ["prefilter", "40"] and " nats" in flat("\n".join(lines))
    assert "prefilter of own (needed k of at least 300, is 40)" in closing


def test_parameters_that_do_nothing_are_left_out():
    dynamic = {"temperature": 0.8, "delta": 0.0, "exponent": 1.0, "negative": True}
    penalties = {"repetition": 1.1, "frequency": 0.0, "presence": 0.0, "last_n": 64}
    lines, _ = ledger(("own", [("temperature", dynamic), ("penalties", penalties)]))
    assert lines[1].split()[:2] == ["temperature", "0.8"]
    assert lines[2].split()[:2] == ["penalties", "1.1"]


def test_only_the_main_parameters_are_shown():
    stages = [
        ("xtc", {"probability": 0.5, "threshold": 0.1, "min_keep": 3, "protected": [], "draw": "at_most"})
    ]
    lines, _ = ledger(("own", stages))
    assert lines[1].split()[:3] == ["xtc", "probability=0.5", "threshold=0.1"]


def test_names_are_text():
    lines, _ = ledger(("[red]mine[/red]\n", [("top_k", {"k": 40})]))
    assert lines[0] == "[red]mine[/red]↵"


def test_many_targets_are_counted():
    targets = [token(rank, f" t{rank}") for rank in range(1, 11)]
    lines, closing = ledger(HF, targets=targets)
    assert "' t5' p = 0.0" in flat("\n".join(lines)) and "and 5 more" in flat("\n".join(lines))
    assert closing.count("ends at rank") == 10

import math

import pytest
from rich.cells import cell_len

from elimtool.report.trace.milestones import milestones
from tests.report.printed import detailed, flat, section
from tests.report.synthetic import LONDON, PARIS, FakePrompt, Token, make_run, path

TOKENS = ["The", " capital", " of", " France", " is"]


def ranks_of(*targets, width=80, encoding="utf-8", **changes):
    run = make_run(FakePrompt(TOKENS, list(targets), **changes))
    return section(detailed(run, width, encoding), "Rank by layer")


def test_a_line_with_spark_rank_and_probability():
    lines = ranks_of(PARIS, LONDON)
    assert lines[1].startswith("' Paris'   ▁▁")
    assert lines[1].endswith("▇██  rank 1  p 0.77")
    assert len(lines[1].split()[2]) == 31
    assert "→ 1 from layer 28 on" in lines[2]
    assert lines[3].split()[-4:] == ["rank", "3", "p", "0.012"]


def test_only_rank_1_fills_a_cell():
    spark = ranks_of(LONDON)[1].split()[2]
    assert "█" not in spark and spark[-1] == "▇"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_deep_models_fit(width):
    deep = Token(" x", path(9_000, (79, 4), layers=80))
    lines = ranks_of(deep, width=width, layers=80)
    assert lines[1].split()[2][0] == "▁"
    assert "4 from layer 78 on" in flat("\n".join(lines))


def test_foils_come_last_and_are_marked():
    lines = ranks_of(Token(" foil", path(900, (29, 40)), is_foil=True), PARIS)
    assert lines[1].startswith("' Paris'")
    assert lines[3].startswith("' foil'") and lines[4].endswith("; foil")
    text = detailed(make_run(FakePrompt(TOKENS, [PARIS, Token(" foil", path(9, (29, 4)), is_foil=True)])))
    assert "' foil' never" not in text


def test_ambiguous_ties_and_whole_targets_are_marked():
    odd = Token(" Par", path(900, (29, 4)), ambiguous=True, ties=2, whole=math.log(0.0031))
    text = flat("\n".join(ranks_of(odd)))
    assert "ambiguous: another has the same first token; tied with 2; all its tokens p 0.0031" in text


def test_targets_of_one_token_say_so_once_and_name_the_first():
    same = [Token(text, path(900, (29, 4)), token_id=77, ambiguous=True) for text in ("Par", " Par")]
    text = flat("\n".join(ranks_of(*same, Token(" x", path(9, (29, 4))))))
    assert text.count("first token") == 1 and "read by the same first token as 'Par'" in text


def test_ten_tokens_take_one_line_each():
    targets = [
        Token(f" token{i}", path(3_000 + i, (20, 1 if i == 9 else 500), (29, i + 1))) for i in range(10)
    ]
    lines = ranks_of(*targets, width=120)
    assert len(lines) == 12
    assert lines[1].endswith("rank 1 at layer 29, the last")
    assert lines[10].endswith("top-10 from layer 14 on (rank 1 at layers 19-21)")
    starts = {cell_len(line[: line.index("0.")]) for line in lines[1:11]}
    assert len(starts) == 1


def test_wide_names_stay_aligned():
    lines = ranks_of(
        *[Token(text, path(900, (29, 4))) for text in (" 東京", "😀", " é", " שלום", "\n", " x", " y")]
    )
    assert len({cell_len(line[: line.index("▁")]) for line in lines[1:8]}) == 1


def test_ascii_spark():
    assert ranks_of(PARIS, encoding="ascii")[1].split()[2].endswith("788")


@pytest.mark.parametrize(
    ("ranks", "layers"),
    [
        ([1000, 100, 10, 1, 1, 1], [-1, 2]),
        ([1000, 1000, 1000, 1, 1, 1], [-1, 1, 2]),
        ([7], [-1]),
        ([7, 7, 7], [-1]),
        ([50, 1, 50, 50], [-1, 0, 1]),
        ([9, 3, 8, 2, 7], [-1, 2, 3]),
    ],
)
def test_milestones(ranks, layers):
    named = milestones(list(enumerate(ranks, start=-1)))
    assert [layer for layer, _ in named] == layers
    assert all(ranks[layer + 1] == rank for layer, rank in named)

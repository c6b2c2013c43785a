import re

import pytest
from rich.cells import cell_len

from tests.report.printed import detailed, flat, section
from tests.report.synthetic import PARIS, FakePrompt, fitted, make_run


def strip_of(prompt, width=80, **options):
    return section(detailed(make_run(prompt), width, **options), "What '")


def test_five_bands_with_the_sink_apart():
    lines = strip_of(FakePrompt(["The", " capital", " of", " France", " is"], [PARIS]))
    assert "What ' is' attends to, by layers" in lines[0]
    assert lines[1].split() == ["layers", "sink", "The", "capital", "of", "France", "is"]
    bands = [line.split() for line in lines[2:7]]
    assert [band[0] for band in bands] == ["0-5", "6-11", "12-17", "18-23", "24-29"]
    assert [band[1] for band in bands] == ["33%", "41%", "49%", "57%", "65%"]
    assert all([len(bar) for bar in band[2:]] == [7, 2, 6, 2] for band in bands)
    assert "Sink: 'The', which draws attention whatever the text" in flat("\n".join(lines))


def test_what_the_sink_carries_stands_beside_what_it_weighs():
    whole = make_run(FakePrompt(["The", " a", " is"], [PARIS], layers=2))
    rows = [
        row | {"norm_share": 0.25 + 0.5 * row["layer"], "contribution": 0.0625}
        if row["span"] == "<sink>"
        else row
        for row in whole.arrow("attention").to_pylist()
    ]
    run = whole.with_rows("attention", fitted("attention", rows))
    note = "The sink carries 50% of what the heads move and 6.2% of the stream behind attention."
    assert note in flat(detailed(run))
    assert "The sink carries" not in detailed(whole)  # not measured


def test_bars_stand_below_their_tokens():
    tokens = ["The", " 東京", " 😀", " é", " e\u0301", " שלום", "\n", " is"]
    lines = strip_of(FakePrompt(tokens, [PARIS]))
    head = lines[1]
    assert "↵" in head
    for line in lines[2:7]:
        assert cell_len(line) == cell_len(head)
        start = cell_len(head[: head.index("東京")])
        assert line[start : start + 5].strip() == line[start : start + 4], "two wide characters, four cells"
        assert len(set(line[start : start + 4])) == 1


def test_one_token_has_only_a_sink():
    text = flat(detailed(make_run(FakePrompt(["Hello"], [PARIS]))))
    assert "Attention: only the sink ('Hello') is visible, so there is nothing to share out." in text
    assert "attends to" not in text


def test_one_token_without_a_sink_set():
    lines = strip_of(FakePrompt(["Hello"], [PARIS], sinks=()))
    assert lines[1].split()[-1] == "Hello"
    assert lines[2].split()[1:] == ["0%", "▄▄▄▄▄"]
    assert "sink" not in "".join(lines[2:])


@pytest.mark.parametrize("width", [40, 80, 200])
def test_64_tokens_wrap_in_few_bands(width):
    tokens = ["The", *[f" tok{i}" for i in range(63)]]
    lines = strip_of(FakePrompt(tokens, [PARIS]), width)
    text = "\n".join(lines)
    assert [text.count(f"tok{i}\n") + text.count(f"tok{i} ") for i in (1, 30, 62)] == [1, 1, 1]
    assert text.count("0-9 ") >= 2 or width == 200
    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= 4 * (64 * 7 // (width - 16) + 2) + 4


def test_white_space_and_controls_show():
    tokens = ["The", "    ", "\treturn", "\n\n", " x\u200b", "\u202eevil", "\x1b[31m", "a  b", "", " is"]
    head = strip_of(FakePrompt(tokens, [PARIS]), 200)[1]
    for shown in ("The ␣␣␣\\treturn", "↵↵", "x\\u200b", "\\u202eevil", "\\x1b[31m", "''"):
        assert shown in head


def test_markup_in_the_prompt_is_text():
    tokens = ["The", " [bold]", "red[/bold]", " [link=http://x]", " :smile:", " is"]
    text = detailed(make_run(FakePrompt(tokens, [PARIS])), colour=True)
    assert '"The [bold]red[/bold] [link=http://x] :smile: is"' in text
    assert "[bold]red[/bold] [link=http://x] :smile: is" in strip_of(FakePrompt(tokens, [PARIS]))[1]


def test_right_to_left_tokens_are_isolated():
    head = strip_of(FakePrompt(["The", " שלום", " עולם", " is"], [PARIS]))[1]
    assert "\u2068שלום\u2069 \u2068עולם\u2069 is" in head


def test_a_very_long_token_is_cut():
    lines = strip_of(FakePrompt(["The", "=" * 300, " is"], [PARIS]))
    assert "=========…=========" in lines[1]


def test_masked_tokens_are_not_called_eliminated():
    lines = strip_of(FakePrompt(["The", " a", " b", " c", " d", " is"], [PARIS], window=2, layers=2))
    assert "x: outside the layers' window (masked, not eliminated)." in flat("\n".join(lines))
    assert lines[2].split()[0] == "0" and lines[2].split()[2:] != ["x", "x", "x"]
    assert "x" in lines[2] and "x" not in lines[3]


def test_tokens_after_the_probed_one_are_counted():
    lines = strip_of(FakePrompt(["The", " a", " b", " c", " d"], [PARIS], positions=[2]))
    assert lines[1].split()[2:] == ["The", "a", "b"]
    assert "2 later tokens are not seen from here." in flat("\n".join(lines))


def test_named_spans_each_get_a_line():
    spans = {"system [b]": [1, 2], "user": [3, 4, 5], "<rest>": [6]}
    lines = strip_of(FakePrompt(["<s>", " a", " b", " c", " d", " e", " is"], [PARIS], spans=spans))
    assert [line.split()[0] for line in lines[2:6]] == ["system", "user", "<rest>", "<sink>"]
    assert lines[3].split()[1] == "3" and lines[5].split()[-1] == "65%"
    assert len(lines[3].split()) == 2 + 5 * 2


@pytest.mark.parametrize("width", [40, 80, 200])
def test_2000_tokens_show_the_extreme_sentences(width):
    tokens = ["Start", *[" word"] * 1999]
    spans = {f"S{i + 1}: word word word…": list(range(max(20 * i, 1), 20 * i + 20)) for i in range(100)}
    lines = strip_of(FakePrompt(tokens, [PARIS], spans=spans), width)
    text = flat("\n".join(lines))
    assert sum(bool(re.match(r"S\d", line)) for line in lines) == 8
    assert "92 more spans between" in text
    overall = [float(line.split()[-1].rstrip("x")) for line in lines if re.match(r"S\d", line)]
    assert len(overall) == 8


def test_a_sink_that_takes_all_is_said():
    whole = make_run(FakePrompt(["The", " a", " is"], [PARIS], layers=3))
    attention = whole.arrow("attention").to_pylist()
    for row in attention:
        row["mass_no_sink"] = row["lift_no_sink"] = None
    from elimtool.run.reader import Run
    from elimtool.run.schema import TABLES

    tables = {name: whole.arrow(name) for name in whole.tables}
    tables["attention"] = TABLES["attention"].from_rows(attention)
    lines = section(detailed(Run.from_tables(whole.manifest, tables)), "What '")
    assert lines[2].split() == ["0", "30%", "?", "??"]
    assert "?: the sink takes all." in flat("\n".join(lines))

"""Grids of cells: words, blank cells that say why, cells that do not count, scales with names."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image

import elimtool
from elimtool.errors import ElimError
from elimtool.report.figures import palette
from elimtool.report.figures.choose import choose
from elimtool.report.figures.draw import picture
from elimtool.report.figures.figure import Heat
from tests.report.synthetic import LONDON, PARIS, FakePrompt, make_run

WORDS = ["The", " capital", " of", " France", " is"]


def grid(**given):
    """Two layers by three positions."""
    whole = {
        "name": "grid", "title": "A grid", "row_title": "layer", "column_title": "position",
        "rows": ["1", "0"], "columns": ["0: a", "1: b", "2: c"],
        "values": [[1.0, 0.3, None], [0.0, -0.3, -1.0]], "unit": "restored", "value_title": "share restored",
    }  # fmt: skip
    return Heat(**{**whole, **given})


def area(figure):
    """Pixels of each colour of its picture."""
    image = Image.open(io.BytesIO(picture(figure))).convert("RGB")
    found = image.getcolors(image.width * image.height)
    return Counter({"#{:02x}{:02x}{:02x}".format(*colour): count for count, colour in found})


def text(figure):
    return picture(figure, "svg").decode()


def test_a_cell_that_does_not_count_is_drawn_small():
    whole, small = area(grid()), area(grid(dimmed=[(0, 0)], dimmed_as="under the null"))
    assert whole[palette.SHIFT_LIGHT[8]] > 1000
    in_legend = min(whole[one] for one in palette.SHIFT_LIGHT)
    cell = whole[palette.SHIFT_LIGHT[8]] - in_legend
    assert small[palette.SHIFT_LIGHT[8]] - in_legend == pytest.approx(0.42**2 * cell, rel=0.25)
    assert small[palette.SHIFT_LIGHT[0]] == pytest.approx(whole[palette.SHIFT_LIGHT[0]], rel=0.05)


def test_a_rank_of_one_has_the_strongest_colour():
    counts = area(grid(unit="rank", values=[[1, 1, 1], [40, 40, 40]]))
    strong, middle = palette.HEAT_LIGHT[7], palette.HEAT_LIGHT[3]
    others = [counts[one] for one in palette.HEAT_LIGHT if one not in (strong, middle)]
    assert min(counts[strong], counts[middle]) > 3 * max(others)


def test_words_title_and_reasons_are_written(monkeypatch):
    monkeypatch.setitem(__import__("matplotlib").rcParams, "svg.fonttype", "none")
    words = [["Paris", "the", "of"], ["a", "", "is"]]
    drawn = text(grid(words=words, blank="no such key", masked=[(1, 2)], masked_as="later", left_out="More."))
    for told in ("Paris", "share restored", "White: no such key.", "Hatched: later.", "More.", "position"):
        assert f">{told}" in drawn or f" {told}" in drawn
    assert "White" not in text(grid(values=[[0.0] * 3] * 2))


@pytest.mark.parametrize(("most", "top"), [(3.7, 2), (0.004, 0.002), (10.0, 10), (0.0, 1)])
def test_steps_around_zero_fit_the_values(most, top):
    steps = palette.steps_around_zero([None, -most, most / 2])
    assert steps[-1] == pytest.approx(top) and steps[0] == -steps[-1] and len(steps) == 8
    assert list(steps) == sorted(steps)


def test_the_logit_lens_grid_has_the_tables_words_and_ranks():
    run = make_run(FakePrompt(WORDS, [PARIS, LONDON], positions=list(range(5))))
    figure = choose(run, "logit_lens", target="Paris")
    by_own = choose(run, "logit_lens_probability", target="Paris")
    assert by_own.unit == "prob" and "coloured by the probability of" in by_own.title
    lens, layers = run.table("lens"), run.table("lens_layers")
    assert figure.columns == ["0: The", "1: capital", "2: of", "3: France", "4: is"]
    assert (figure.rows[0], figure.rows[-1]) == ("29", "embedding")
    for place, name in enumerate(figure.rows):
        layer = -1 if name == "embedding" else int(name)
        for position in range(5):
            own = lens[(lens.layer == layer) & (lens.position == position) & (lens.target == " Paris")]
            top = layers[(layers.layer == layer) & (layers.position == position)]
            assert figure.values[place][position] == own["rank"].item()
            assert figure.words[place][position] == top["top_token"].item()
            assert by_own.values[place][position] == own["prob"].item()
    by_top = choose(run, "logit_lens")
    assert by_top.unit == "prob" and by_top.words == figure.words


def test_a_long_prompt_is_shown_up_to_a_position_and_says_what_is_left_out():
    words = ["The", *(f" w{at}" for at in range(39))]
    run = make_run(FakePrompt(words, [PARIS], positions=list(range(40))))
    last, middle = choose(run, "logit_lens"), choose(run, "logit_lens", position=19)
    assert last.columns[-1].startswith("39: ") and middle.columns[-1].startswith("19: ")
    assert len(last.columns) == 12 and "positions 28 to 39, 12 of 40" in last.left_out
    assert "positions 8 to 19" in middle.left_out


def test_one_position_says_how_to_get_a_grid():
    figure = choose(make_run(FakePrompt(WORDS, [replace(PARIS, text=" Paris")])), "logit_lens")
    assert len(figure.columns) == 1 and "`position` all" in figure.note


@pytest.fixture(scope="module")
def attended(llama):
    options = elimtool.TraceOptions(position="all", heads=True, attention_of=("1.2", "2.0"))
    prompt = elimtool.Prompt(
        text="The capital of France is", targets=("Paris",), spans=(elimtool.SpanRequest("where", "France"),)
    )
    return elimtool.trace(llama, prompt, options=options)


def test_an_attention_matrix_has_the_tables_weights_and_hides_later_keys(attended):
    figure = choose(attended, "attention_matrix", head="L1H2")
    rows = attended.table("attention_weights")
    own = rows[(rows["layer"] == 1) & (rows["head"] == 2)].set_index(["position", "key"])["weight"]
    n = len(figure.rows)
    assert list(figure.rows) == list(figure.columns) and n == attended.table("prompts")["n_tokens"].item()
    for query in range(n):
        for key in range(n):
            if key > query:
                assert figure.values[query][key] is None and (query, key) in figure.masked
            else:
                assert figure.values[query][key] == pytest.approx(own[query, key])
    short = choose(attended, "attention_matrix", head="1.2", position=3)
    assert len(short.rows) == len(short.columns) == 4


def test_heads_that_attend_to_a_span_are_those_of_the_table(attended):
    figure = choose(attended, "head_attention", span="where")
    rows = attended.table("attention_heads")
    rows = rows[(rows.span == "where") & (rows.position == rows.position.max())]
    for row in rows.itertuples():
        value = figure.values[figure.rows.index(str(row.layer))][row.head]
        assert value == pytest.approx(row.mass_no_sink, nan_ok=True)
    assert [int(name) for name in figure.rows] == sorted(set(rows.layer), reverse=True)


def test_attribution_by_head_is_that_of_the_table(attended):
    figure = choose(attended, "head_attribution", target="Paris")
    rows = attended.table("components")
    rows = rows[(rows.position == rows.position.max()) & rows.kind.isin(["head", "mlp"])]
    assert figure.columns[-1] == "MLP" and len(rows) == sum(len(row) for row in figure.values)
    for row in rows.itertuples():
        column = len(figure.columns) - 1 if row.kind == "mlp" else int(row.head)
        assert figure.values[figure.rows.index(str(row.layer))][column] == pytest.approx(row.dla_centred)


@pytest.mark.parametrize(
    ("name", "given", "message", "hint"),
    [
        ("attention_matrix", {}, "the run kept 2 heads", "1.2, 2.0"),
        ("attention_matrix", {"head": "0.0"}, "did not keep head 0.0", "1.2, 2.0"),
        ("head_attention", {}, "spans were measured", "where"),
        ("head_attention", {"span": "wher"}, "no span 'wher'", "did you mean 'where'"),
        ("ranks", {"span": "where"}, "`span` does not go with figure 'ranks'", ""),
    ],
)
def test_what_is_missing_is_listed(attended, name, given, message, hint):
    with pytest.raises(ElimError) as told:
        choose(attended, name, **given)
    assert message in told.value.message and hint in told.value.hint


def test_a_run_without_weights_says_how_to_get_them():
    run = make_run(FakePrompt(WORDS, [PARIS]))
    with pytest.raises(ElimError, match="kept no attention weights") as told:
        choose(run, "attention_matrix")
    assert "`attention_of`" in told.value.hint


def test_a_figure_of_a_run_writes_itself(attended, tmp_path):
    figure = attended.figure("attention_matrix", head="1.2")
    figure.save(tmp_path / "matrix.svg")
    assert "<svg" in (tmp_path / "matrix.svg").read_text(encoding="utf-8")
    with pytest.raises(ElimError, match="not that of a picture"):
        figure.save(tmp_path / "matrix.txt")
    with pytest.raises(ElimError, match="no figure 'matrix'"):
        attended.figure("matrix")

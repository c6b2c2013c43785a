"""The page and figures of a comparison: true to its tables, for pairs, for all of them, and for one alone."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from elimtool.errors import ElimError
from elimtool.report.figures import palette
from elimtool.report.figures.compare import pair as of_pair
from elimtool.report.figures.compare.choose import NAMES, OF_PAIR, choose
from elimtool.report.figures.compare.overview import Compared, outcomes, overview
from elimtool.report.figures.draw import picture
from elimtool.report.html.compare import details, front, keyed, output
from elimtool.run.comparison import Comparison
from elimtool.run.tables.comparison import COMPARISON_TABLES
from tests.report import runs


@pytest.fixture(scope="module")
def comparison():
    return runs.compared()


@pytest.fixture(scope="module")
def pair(comparison):
    rows = comparison.arrow("pairs").to_pylist()
    return of_pair.PairRows(keyed(comparison), rows[0])


def test_lines_are_the_tables_two_to_a_token(comparison, pair):
    (figure,) = of_pair.ranks(pair)
    table = comparison.table("lens_differences").query("pair_id == 'france'")
    for line in figure.lines:
        side = "b" if line.dashed else "a"
        target = " Paris" if "Paris" in line.name else " London"
        assert [*line.values] == table[table["target"] == target][f"rank_{side}"].tolist()
        assert line.name.endswith(f"in {side.upper()}")
    assert [line.colour for line in figure.lines] == [0, 0, 1, 1]


def test_attention_is_the_shift_of_each_span(comparison, pair):
    (figure,) = of_pair.attention(pair)
    table = comparison.table("attention_differences").query("pair_id == 'france'")
    values = table.set_index(["span", "layer"])["logit_shift"]
    for row, span in enumerate(figure.rows):
        told = [None if values.isna()[span, layer] else values[span, layer] for layer in range(30)]
        assert [*figure.values[row]] == told
    assert figure.unit == "shift"


def test_what_controls_stay_below_is_drawn_and_said(pair):
    (figure,) = of_pair.divergence(pair)
    assert [line.name for line in figure.lines] == ["A against B", "95 % of the controls"]
    assert "layer 12 is the first beyond them" in figure.note


def test_heads_come_by_their_distance_from_the_controls(pair):
    (figure,) = of_pair.heads(pair)
    assert [row[0] for row in figure.rows[:2]] == ["0.2", "0.1"] and figure.columns[-1] == "z"


def test_only_tokens_without_counterpart_are_listed(pair):
    (figure,) = of_pair.alignment(pair)
    assert figure.rows == [["insert", "no token", "no token", 5, "' so'"]]


def test_controls_and_failed_pairs_count_for_nothing(comparison):
    view = Compared(keyed(comparison))
    assert view.ids == {"france", "markup <b>"}
    stack, *_ = outcomes(view)
    table = comparison.table("verdict_differences")
    assert [sum(row.counts) for row in stack.rows] == [len(table), len(table)]
    assert stack.note.startswith(f"{table['changed'].sum()} of {len(table)} targets")
    assert {"outcomes", "moved", "onsets"} <= {one.name for one in overview(keyed(comparison))}


def test_the_page_has_a_line_a_pair_controls_behind_their_own(comparison):
    shown = front(comparison)
    assert [line["id"] for line in shown["prompts"]] == ["france", "france/random", "markup <b>", "broken"]
    assert shown["prompts"][1]["outcomes"][-1] == "control"
    assert [line["name"] for line in shown["prompts"][:2]] == [
        "inserted: so",
        "random control, The capital of France is",
    ]
    assert shown["together"] == "All 3 pairs together" and not shown["alone"]
    assert shown["noun"] == "pair" and shown["notes"] == ["<b>A</b> note."]
    probes = [one["probes"] for one in details(comparison)]
    assert [len(one) for one in probes] == [1, 1, 1, 0]
    assert "0.31 bits" in " ".join(probes[0][0]["where"])
    assert "too long" in shown["prompts"][3]["error"]
    assert front(comparison, most=1)["left_out"] == 3


def test_one_pair_and_its_controls_open_at_the_pair(comparison):
    pairs = comparison.arrow("pairs").slice(0, 1)
    control = comparison.arrow("pairs").filter(pc.is_valid(comparison.arrow("pairs").column("control")))
    tables = {**comparison.tables, "pairs": pa.concat_tables([pairs, control])}
    shown = front(Comparison.of("prompts", comparison.a, comparison.b, tables))
    assert shown["alone"] and shown["overview"] == [] and len(shown["prompts"]) == 2


def test_what_one_prompt_adds_is_named_marked_and_said(comparison):
    """Also where it is called an injection: the story and the page say the same of it."""
    line = front(comparison)["prompts"][0]
    assert line["ident"] == "france" and line["of"] is None
    assert line["parts"] == [
        [["The capital of France is", False]],
        [["The capital of France is", False], [" so", True]],
    ]
    heads = comparison.table("head_differences")
    spans = pd.concat([heads.assign(span=name) for name in ("system", "injected")])
    table = pa.Table.from_pandas(spans, COMPARISON_TABLES["head_differences"].schema, preserve_index=False)
    tables = {**comparison.tables, "head_differences": table}
    attacked = Comparison.of("prompts", comparison.a, comparison.b, tables)
    said = next(details(attacked))["probes"][0]["where"]
    assert said[0] == 'Injected (token 5 of B): "so"'
    assert "0.31 bits" in said[1] and len(said) == 2
    told = next(details(comparison))["probes"][0]["where"]
    assert not any("njected" in one for one in told)


def test_ids_made_of_hashes_are_no_names(comparison):
    rows = {**comparison.arrow("pairs").to_pylist()[0], "pair_id": "bbaff4d2ecd5892d | f3ba66c670bcb1c3"}
    table = COMPARISON_TABLES["pairs"].from_rows([rows])
    shown = front(Comparison.of("prompts", comparison.a, comparison.b, {"pairs": table}))["prompts"][0]
    assert shown["ident"] == "" and shown["name"] == "The capital of France is"


def test_broken_causality_is_said(comparison):
    row = {**comparison.arrow("pairs").to_pylist()[0], "prefix_holds": False}
    assert "causality is broken" in output(row)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_drawn(comparison, name):
    figure = choose(comparison, name, "france" if name in OF_PAIR else None)
    image = Image.open(io.BytesIO(picture(figure))).convert("RGB")
    found = {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in image.getcolors(image.size[0] ** 2)}
    assert found & {*palette.SHIFT_LIGHT, *palette.LINES_LIGHT}


@pytest.mark.parametrize(
    ("name", "pair_id", "told"),
    [
        ("retention", None, "no figure 'retention'"),
        ("ranks", None, "has 4 pairs"),
        ("ranks", "none", "no pair 'none'"),
        ("ranks", "broken", "could not be compared"),
        ("outcomes", "france", "`prompt` does not go with"),
    ],
)
def test_what_cannot_be_shown_is_said(comparison, name, pair_id, told):
    with pytest.raises(ElimError, match=told):
        choose(comparison, name, pair_id)


def test_a_notebook_shows_the_page(comparison):
    shown = comparison._repr_html_()
    assert shown.startswith('<iframe title="elimtool: smollm2"') and "data-theme=dark" in shown

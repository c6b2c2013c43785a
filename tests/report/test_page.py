"""What the page is made of: figures true to the tables, data that cannot end its script."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pyarrow as pa
import pytest

import elimtool
from elimtool.report.facts import Probe, Tables
from elimtool.report.figures import contrast, course, overview, palette, parts, retention
from elimtool.report.figures.figure import rounded
from elimtool.report.html import payload
from elimtool.report.html.page import page, safe_json
from elimtool.run.reader import Run, open_run
from elimtool.run.schema import TABLES
from tests.report import runs
from tests.report.printed import detailed, flat
from tests.report.synthetic import FakePrompt, make_run
from tests.run.conftest import as_before


def probe(run: Run, prompt_id: str = "p0") -> Probe:
    tables = Tables(run)
    prompt = next(row for row in tables.arrow("prompts").to_pylist() if row["prompt_id"] == prompt_id)
    return Probe(tables, prompt, tables.positions(prompt_id)[-1])


def test_retention_is_the_table():
    run = runs.france()
    (heat,) = retention.retention(probe(run))
    table = run.table("attention").set_index(["span", "layer"])["lift_no_sink"]
    assert list(heat.rows) == ["1: capital", "2: of", "3: France", "4: is"]
    for row, span in enumerate(heat.rows):
        assert [*heat.values[row]] == [table[span, layer] for layer in range(30)]


def test_a_window_is_masked_and_what_no_layer_sees_is_left_out():
    tokens = [f"w{index}" for index in range(12)]
    windowed = FakePrompt(
        tokens, spans={"early": [1, 2], "late": [9, 10], "after": [11]}, window=4, positions=[10]
    )
    (heat,) = retention.retention(probe(make_run(windowed)))
    assert list(heat.rows) == ["early", "late"]
    assert set(heat.masked) == {(0, layer) for layer in range(0, 30, 2)}
    assert all(heat.values[0][layer] is None for layer in range(0, 30, 2))


def test_attention_that_goes_to_no_key_has_a_row():
    run = runs.france()
    rows = run.arrow("attention").to_pylist()
    assert "on no key" not in retention.sink(probe(run))[0].rows
    null = [
        {**row, "span": "<null>", "lift_no_sink": None, "mass": 0.01 * row["layer"]}
        for row in rows
        if row["span"] == "2: of"
    ]
    (heat,) = retention.sink(probe(run.with_rows("attention", [*rows, *null])))
    assert heat.rows[-1] == "on no key" and "that the model learned" in heat.note
    assert [*heat.values[-1]] == [0.01 * layer for layer in range(30)]


def test_remarks_on_a_chat_stand_by_its_prompt_and_those_on_a_chain_before_all():
    run = runs.france()
    (row,) = run.arrow("prompts").to_pylist()
    row |= {"clock": "2026-01-31", "control_tokens": ["<|im_end|>\x1b"]}
    (line,) = payload.front(Tables(run.with_rows("prompts", [row])))["prompts"]
    assert line["notes"] == [
        "The chat template reads the clock, which said 2026-01-31.",
        "Control tokens in the prompt's own text, read as such: <|im_end|>\\x1b.",
    ]
    (line,) = payload.front(Tables(run))["prompts"]
    assert line["notes"] == []
    chains = [{"name": "vllm", "left_out": ["top_p 0.9 of generation_config.json"]}]
    manifest = run.manifest.model_copy(update={"chains": chains})
    shipped = Run.from_tables(manifest, {name: run.arrow(name) for name in run.tables})
    said = "vllm does not apply what the model ships with: top_p 0.9 of generation_config.json."
    assert payload.front(Tables(shipped))["notes"] == [said]


def test_ranks_and_marks_are_the_tables():
    run = runs.france()
    (lines,) = course.ranks(probe(run))
    table = run.table("lens")
    for line, target in zip(lines.lines, (" Paris", " London"), strict=True):
        assert [*line.values] == table[table["target"] == target]["rank"].tolist()
        verdict = run.table("verdicts").set_index("target").loc[target]
        for mark in line.marks:
            assert verdict[f"{mark.event}_layer"] == mark.layer
    assert "lens raw" in lines.title and "mislead" in lines.note


def test_components_and_those_not_drawn_sum_to_all_of_them(whole_run):
    run = whole_run
    table = run.table("components")
    own = table[(table["prompt_id"] == "france") & (table["target"] == "Paris")]
    (figure,) = parts.components(probe(run, "france"))
    values = [bar.value for bar in figure.bars]
    left = [float(one) for one in re.findall(r"of zero sum to ([-+][0-9.]+[0-9])", figure.note)]
    assert sum(values) + sum(left) == pytest.approx(own["dla_centred"].sum(), abs=0.1)
    assert values == sorted(values, reverse=True)


def test_what_is_left_out_has_no_bar_and_is_told_by_sign():
    drawn, said = parts.strongest([(f"head 0.{index}", value) for index, value in enumerate(range(-50, 51))])
    assert [bar.value for bar in drawn] == [*range(50, 40, -1), *range(-41, -51, -1)]
    assert "40 right of zero sum to +820.0 and 40 left of zero sum to -820.0" in said
    assert parts.strongest([("mlp 0", 1.0), ("mlp 1", -1.0)])[1] == ""


def test_overview_counts_what_the_tables_hold():
    view = overview.Overview(Tables(runs.hostile()))
    (outcomes,) = overview.outcomes(view)
    assert sum(bar.value for bar in outcomes.bars) == 2 * len(runs.HOSTILE)
    (worst,) = overview.worst(view)
    assert {bar.prompt for bar in worst.bars} == {row["prompt_id"] for row in view.prompts}
    (pruned,) = overview.pruned(view)
    table = runs.hostile().table("sampling")
    top_k = table[(table["chain"] == "hf") & (table["stage"] == "top_k")]["mass_pruned"].mean()
    assert next(bar.value for bar in pruned.bars if bar.label == "hf: top_k") == pytest.approx(top_k)
    assert overview.groups(view) == overview.regimes(view) == []


def test_rows_of_an_intervened_pass_stay_apart(llama):
    prompts = elimtool.Prompt(text="The capital of France is", targets=("Paris",), id="france")
    plain = elimtool.trace(llama, prompts)
    ablate = elimtool.Ablate("0.1")
    changed = elimtool.trace(llama, prompts, options=elimtool.TraceOptions(interventions=(ablate,)))
    (told,), (own,) = (payload.details(Tables(run.under(None))) for run in (changed, plain))
    listed = [one for one in told["probes"][0]["figures"] if one["name"] == "interventions"]
    assert [one for one in told["probes"][0]["figures"] if one not in listed] == own["probes"][0]["figures"]
    (effect,) = changed.arrow("effects").to_pylist()
    assert listed[0]["rows"][0][2] == f"{effect['rank_before']:,} → {effect['rank_after']:,}"


def test_a_causal_test_is_told_with_its_verdict():
    run = runs.france()
    tested = {
        "eliminator_effect": 1.5,
        "eliminator_effect_resample": 1.25,
        "eliminator_null": 0.5,
        "eliminator_null_n": 20,
        "eliminator_confirmed": True,
        "evidence": "confirmed",
    }
    paris, london = run.arrow("verdicts").to_pylist()
    (told,) = payload.details(Tables(run.with_rows("verdicts", [paris, london | tested])))
    first, second = told["probes"][0]["verdicts"]
    assert (first["evidence"], first["findings"]) == ("observed", [])
    assert second["evidence"] == "confirmed"
    assert second["findings"] == [
        "confirmed: ablating mlp 1 changes its log-probability by +1.50 nats (resampled: +1.25);"
        " 95% of 20 other MLPs change it by at most +0.50"
    ]


def test_rows_of_a_prompt_may_stand_apart():
    run = runs.many(3, tokens=4)
    shuffled = {}
    for name in run.tables:
        table = run.arrow(name)
        if name != "prompts":  # the rows of every prompt in two stretches, in parts as batches write them
            ids = table.column("prompt_id").to_pylist()
            late = [ids.count(one) // 2 <= ids[:place].count(one) for place, one in enumerate(ids)]
            order = sorted(range(len(ids)), key=lambda place: late[place])
            table = pa.concat_tables(
                [table.take(order[place : place + 50]) for place in range(0, len(ids), 50)]
            )
        shuffled[name] = table
    apart = Tables(Run(run.manifest, memory=shuffled))
    assert list(payload.details(apart)) == list(payload.details(Tables(run)))


def test_of_very_many_positions_the_last_are_shown():
    words = ["a", "b", "c", "d", "e"]
    run = make_run(FakePrompt(words, positions=[1, 2, 3, 4]))
    (told,) = payload.details(Tables(run), most_positions=2)
    assert ([probe["position"] for probe in told["probes"]], told["left_out"]) == ([3, 4], 2)


@pytest.mark.parametrize("missing", ["attention", "lens", "sampling", "verdicts", "components", "survival"])
def test_a_table_that_a_run_lacks_is_no_error(missing):
    run = runs.france()
    left = Run(run.manifest, memory={name: run.arrow(name) for name in run.tables if name != missing})
    assert len(page(left)) > 10_000


def test_an_old_run_may_lack_columns():
    run = runs.france()
    gone = {
        "verdicts": ["regime", "lost_p"],
        "sampling_targets": ["why"],
        "attention": ["lift_no_sink"],
    }
    cut = {name: run.arrow(name).drop_columns(gone.get(name, [])) for name in run.tables}
    memory = {  # as the reader completes the tables of an old run
        name: TABLES[name].completed(table.replace_schema_metadata(None), name) for name, table in cut.items()
    }
    assert page(Run(run.manifest, memory=memory)).count("application/json") == 2


def test_a_run_of_an_earlier_version_is_told_but_for_the_units_of_its_margins(whole_run, tmp_path):
    older = open_run(as_before(whole_run, tmp_path / "older"))
    assert set(older.arrow("sampling_targets").column("kind").to_pylist()) == {None}
    for told in (lambda run: flat(detailed(run)), lambda run: json.dumps(list(payload.details(Tables(run))))):
        now, then = told(whole_run), told(older)
        then = then.replace(", a run of schema version 1: its words are that version's", "")
        # what is read of a target, and how probable what comes before it is
        now = re.sub(r"only the first token \S+ of .*? is read ", "", now)
        now = re.sub(
            r"the space, which .*? with p [\d.e-]+", "the space, with which all targets and foils begin", now
        )
        margins = re.compile(" by ([0-9.e+]+) (nats|probability|sigma)")  # contrasts have units of their own
        assert margins.sub(r" by \1", now) == margins.sub(r" by \1", then) and then != now
    assert payload.front(Tables(older))["run"]["facts"] == payload.front(Tables(whole_run))["run"]["facts"]
    assert payload.front(Tables(whole_run))["notes"] == []
    assert "schema version 1" in payload.front(Tables(older))["notes"][0]
    assert "schema version 1" in flat(detailed(older))


@pytest.mark.parametrize("text", [*runs.HOSTILE.values(), "\u2028</SCRIPT >", "]]>", "&lt;"])
def test_data_cannot_end_its_script(text):
    safe = safe_json({"text": text})
    assert json.loads(safe) == {"text": text}
    assert not re.search("[<>&\u2028\u2029]", safe)


def test_the_page_asks_for_nothing():
    text = page(runs.france())
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", text.split("<script>")[0])
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_too_many_single_heads_are_left_out_and_said(whole_run):
    tables = Tables(whole_run)
    front = payload.front(tables, most_head_cells=10)
    assert front["run"]["heads"] == f"{tables.arrow('attention_heads').num_rows:,}"
    told = payload.details(tables, most_head_cells=10)
    assert all(probe["heads"] is None for one in told for probe in one["probes"])


def test_fewer_prompts_are_told_as_fewer():
    front = payload.front(Tables(runs.hostile()), most=1)
    assert (len(front["prompts"]), front["left_out"]) == (1, len(runs.HOSTILE) - 1)


def test_numbers_keep_four_digits_and_null():
    assert rounded([0.123456, 123456.7, None, float("nan"), float("inf"), 0.0, -1e-9, True]) == [
        0.1235, 123500, None, None, None, 0, -1e-9, True,
    ]  # fmt: skip


@pytest.mark.parametrize("heat", [palette.HEAT_LIGHT, palette.HEAT_DARK])
def test_heat_is_ordered_by_lightness_alone(heat):
    def grey(colour):
        red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    greys = [grey(colour) for colour in heat]
    assert greys == sorted(greys) or greys == sorted(greys, reverse=True)
    assert min(abs(a - b) for a, b in pairwise(greys)) > 10


def test_contrasts_show_what_the_tables_hold(whole_run):
    one = probe(whole_run, "france")
    layers = whole_run.table("contrast_layers")
    (lead,) = contrast.contrast(one)
    assert lead.lines[0].values == layers["difference"].tolist() and lead.unit == "nats"
    judged = whole_run.table("contrasts").iloc[0]
    assert [mark.layer for mark in lead.lines[0].marks] == [judged["decision_layer"]]
    (bars,) = contrast.contrast_components(one)
    own = whole_run.table("contrast_components").set_index("component")["dla_difference"]
    assert {bar.label: bar.value for bar in bars.bars}.items() <= own.to_dict().items()
    assert judged["promoter"] in [bar.label for bar in bars.bars]
    parted = whole_run.table("contrast_stages").dropna(subset="stage")
    assert [row[1] for one in contrast.contrast_stages(one) for row in one.rows] == parted["stage"].tolist()
    assert (
        contrast.contrast(probe(whole_run, "spain"))
        == contrast.contrast_stages(probe(whole_run, "spain"))
        == []
    )

"""A comparison is written whole and read back as it was; its tables are defined like those of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from elimtool.errors import ElimError
from elimtool.run import open_run
from elimtool.run.comparison import Comparison, is_comparison, open_comparison
from elimtool.run.schema import TABLES
from elimtool.run.tables.comparison import COMPARISON_TABLES

from .conftest import files, make_manifest, plain_value, write

CONTRACT = {
    "pairs": """
        pair_id prompt_id_a prompt_id_b control of status error_message text_a text_b n_tokens_a n_tokens_b
        position_a position_b n_matched n_common_prefix prefix_difference prefix_holds top_token_a top_token_b
        output_changed js_output onset_layer group category tags
    """,
    "alignment": "pair_id operation index_a index_b token_a token_b",
    "divergence": "pair_id layer cosine_distance relative_l2 js jaccard band beyond",
    "attention_differences": """
        pair_id layer span mass_a mass_b mass_difference lift_a lift_b lift_difference
        lift_no_sink_a lift_no_sink_b lift_no_sink_difference logit_shift
        norm_share_difference block_share_difference contribution_difference alignment_difference
    """,
    "head_differences": "pair_id layer head focus_a focus_b focus_shift retention_shift z",
    "lens_differences": """
        pair_id layer target rank_a rank_b rank_ratio logprob_a logprob_b logprob_difference
        prob_a prob_b prob_difference
    """,
    "stage_differences": """
        pair_id chain stage target alive_a alive_b prob_a prob_b prob_difference margin_a margin_b
        n_after_a n_after_b
    """,
    "flips": """
        pair_id token token_id_a token_id_b eliminated_in where layer chain stage prob_a prob_b rank_a rank_b
    """,
    "verdict_differences": """
        pair_id target outcome_a outcome_b changed regime_a regime_b entry_layer_a entry_layer_b lost_layer_a
        lost_layer_b final_rank_a final_rank_b final_prob_a final_prob_b final_logprob_difference
    """,
    "statistics": """
        metric scope value layer chain stage n_pairs mean_a mean_b mean_difference ci_low ci_high p_value
        q_value family method
    """,
}


def some(**changes: Any) -> Comparison:
    tables = {
        name: table.from_rows(
            [
                {column.name: plain_value(column.type) for column in table.columns},
                {
                    column.name: None if column.nullable else plain_value(column.type)
                    for column in table.columns
                },
            ]
        )
        for name, table in COMPARISON_TABLES.items()
    }
    sides = make_manifest(), make_manifest(model="other", finished="2026-01-02T04:00:00Z", counts={"lens": 3})
    return Comparison.of("runs", *sides, tables, options={"position": "last"}, notes=["a note"], **changes)


def test_the_contracts_columns_are_there():
    for name, columns in CONTRACT.items():
        assert set(columns.split()) <= set(COMPARISON_TABLES[name].names)
        first = "metric" if name == "statistics" else "pair_id"
        assert COMPARISON_TABLES[name].names[0] == first


@pytest.mark.parametrize("name", COMPARISON_TABLES)
def test_every_column_is_defined(name: str):
    table = COMPARISON_TABLES[name]
    assert table.name == name and name not in TABLES
    assert table.row.startswith("one row per ") and table.purpose.endswith(".")
    assert len(set(table.names)) == len(table.names)
    for column in table.columns:
        assert column.description.endswith("."), column.name
        texts = column.type in (pa.string(), pa.bool_(), pa.list_(pa.string()))
        assert bool(column.unit) == (not texts), f"{column.name}: unit '{column.unit}'"


@pytest.mark.parametrize("name", COMPARISON_TABLES)
def test_every_side_has_its_other_side(name: str):
    table = COMPARISON_TABLES[name]
    named = {column.name: column for column in table.columns}
    for column in table.columns:
        if column.name.endswith("_a"):
            other = named[column.name[:-2] + "_b"]
            assert (other.type, other.unit, other.null_when) == (column.type, column.unit, column.null_when)
        if column.name.endswith("_difference") and column.name not in (
            "prefix_difference",
            "mean_difference",
        ):
            assert column.name.removesuffix("_difference") + "_a" in named


def test_a_comparison_comes_back_as_it_was_written(tmp_path: Path):
    made = some(unpaired=(2, 0))
    made.save(tmp_path / "out")
    again = open_comparison(tmp_path / "out")
    assert again.manifest == made.manifest and again.tables.keys() == made.tables.keys()
    assert all(again.arrow(name).equals(table) for name, table in made.tables.items())
    assert again.a.started is None and again.b.counts == {}
    assert again.table("lens_differences")["rank_ratio"].isna().tolist() == [False, True]
    assert json.loads(json.dumps(again.to_dict()))["comparison"]["unpaired"] == {"a": 2, "b": 0}
    assert is_comparison(tmp_path / "out") and "runs: tiny and other" in repr(again)


def test_two_writings_are_the_same_but_for_the_times(tmp_path: Path):
    some(started="2026-01-02T04:00:00Z").save(tmp_path / "one")
    some(started="2026-01-02T05:00:00Z").save(tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert {name for name in one if one[name] != two.get(name)} == {"comparison.json"}
    first, second = json.loads(one["comparison.json"]), json.loads(two["comparison.json"])
    assert {key for key in first if first[key] != second[key]} <= {"started", "finished"}


def test_a_comparison_replaces_a_comparison_and_nothing_else(tmp_path: Path):
    some().save(tmp_path / "out")
    with pytest.raises(ElimError, match="already holds a comparison"):
        some().save(tmp_path / "out")
    some(unpaired=(1, 1)).save(tmp_path / "out", overwrite=True)
    assert open_comparison(tmp_path / "out").manifest.unpaired == {"a": 1, "b": 1}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    write(tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.raises(ElimError, match="`overwrite` replaces comparisons only"):
        some().save(tmp_path / "run", overwrite=True)
    assert files(tmp_path / "run") == before
    with pytest.raises(ElimError, match="`overwrite` replaces runs only"):
        write(tmp_path / "out", overwrite=True)


def test_a_run_and_a_comparison_are_told_apart(tmp_path: Path):
    some().save(tmp_path / "out")
    with pytest.raises(ElimError, match="is a comparison, not a run") as refused:
        open_run(tmp_path / "out")
    assert "elimtool compare" in refused.value.hint
    write(tmp_path / "run")
    for directory, why in ((tmp_path / "run", "is not a comparison"), (tmp_path / "no", "does not exist")):
        with pytest.raises(ElimError, match=why):
            open_comparison(directory)


def test_what_was_changed_or_lost_is_said(tmp_path: Path):
    some().save(tmp_path / "out")
    file = tmp_path / "out" / "comparison.json"
    text = file.read_text()
    for edited, why in (
        (text.replace('"a note"', '"another"'), "was changed after it was written"),
        (text.replace('"tiny"', '"tinier"'), "was changed after it was written"),
        (text.replace('"schema_version": 2', '"schema_version": 9'), "schema version 9"),
        (text.replace('"kind": "runs"', '"kind": "tables"'), "is damaged: kind"),
        (text[:-9], "is damaged"),
    ):
        file.write_text(edited)
        with pytest.raises(ElimError, match=why):
            open_comparison(tmp_path / "out")
    file.write_text(text)
    (tmp_path / "out" / "flips" / "part-00000.parquet").unlink()
    with pytest.raises(ElimError, match="has lost its table 'flips'"):
        open_comparison(tmp_path / "out")


def test_a_table_that_is_not_there_is_named():
    made = some()
    fewer = Comparison(made.manifest, {"pairs": made.arrow("pairs")})
    with pytest.raises(ElimError, match="has no table 'flips'"):
        fewer.table("flips")
    with pytest.raises(ElimError, match="there is no table 'filps'"):
        fewer.table("filps")
    with pytest.raises(ValueError, match="no such table"):
        Comparison.of("runs", made.a, made.b, {"lens": made.arrow("pairs")})

"""The columns are the contract's, each is defined, and tables that do not fit are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from elimtool.run.schema import TABLES

from .conftest import awkward_rows

ROOT = Path(__file__).parents[2]

CONTRACT = {
    "prompts": """
        prompt_id status error_type error_message text n_tokens n_appended token_ids tokens
        group category tags meta
    """,
    "attention": """
        prompt_id position layer span span_size n_keys mass mass_max mass_max_head lift
        mass_no_sink lift_no_sink
    """,
    "attention_heads": """
        prompt_id position layer head span mass lift mass_no_sink
    """,
    "attention_layers": """
        prompt_id position layer entropy n_eff sink_mass eliminated_frac masked_frac rule
    """,
    "lens": """
        prompt_id position layer lens target token_id is_foil rank rank_ties logprob prob logit
    """,
    "lens_layers": """
        prompt_id position layer lens top_token top_token_id top_prob entropy collision
        nucleus_size kl_to_final survivor_jaccard survivor_mass
    """,
    "sampling": """
        prompt_id position chain engine stage_index stage active params n_before n_after
        mass_pruned threshold entropy_before entropy_after top_token top_prob kind margin_unit
    """,
    "sampling_targets": """
        prompt_id position chain stage_index stage target token_id alive_before alive_after
        prob_before prob_after rank_before margin kind margin_unit
    """,
    "components": """
        prompt_id position target component kind layer head dla dla_centred
    """,
    "mechanisms": """
        prompt_id position layer norm1_scale norm2_scale top_channel_share top_channel_db max_abs
        max_channel max_ratio update_ratio residual_cos update_cos head_cancellation
        head_cancellation_null gate_closed_frac below_threshold_frac participation_ratio n90
        cett_sparsity undecomposed
    """,
    "survival": """
        prompt_id position target token_id ambiguous rank prob target_logprob min_top_k
        min_top_p max_min_p min_typical_p min_top_n_sigma temperature_ranges
    """,
}


def test_the_contracts_columns_are_there_and_come_first():
    assert set(CONTRACT) <= set(TABLES)
    for name, columns in CONTRACT.items():
        wanted = tuple(columns.split())
        assert TABLES[name].names[: len(wanted)] == wanted


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_defined(name):
    table = TABLES[name]
    assert table.name == name
    assert table.row.startswith("one row per ")
    assert table.purpose.endswith(".")
    assert len(set(table.names)) == len(table.names)
    for column, field in zip(table.columns, table.schema, strict=True):
        assert column.description.endswith("."), column.name
        assert len(column.description.split(". ")) <= 3, f"{column.name}: three sentences are too many"
        assert field.metadata[b"description"].decode() == column.description
        assert field.nullable == column.nullable
        plain = column.type in (pa.string(), pa.bool_(), pa.list_(pa.string()))
        texts = plain or column.name in ("spans", "turns")
        assert bool(column.unit) == (not texts), f"{column.name}: unit '{column.unit}'"


@pytest.mark.parametrize("name", TABLES)
def test_one_column_name_has_one_type(name):
    floats = {pa.float32(), pa.float64()}
    for column in TABLES[name].columns:
        for other in TABLES.values():
            for same in other.columns:
                if same.name == column.name and same.type != column.type:
                    assert {same.type, column.type} == floats


def test_a_missing_an_unknown_and_a_repeated_column_are_refused():
    rows = awkward_rows("lens")
    lens = TABLES["lens"]
    with pytest.raises(ValueError, match=r"missing columns \['rank'\]"):
        lens.from_rows([{key: value for key, value in rows[0].items() if key != "rank"}])
    with pytest.raises(ValueError, match=r"unknown columns \['rnak'\]"):
        lens.from_rows([rows[0] | {"rnak": 1}])
    table = lens.from_rows(rows)
    with pytest.raises(ValueError, match="twice"):
        lens.conform(table.append_column("rank", table.column("rank")))


def test_a_wrong_type_is_refused_and_never_cast():
    lens = TABLES["lens"]
    table = lens.from_rows(awkward_rows("lens"))
    place = table.schema.get_field_index("rank")
    wider = table.set_column(place, "rank", table.column("rank").cast(pa.int64()))
    with pytest.raises(TypeError, match=r"lens\.rank is int64, the schema says int32"):
        lens.conform(wider)
    with pytest.raises(TypeError, match=r"expected a pyarrow\.Table"):
        lens.conform([1])


def test_a_null_where_none_may_be_is_refused():
    row = awkward_rows("lens")[0]
    with pytest.raises(ValueError, match=r"lens\.rank holds 1 null"):
        TABLES["lens"].from_rows([row | {"rank": None}])


def test_columns_in_another_order_are_put_in_order():
    table = TABLES["lens"].from_rows(awkward_rows("lens"))
    shuffled = table.select(table.column_names[::-1])
    assert TABLES["lens"].conform(shuffled).schema.equals(TABLES["lens"].schema, check_metadata=True)


def test_the_page_of_tables_is_current():
    script = ROOT / "scripts" / "make_table_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

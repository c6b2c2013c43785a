"""Two runs compared from their tables: joins, differences, what is left out, and what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.analysis.compare.runs import compare_runs
from elimtool.errors import ElimError, Exit
from elimtool.run import Run, open_run
from elimtool.run.comparison import Comparison, open_comparison
from tests.run.conftest import as_before

from .conftest import OPTIONS, PROMPTS
from .swaps import assert_swapped, assert_zero


@pytest.fixture(scope="module")
def found(run_a: Any, run_b: Any) -> Comparison:
    return compare_runs(run_a, run_b)


def test_a_run_against_itself_is_all_zeros(run_a: Any):
    same = compare_runs(run_a, run_a)
    assert_zero(same)
    assert same.notes == [] and same.manifest.unpaired == {"a": 0, "b": 0}
    assert (same.table("pairs")["status"] == "ok").all()
    assert same.arrow("lens_differences").num_rows == run_a.arrow("lens").num_rows
    assert same.arrow("attention_differences").num_rows == run_a.arrow("attention").num_rows
    assert same.arrow("stage_differences").num_rows == run_a.arrow("sampling_targets").num_rows


def test_a_run_against_itself_as_an_earlier_version_wrote_it_is_all_zeros(run_a: Any, tmp_path: Path):
    older = open_run(as_before(run_a, tmp_path / "older"))
    assert older.manifest.n_layers is None and older.n_layers == run_a.manifest.n_layers == 4
    assert older.manifest.n_heads is None and older.n_heads == run_a.manifest.n_heads == 4
    with pytest.raises(ElimError, match="schema versions 1 and 2") as refused:
        compare_runs(older, run_a)
    assert refused.value.exit_code == Exit.BASELINE
    same = compare_runs(older, older)
    assert_zero(same)
    assert same.notes == []


def test_a_run_with_a_prompt_that_failed_against_itself_is_all_zeros(run_b: Any):
    assert_zero(compare_runs(run_b, run_b))


def test_exchanging_the_sides_negates_every_difference(found: Comparison, run_a: Any, run_b: Any):
    assert_swapped(found, compare_runs(run_b, run_a))


def test_differences_are_b_minus_a(found: Comparison, run_a: Any, run_b: Any):
    rows = found.table("lens_differences")
    keys = ["prompt_id", "layer", "target", "is_foil"]
    a, b = (run.table("lens").set_index(keys) for run in (run_a, run_b))
    named = rows[rows["pair_id"] != "leaders"]
    assert len(named) == 4 * 5 * 3  # pairs, layers with the embedding, two targets and a foil
    for row in named.itertuples():
        at = row.pair_id, row.layer, row.target, row.is_foil
        assert row.logprob_difference == b.loc[at, "logprob"] - a.loc[at, "logprob"]
        assert math.isclose(row.rank_ratio, math.log10(b.loc[at, "rank"] / a.loc[at, "rank"]), abs_tol=1e-12)
    attention = found.table("attention_differences").set_index(["pair_id", "layer", "span"])
    names = [name for name in attention.index.get_level_values("span").unique() if name != "<sink>"]
    at = "Spain", 2, names[0]
    keys = ["prompt_id", "layer", "span"]
    a, b = (run.table("attention").set_index(keys).loc[at, "mass_no_sink"] for run in (run_a, run_b))
    shift = math.log(b / (1 - b)) - math.log(a / (1 - a))
    assert math.isclose(attention.loc[at, "logit_shift"], shift, rel_tol=1e-9)


def test_what_one_side_lacks_is_counted_and_said(found: Comparison):
    assert found.manifest.unpaired == {"a": 1, "b": 1}
    pairs = found.table("pairs").set_index("pair_id")
    assert len(pairs) == 6 and pairs.loc["Finland", "status"] == "error"
    assert pairs.loc["Finland", "error_message"].startswith("B: ")
    compared = set(found.table("layer_differences")["pair_id"])
    assert compared == {"Spain", "Sweden", "Greece", "Germany", "leaders"}
    assert pairs.loc["Spain", "n_targets"] == 2 and pairs.loc["Spain", "n_unmatched_a"] == 0
    leaders = pairs.loc["leaders"]
    both = leaders["n_targets"] + leaders["n_unmatched_a"], leaders["n_targets"] + leaders["n_unmatched_b"]
    assert all(5 <= count <= 10 for count in both) and leaders["n_unmatched_a"] > 0
    said = " ".join(found.notes)
    for words in (
        "Different weights.",
        "1 of the prompts is in A alone",
        "1 of the pairs could not",
        "no counterpart",
    ):
        assert words in said


def test_flips_name_the_side_and_the_stage(found: Comparison, run_a: Any, run_b: Any):
    flips = found.table("flips")
    staged = flips[flips["where"] == "stage"]
    assert len(staged) and set(flips["eliminated_in"]) == {"a", "b"}
    runs = {"a": run_a, "b": run_b}
    for row in staged.itertuples():
        for side, run in runs.items():
            rows = run.table("sampling_targets")
            rows = rows[
                (rows["prompt_id"] == row.pair_id)
                & (rows["chain"] == row.chain)
                & (rows["target"] == row.token)
            ]
            rows = rows[rows["token_id"] == getattr(row, f"token_id_{side}")]
            cut = rows[rows["alive_before"] & ~rows["alive_after"]]["stage"].tolist()
            assert cut == ([row.stage] if side == row.eliminated_in else [])


def test_saved_and_opened_it_is_the_same(directories: tuple[Path, Path], found: Comparison, tmp_path: Path):
    again = compare_runs(*directories)
    assert all(again.arrow(name).equals(found.arrow(name)) for name in found.tables)
    again.save(tmp_path / "out")
    assert open_comparison(tmp_path / "out").to_dict() == again.to_dict()


def test_other_chains_other_positions_and_other_tables(llama: Any, run_a: Any):
    options = elimtool.TraceOptions(samplers=("vllm",), position="all", tables=("lens", "sampling"))
    other = elimtool.trace(llama, PROMPTS[:2], options=options)
    found = compare_runs(run_a, other)
    assert "stage_differences" not in found.tables and found.arrow("sampling_differences").num_rows == 0
    assert {"Chain vllm is in B alone: not compared.", "Chain hf is in A alone: not compared."} <= set(
        found.notes
    )
    assert any(note.startswith("B lacks tables that would be compared: verdicts") for note in found.notes)
    assert (found.table("lens_differences")["logprob_difference"] == 0).all()
    early = compare_runs(other, other, position=1)
    assert set(early.table("pairs")["position_a"]) == {1}
    with pytest.raises(ElimError, match="measured in both runs at position 1") as refused:
        compare_runs(run_a, other, position=1)
    assert refused.value.exit_code == Exit.NOTHING


def test_one_chain_a_run_is_set_against_the_other_runs_one_chain(llama: Any):
    one, other = (
        elimtool.trace(llama, PROMPTS[:2], options=elimtool.TraceOptions(samplers=(chain,)))
        for chain in ("hf", "top_k=2,temperature=0.5")
    )
    found = compare_runs(one, other)
    assert found.arrow("stage_differences").num_rows and found.arrow("survivor_differences").num_rows == 2
    assert found.table("stage_differences")["chain"].isna().all()
    assert any("A goes through hf" in note for note in found.notes)
    assert set(found.table("flips").query("where == 'stage'")["chain"]) <= {"hf", "top_k=2,temperature=0.5"}
    stages = found.table("sampling_differences").set_index(["pair_id", "stage"]).loc["France"]
    assert stages.loc["top_k", "n_after_difference"] == 2 - 50 or stages.loc["top_k", "n_after_b"] == 2
    assert_swapped(found, compare_runs(other, one))


def test_the_models_own_pass_is_compared_unless_told(llama: Any, run_a: Any):
    options = elimtool.TraceOptions(
        samplers=OPTIONS.samplers, lens="raw", interventions=(elimtool.Ablate.parse("1.0", "zero"),)
    )
    changed = elimtool.trace(llama, PROMPTS, options=options)
    own = compare_runs(run_a, changed)
    assert (own.table("lens_differences")["logprob_difference"].dropna() == 0).all()
    assert any("interventions are left out: none in A, ablate 1.0 zero in B" in note for note in own.notes)
    under = compare_runs(run_a, changed, intervened=True)
    assert (under.table("lens_differences")["logprob_difference"].abs() > 1e-3).any()
    with pytest.raises(ElimError, match="neither run has interventions"):
        compare_runs(run_a, run_a, intervened=True)


def test_nothing_in_common_and_nothing_to_compare(run_a: Any, llama: Any):
    other = elimtool.trace(llama, "Another prompt", options=OPTIONS)
    with pytest.raises(ElimError, match="no prompt in common: 7 in A, 1 in B") as refused:
        compare_runs(run_a, other)
    assert refused.value.exit_code == Exit.NOTHING
    bare = run_a.only(["prompts"])
    with pytest.raises(ElimError, match="has no table to compare"):
        compare_runs(bare, run_a)


def test_another_schema_is_refused_with_exit_code_4(directories: tuple[Path, Path], run_a: Any):
    file = directories[0] / "run.json"
    file.write_text(file.read_text().replace('"schema_version": 2', '"schema_version": 9'))
    with pytest.raises(ElimError, match="schema version 9") as refused:
        compare_runs(*directories)
    assert refused.value.exit_code == Exit.BASELINE
    older = Run(run_a.manifest.model_copy(update={"schema_version": 1}), memory={})
    with pytest.raises(ElimError, match="schema versions 2 and 1") as refused:
        compare_runs(run_a, older)
    assert refused.value.exit_code == Exit.BASELINE


def test_no_torch_is_imported(directories: tuple[Path, Path]):
    code = (
        "import sys; from elimtool.analysis.compare.runs import compare_runs;"
        f"compare_runs({str(directories[0])!r}, {str(directories[1])!r});"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr

"""Two chains of one run: what each alone leaves, joined stage by stage, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.analysis.compare.chains import compare_chains
from elimtool.errors import ElimError

from .swaps import assert_swapped, assert_zero


def test_a_chain_against_itself_is_all_zeros(run_a: Any):
    same = compare_chains(run_a, "hf", "hf")
    assert_zero(same)
    assert same.kind == "chains" and same.options["names"] == ["hf", "hf"]


def test_exchanging_the_chains_negates_every_difference(run_a: Any):
    assert_swapped(compare_chains(run_a, "llama.cpp", "hf"), compare_chains(run_a, "hf", "llama.cpp"))


def test_what_one_chain_alone_leaves_is_that_of_the_run(run_a: Any):
    found = compare_chains(run_a, "hf", "llama.cpp").table("survivor_differences").set_index("pair_id")
    (pair,) = run_a.table("chain_differences").query("prompt_id == 'Spain'").to_dict("records")
    assert (pair["chain"], pair["other"]) == ("llama.cpp", "hf")
    row = found.loc["Spain"]
    assert row["total_variation"] == pair["total_variation"]
    assert (row["n_only_a"], row["n_only_b"]) == (pair["n_only_other"], pair["n_only"])
    ends = run_a.table("sampling").query("prompt_id == 'Spain'").groupby("chain").last()
    assert row["n_survivors_a"] == ends.loc["hf", "n_after"]
    assert row["n_survivors_difference"] == ends.loc["llama.cpp", "n_after"] - ends.loc["hf", "n_after"]


def test_stages_are_joined_by_name_and_null_where_one_chain_lacks_them(run_a: Any):
    rows = compare_chains(run_a, "llama.cpp", "hf").table("sampling_differences")
    assert rows["chain"].isna().all()
    spain = rows[rows["pair_id"] == "Spain"].set_index("stage")
    assert spain.loc["dry", "stage_index_b"] is not None and spain.loc[["dry"], "n_after_b"].isna().all()
    assert spain.loc["top_k", "n_after_a"] == 40 and spain.loc["top_k", "n_after_difference"] == 10


def test_what_cannot_be_compared_is_refused(run_a: Any):
    with pytest.raises(ElimError, match="no chain 'lama'") as refused:
        compare_chains(run_a, "lama", "hf")
    assert "llama.cpp" in refused.value.hint
    with pytest.raises(ElimError, match="no table 'sampling'"):
        compare_chains(run_a.only(["prompts", "lens"]), "hf", "llama.cpp")

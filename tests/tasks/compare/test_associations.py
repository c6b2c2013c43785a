"""What two prompts call below the output: parts of a divergence, concepts beside sets as frequent."""

from __future__ import annotations

from typing import Any

import numpy as np

import elimtool
from elimtool import TraceOptions
from elimtool.tasks.compare.asked import Controls
from elimtool.tasks.compare.prompts import compare_prompts

A, B = "The capital of France is", "The text of France is"


def contrast(model: Any, a: str, b: str, lens: str, concept: str = "words=eliminated, layer") -> Any:
    options = TraceOptions(lens=lens, samplers=(), concepts=(concept,), tables=("lens_layers",))
    found = compare_prompts(model, a, b, options=options, controls=Controls(count=0))
    return found.table("association_contrast")


def test_terms_are_parts_of_the_divergence_and_concepts_of_the_trace(llama: Any, random_lens: str) -> None:
    found = contrast(llama, A, B, random_lens)
    tokens = found[found["token"].notna()]
    assert set(tokens["layer"]) == set(range(llama.n_layers))  # alike at the embedding: nothing to list
    assert (tokens["term"] > 0).all() and (tokens.groupby("layer").size() == 20).all()
    np.testing.assert_allclose(
        tokens["term"], (tokens["prob_b"] - tokens["prob_a"]) * tokens["difference"], rtol=1e-5
    )
    assert (tokens.groupby("layer")["term_share"].sum() <= 1 + 1e-9).all()
    for side, text in (("a", A), ("b", B)):
        options = TraceOptions(
            lens=random_lens, samplers=(), concepts=("words=eliminated, layer",), tables=("associations",)
        )
        own = elimtool.trace(llama, text, options=options).table("associations").set_index("layer")
        mine = found[found["concept"].notna()].set_index("layer")
        np.testing.assert_allclose(mine[f"prob_{side}"], own["mass"], rtol=1e-4)


def test_exchanging_the_prompts_negates_differences_and_keeps_terms(llama: Any, random_lens: str) -> None:
    there, back = contrast(llama, A, B, random_lens), contrast(llama, B, A, random_lens)
    keys = ["layer", "token_id", "concept"]
    there, back = (one.sort_values(keys).reset_index(drop=True) for one in (there, back))
    assert there["difference"].tolist() == (-back["difference"]).tolist()
    for column in ("term", "term_share", "p_value", "p_adjusted", "n_controls"):
        np.testing.assert_array_equal(there[column], back[column])
    np.testing.assert_allclose(there["difference_low"], -back["difference_high"])


def test_a_prompt_against_itself_is_zero_and_no_evidence(llama: Any, random_lens: str) -> None:
    found = contrast(llama, A, A, random_lens)
    assert found["token"].isna().all() and (found["difference"] == 0).all()
    assert (found["p_value"].dropna() == 1).all() and len(found["p_value"].dropna()) == llama.n_layers


def test_words_of_either_prompt_are_left_out(llama: Any, random_lens: str) -> None:
    found = contrast(llama, A, "The layer of France is", random_lens)
    alone = contrast(llama, A, "The layer of France is", random_lens, "words=eliminated")
    assert found["n_tokens"].dropna().tolist() == alone["n_tokens"].dropna().tolist()
    np.testing.assert_array_equal(found["difference"], alone["difference"])


def test_without_concepts_the_table_is_absent_and_without_frequencies_nothing_is_judged(llama: Any) -> None:
    options = TraceOptions(lens="raw", samplers=(), tables=("lens_layers",))
    assert "association_contrast" not in compare_prompts(llama, A, B, options=options).tables
    raw = contrast(llama, A, B, "raw")
    mine = raw[raw["concept"].notna()]
    assert (
        mine["p_value"].isna().all() and mine["difference"].notna().all() and (mine["n_controls"] == 0).all()
    )

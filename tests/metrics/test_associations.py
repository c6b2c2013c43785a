"""Associations: ranks and masses against the model's own outputs, control sets, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import elimtool
from elimtool import ElimError, TraceOptions
from elimtool.engine.concepts import pieces, word_tokens
from elimtool.lenses.ridge import RidgeLens
from elimtool.metrics.associations import MATCHED_SETS, matched_sets, unsaid
from elimtool.metrics.metric import Concept

PROMPTS = ["The capital of France is", "A token of the text"]
CONCEPT = "words=eliminated, layer"


def rows(model: Any, text: Any = PROMPTS[0], *concepts: str, **given: Any) -> pd.DataFrame:
    options = TraceOptions(concepts=concepts or (CONCEPT,), tables=("associations",), samplers=(), **given)
    return elimtool.trace(model, text, options=options).table("associations")


def test_ranks_masses_and_controls_at_the_output(llama: Any, random_lens: str) -> None:
    found = rows(llama, lens=random_lens)
    with torch.inference_mode():
        ids = llama.tokenizer.encode(PROMPTS[0]).ids
        logits = llama.hf(torch.tensor([list(ids)])).logits[0, -1].double()
    own = list(word_tokens(llama, ["eliminated", "layer"]))
    last = found.iloc[-1]
    assert found["layer"].tolist() == list(range(-1, llama.n_layers)) and last["n_tokens"] == len(own)
    assert last["best_rank"] == 1 + int((logits > logits[own].max()).sum())
    assert last["mass"] == pytest.approx(float(logits.softmax(-1)[own].sum()), rel=1e-4)
    assert last["best_token"] == llama.tokenizer.texts([own[int(logits[own].argmax())]])[0]
    prior = RidgeLens.load(Path(random_lens)).reference.prior
    mine, *controls = matched_sets(
        Concept("words", tuple(own)), ids, lambda one: llama.tokenizer.texts([one])[0], prior
    )
    assert list(mine) == own and len(controls) == last["n_controls"]
    assert not {token for some in controls for token in some} & {*own, *ids}
    best = logits[torch.tensor(controls)].amax(-1)
    as_good = int((best >= logits[own].max()).sum())
    assert last["p_value"] == pytest.approx((1 + as_good) / (1 + len(controls)))
    ranks = sorted(1 + int((logits > one).sum()) for one in best)
    assert ranks[0] <= last["control_rank_low"] <= last["control_rank"] <= last["control_rank_high"]
    assert sum(one < last["control_rank_low"] for one in ranks) < 0.05 * (len(ranks) + 1)
    # within the band or beyond it, as the p-value says
    assert (last["best_rank"] < last["control_rank_low"]) == (last["p_value"] <= 0.05)
    assert found["p_value"].isna().tolist() == [True, *[False] * llama.n_layers]
    assert (found["p_adjusted"].dropna() >= found["p_value"].dropna() - 1e-12).all()


def test_the_output_does_not_depend_on_the_lens_and_another_token_never_hurts(
    llama: Any, random_lens: str
) -> None:
    columns = ["best_token", "best_rank", "mass"]
    fitted, raw = rows(llama, lens=random_lens), rows(llama, lens="raw")
    assert fitted[columns].iloc[-1].tolist() == raw[columns].iloc[-1].tolist()
    assert raw["p_value"].isna().all() and (raw["n_controls"] == 0).all()
    more = rows(llama, PROMPTS[0], f"{CONCEPT}, keeps", lens="raw")
    assert (more["n_tokens"] > raw["n_tokens"]).all()
    assert (more["best_rank"] <= raw["best_rank"]).all() and (more["mass"] >= raw["mass"]).all()


def test_words_of_the_prompt_are_left_out_and_counted(llama: Any, random_lens: str) -> None:
    found = rows(llama, "The layer of", "a=layer, eliminated", "b=The, of", lens=random_lens)
    alone = rows(llama, "The layer of", "a=eliminated", lens=random_lens)
    mine = found[found["concept"] == "a"].reset_index(drop=True)
    left = mine["n_said"].iloc[0]
    assert left > 0 and (mine["n_tokens"] == alone["n_tokens"]).all()
    assert mine["best_rank"].tolist() == alone["best_rank"].tolist()
    gone = found[found["concept"] == "b"]
    assert (gone["n_tokens"] == 0).all()
    assert gone[["best_rank", "mass", "p_value", "surfaces_at"]].isna().all(axis=None)


def test_a_word_is_said_in_whatever_case() -> None:
    texts = [" snow", "Snow", "snow", " ice", " "]
    assert unsaid([0, 2, 3], [1, 4], texts.__getitem__) == (3,)
    assert unsaid([0, 2, 3], [4], texts.__getitem__) == (0, 2, 3)
    assert unsaid([4], [4], texts.__getitem__) == ()


def test_batched_equals_single_also_at_every_position(llama: Any, random_lens: str) -> None:
    together = rows(llama, PROMPTS, lens=random_lens, position="all")
    for text in PROMPTS:
        alone = rows(llama, text, lens=random_lens, position="all").reset_index(drop=True)
        part = together[together["prompt_id"] == alone["prompt_id"][0]].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone, check_exact=False, rtol=1e-4)


def test_a_word_is_its_tokens_with_and_without_a_space_but_no_piece(smollm2: Any) -> None:
    def spelt(*words: str) -> list[str]:
        return smollm2.tokenizer.texts(list(word_tokens(smollm2, words)))

    assert spelt("snow") == [" snow", "snow"]
    assert spelt("frost") == [" frost"]  # without a space it begins with 'f'
    assert spelt("hoarfrost", "snow", "snow") == [" ho", " snow", "snow"]
    assert pieces(smollm2, ["snow", "frost", "hoarfrost"]) == {"hoarfrost": " ho"}


@pytest.mark.parametrize(
    ("concepts", "said"),
    [
        (("a=",), "must be different names with words"),
        (("a= , ",), "must be different names with words"),
        (("a=ice, snow", "b=rain, ice"), "'a' and 'b' both have the word 'ice'"),
    ],
)
def test_concepts_need_words_of_their_own(concepts: tuple[str, ...], said: str) -> None:
    with pytest.raises(ElimError, match=said):
        TraceOptions(concepts=concepts)


def test_concepts_that_share_a_token_are_refused(llama: Any) -> None:
    with pytest.raises(ElimError, match="both have words that begin with the token"):
        rows(llama, PROMPTS[0], "a=Qx", "b=Qy", lens="raw")


def test_too_few_sets_as_frequent_say_nothing(llama: Any, random_lens: str) -> None:
    words = "abcdefghijklmnopqrs"
    found = rows(llama, PROMPTS[0], f"many={','.join(words)}", lens=random_lens)
    assert (found["n_controls"] < 19).all() and (found["n_controls"] > 0).all()
    unknown = ["p_value", "p_adjusted", "control_rank", "surfaces_at", "surface_chance"]
    assert found[unknown].isna().all(axis=None) and found["best_rank"].notna().all()


def test_as_many_sets_as_a_small_p_needs_are_made() -> None:
    prior = torch.tensor(np.log(np.random.default_rng(0).dirichlet(np.ones(4000))))
    assert len(matched_sets(Concept("a", (5, 9)), (7,), str, prior)) == 1 + MATCHED_SETS

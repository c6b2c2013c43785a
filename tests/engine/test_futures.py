"""What would follow each survivor: against Hugging Face's own outputs, invariants, refusals, the story."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.engine.futures import diversity, kind_of
from elimtool.numerics.distributions import jensen_shannon
from elimtool.report.facts import Tables
from elimtool.report.figures.futures import survivors
from elimtool.report.screen import Screen
from elimtool.report.trace.futures import future_lines, set_sentence
from elimtool.run.selection import asked_by

TEXT = "The capital of France is"
CHAIN = "hf:top_k=6,temperature=0.7"


def futures(model: Any, text: Any = TEXT, most: int = 4, **options: Any) -> Any:
    given = {"tables": ("top_tokens",), "lens": "raw", "samplers": (CHAIN,), "futures": most}
    return elimtool.trace(model, text, options=TraceOptions(**{**given, **options}))


def after(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double().softmax(-1)


@pytest.fixture(scope="module")
def run(llama: Any) -> Any:
    return futures(llama)


@pytest.mark.parametrize("steps", [1, 3])
def test_futures_are_what_transformers_predicts_after_each_survivor(llama: Any, steps: int) -> None:
    run = futures(llama, future_steps=steps)
    ids = list(llama.encode(Prompt(text=TEXT)).token_ids)
    output = after(llama, ids)
    rows = run.table("survivors")
    assert rows["token_id"].tolist() == output.argsort(descending=True)[:4].tolist()
    kept = output.topk(6).values.log() / 0.7
    np.testing.assert_allclose(rows["prob"], kept.softmax(-1)[:4], rtol=1e-4)
    found = {}
    for token in rows["token_id"]:
        written = [*ids, token]
        for _ in range(steps - 1):
            written.append(int(after(llama, written).argmax()))
        found[token] = after(llama, written).numpy()
    np.testing.assert_allclose(rows["future_entropy"], [entropy(found[t]) for t in found], rtol=1e-4)
    for pair in run.table("survivor_pairs").itertuples():
        apart = jensenshannon(found[pair.token_a_id], found[pair.token_b_id], base=2) ** 2
        assert pair.same_future == pytest.approx(1 - apart, abs=1e-5)
        direct = after(llama, [*ids, pair.token_a_id])[pair.token_b_id] / output[pair.token_b_id]
        assert pair.leads_to == pytest.approx(float(direct), rel=1e-3)


def test_sets_stand_before_each_stage_and_after(run: Any) -> None:
    sets, pairs = run.table("survivor_sets"), run.table("survivor_pairs")
    assert sets["stage"].isna().tolist() == [True] + [False] * (len(sets) - 1)
    assert (sets["futures"] >= 1 - 1e-9).all() and (sets["futures"] <= sets["hill1"] + 1e-9).all()
    assert (sets["hill1"] <= sets["n_read"] + 1e-9).all() and (sets["n_read"] <= 4).all()
    assert sets["n"].iloc[-1] == 6 and sets["n"].iloc[0] == 300
    assert len(pairs) == 4 * 3
    back = pairs.set_index(["token_a_id", "token_b_id"])["same_future"]
    assert all(back[a, b] == back[b, a] for a, b in back.index), "likeness has no direction"
    assert pairs["same_future_null"].nunique() == 1 and pairs["same_future_null"].between(0, 1).all()


def test_whatever_the_way_to_them_futures_are_the_same(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = futures(llama, position="0,4,-1")
    monkeypatch.setitem(llama.__dict__, "shares_prefixes", False)
    whole = futures(llama, position="0,4,-1")
    for name in asked_by("futures"):
        one, other = kept.table(name), whole.table(name)
        assert len(one) > 3
        pd.testing.assert_frame_equal(one, other, atol=1e-4, rtol=1e-3)


def test_prompts_side_by_side_and_written_text(llama: Any, run: Any) -> None:
    both = futures(llama, [Prompt(text="A token"), Prompt(text=TEXT)])
    own = run.table("survivors")
    found = both.table("survivors").query(f"prompt_id == '{own.prompt_id[0]}'").reset_index(drop=True)
    assert found.equals(own), "a prompt's passes are its own"
    written = futures(llama, generate=2, position="written")
    assert written.table("survivors")["position"].nunique() == 2


def test_a_chain_that_bans_every_token_leaves_no_choice(llama: Any) -> None:
    banned = ",".join(map(str, range(300)))
    run = futures(llama, samplers=(f"suppress=[{banned}],temperature=0.7",))
    sets = run.table("survivor_sets")
    assert sets["n"].tolist() == [300, 0, 0] and sets["futures"].isna().tolist() == [False, True, True]
    assert run.table("survivors").empty
    told = " ".join(one.plain for one in future_lines(Tables(run), run.prompts.iloc[0].to_dict(), Screen(80)))
    assert "no token survives" in told
    assert survivors(Tables(run), run.prompts.iloc[0].to_dict())[1].rows[-1][-2:] == ["", ""]


def test_without_a_chain_the_nucleus_is_compared(llama: Any) -> None:
    bare, named = futures(llama, samplers=()), futures(llama, samplers=("top_p=0.9",))
    for name in ("survivors", "survivor_pairs", "survivor_sets"):
        assert len(bare.table(name)) and bare.table(name).equals(named.table(name))
    output = after(llama, list(llama.encode(Prompt(text=TEXT)).token_ids)).sort(descending=True).values
    nucleus = int((output.cumsum(-1) < 0.9).sum()) + 1
    assert bare.table("survivor_sets")["n"].iloc[-1] == nucleus < len(output)


def test_survivors_of_guidance_are_those_after_both_prompts(llama: Any) -> None:
    run = futures(llama, samplers=("hf:guidance_scale=2,top_k=6",), against="A text of the token")
    one, other = (
        after(llama, list(llama.encode(Prompt(text=text)).token_ids)).log()
        for text in (TEXT, "A text of the token")
    )
    guided = (other + 2 * (one - other)).argsort(descending=True)[:4]
    assert run.table("survivors")["token_id"].tolist() == guided.tolist()


def test_diversity_is_that_of_hill_and_of_leinster_and_cobbold() -> None:
    probs = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    hill, alone = diversity(probs, torch.eye(3, dtype=torch.float64))
    assert hill == alone == pytest.approx(exp(entropy(probs.numpy())))
    assert diversity(probs, torch.ones(3, 3, dtype=torch.float64))[1] == pytest.approx(1.0)
    alike = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 1]], dtype=torch.float64)
    assert diversity(probs, alike)[1] == pytest.approx(2.0), "two copies of one thing count once"
    assert diversity(torch.tensor([1.0, 0.0], dtype=torch.float64), torch.eye(2).double()) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ((" Paris", "paris", 0.1, 0.5, 0.5), "same word"),
        ((" a", " the", 0.5, 9.0, 0.9), "substitute"),
        (("\n", " ", 0.1, 0.5, 0.01), "other"),
        ((" New", " York", 0.1, 9.0, 0.051), "successor"),
        ((" New", " York", 0.1, 9.0, 0.049), "other"),
        ((" New", " York", 0.1, 0.9, 0.9), "other"),
    ],
)
def test_kinds(case: Any, kind: str) -> None:
    a, b, same, leads, prob = case
    assert kind_of(a, b, same, leads, log(prob)) == kind


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_divergence_leaves_what_it_compares_as_it_was(dtype: torch.dtype) -> None:
    rows = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).to(dtype).log_softmax(-1)
    before = rows.clone()
    jensen_shannon(rows[:1].expand(2, 7), rows[1:])
    assert torch.equal(rows, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"futures": -1}, "`futures` must be at least 0"),
        ({"futures": 1}, "give 2 or more"),
        ({"futures": 65}, "at most 64 survivors"),
        ({"futures": 2, "future_steps": 0}, "`future_steps` must be at least 1"),
        ({"tables": ("survivors",)}, "table survivors needs `futures`"),
    ],
)
def test_what_cannot_be_asked(options: Any, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        TraceOptions(**options)


def test_survivors_need_room_in_the_context(llama: Any) -> None:
    with pytest.raises(ElimError, match="takes 1,008 tokens, but the model's context is 128"):
        futures(llama, future_steps=1000)


class Made:
    """Tables of hand-made rows."""

    def __init__(self, sets: list[Any], pairs: list[Any]) -> None:
        self._rows = {"survivor_sets": sets, "survivor_pairs": pairs}

    def rows(self, name: str, *_: object) -> list[Any]:
        return self._rows[name]


SET = {"position": 3, "chain": "mine", "stage": None, "n": 300, "n_read": 8, "hill1": 5.04, "futures": 3.13}
CUT = SET | {"stage": "min_p", "n": 2, "n_read": 2, "hill1": 1.6, "futures": 1.13}
PAIR = {
    "position": 3,
    "chain": "mine",
    "token_a": " Paris",
    "token_a_id": 1,
    "token_b": " London",
    "token_b_id": 2,
    "same_future": 0.97,
    "same_future_null": 0.08,
    "kind": "substitute",
}


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_story_names_stages_that_take_choices_and_its_null(width: int) -> None:
    mirror = PAIR | {"token_a": " London", "token_a_id": 2, "token_b": " Paris", "token_b_id": 1}
    lines = future_lines(Made([SET, CUT], [PAIR, mirror]), {"prompt_id": "p"}, Screen(width))
    assert all(line.cell_len <= width for line in lines)
    told = " ".join(" ".join(line.plain.split()) for line in lines)
    assert "2 tokens survive mine: 1.6 effective tokens, 1.1 different futures" in told
    assert "min_p removed 298 tokens and 2.0 futures" in told
    assert told.count("' Paris' and ' London' (0.97)") == 1 and "other text in their place: 0.08" in told


def test_the_page_lists_survivors_and_stages(run: Any) -> None:
    prompt = run.table("prompts").iloc[0].to_dict()
    listed, choices = survivors(Tables(run), prompt)
    assert len(listed.rows) == 4
    assert [row[0] for row in choices.rows] == ["before the chain", "temperature", "top_k"]
    assert "tokens survive hf" in (listed.note or "")


def test_a_single_survivor_is_one_choice() -> None:
    lone = CUT | {"n": 1, "n_read": 1, "hill1": 1.0, "futures": 1.0}
    assert "1 token survives mine: 1.0" in set_sentence([SET, lone], Screen(80))
    told = " ".join(line.plain for line in future_lines(Made([lone], []), {"prompt_id": "p"}, Screen(80)))
    assert "in their place" not in told

"""The engine on tiny models: batches, positions, targets, errors, and what must not depend on the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import elimtool
from elimtool import ElimError, Message, Prompt, SpanRequest, TraceOptions
from elimtool.model.loading import load_hugging_face, load_model
from tests.engine.tables import tables
from tests.watched import Watched

TEXTS = [
    "The capital of France is",
    "a",
    "The capital of Spain is Madrid, and the text of a token is eliminated when no layer keeps it. " * 2,
    "Zürich, 東京 \N{SNOWMAN} and more",
]


def assert_same(one: pd.DataFrame, two: pd.DataFrame, name: str) -> None:
    """Equal texts, ids and counts; floats within 1e-4; ranks but for near-ties (none in these models).

    Which head is the largest one is settled by rounding where several put as much on a span, so it is not
    compared here: ``test_the_largest_head_has_the_largest_mass`` holds it against the heads' own table.
    """
    assert list(one.columns) == list(two.columns)
    assert len(one) == len(two)
    for column in one.columns.drop("mass_max_head", errors="ignore"):
        if pd.api.types.is_float_dtype(one[column]):
            np.testing.assert_allclose(
                one[column], two[column], atol=1e-4, rtol=1e-5, err_msg=f"{name}.{column}"
            )
        elif len(one) and not isinstance(one[column].iloc[0], (list, np.ndarray)):
            pd.testing.assert_series_equal(
                one[column].reset_index(drop=True), two[column].reset_index(drop=True), obj=f"{name}.{column}"
            )


@pytest.mark.parametrize("position", ["last", "all"])
def test_batched_equals_single(llama: Any, position: Any) -> None:
    options = TraceOptions(position=position, heads=True)
    together = elimtool.trace(llama, TEXTS, targets=[" of", " is"], foils=[" and"], options=options)
    assert {"lens", "contrast_layers", "contrast_stages", "verdicts"} <= set(together.tables)
    for text in TEXTS:
        alone = elimtool.trace(llama, text, targets=[" of", " is"], foils=[" and"], options=options)
        prompt_id = alone.prompts["prompt_id"][0]
        assert set(alone.tables) == set(together.tables)
        for name in together.tables:
            whole = together.table(name)
            part = whole[whole["prompt_id"] == prompt_id].reset_index(drop=True)
            assert_same(part, alone.table(name), name)


def test_the_largest_head_has_the_largest_mass(llama: Any) -> None:
    run = elimtool.trace(llama, TEXTS, options=TraceOptions(position="all", heads=True))
    place = ["prompt_id", "position", "layer", "span"]
    heads = run.table("attention_heads").set_index([*place, "head"])["mass"]
    spans = run.table("attention").dropna(subset="mass_max_head")  # null: none of the span can be seen yet
    named = heads.loc[pd.MultiIndex.from_frame(spans[[*place, "mass_max_head"]])].to_numpy()
    np.testing.assert_array_equal(named, spans["mass_max"])
    np.testing.assert_array_equal(heads.groupby(level=place, sort=False).max().dropna(), spans["mass_max"])


def test_batch_size_changes_nothing(llama: Any) -> None:
    runs = [elimtool.trace(llama, TEXTS, options=TraceOptions(batch_size=size)) for size in (1, 2, 8)]
    for name in runs[0].tables:
        for run in runs[1:]:
            assert_same(run.table(name), runs[0].table(name), name)


def test_reruns_are_equal_to_the_bit(llama: Any) -> None:
    runs = [elimtool.trace(llama, TEXTS) for _ in range(2)]
    for name in runs[0].tables:
        assert runs[0].arrow(name).equals(runs[1].arrow(name))
    assert runs[0].manifest.fingerprint == runs[1].manifest.fingerprint


def test_every_position_equals_the_prompt_cut_there(llama: Any) -> None:
    text = TEXTS[0]
    whole = elimtool.trace(llama, text, targets=[" of"], options=TraceOptions(position="all"))
    ids = whole.prompts["token_ids"][0]
    for position in range(len(ids)):
        cut = llama.tokenizer.backend.decode(ids[: position + 1])
        alone = elimtool.trace(llama, cut, targets=[" of"], options=TraceOptions(target_space="exact")).table(
            "lens"
        )
        part = whole.table("lens").query(f"position == {position}")
        np.testing.assert_allclose(part["logprob"], alone["logprob"], atol=1e-4)


def test_last_layer_is_the_models_own_output(llama: Any, llama_directory: Path) -> None:
    plain = load_hugging_face("llama", llama_directory, "float32", False)
    run = elimtool.trace(llama, TEXTS, targets=[" of", " is"])
    lens = run.table("lens")
    for row in run.prompts.itertuples():
        with torch.inference_mode():
            logits = plain(input_ids=torch.tensor([list(row.token_ids)])).logits[0, -1]
        final = lens[(lens["prompt_id"] == row.prompt_id) & (lens["layer"] == 3)]
        for one in final.itertuples():
            assert one.logit == pytest.approx(float(logits[one.token_id]), abs=1e-4)
            assert one.logprob == pytest.approx(float(logits.log_softmax(-1)[one.token_id]), abs=1e-4)
            assert one.rank == 1 + int((logits > logits[one.token_id]).sum())
        shape = run.table("lens_layers").query(f"prompt_id == '{row.prompt_id}' and layer == 3").iloc[0]
        assert shape["kl_to_final"] == 0
        assert shape["top_token_id"] == int(logits.argmax())


def test_without_targets_the_leaders_are_followed(llama: Any) -> None:
    run = elimtool.trace(llama, TEXTS[0])
    lens, layers = run.table("lens"), run.table("lens_layers")
    followed = lens[lens["layer"] == 3]
    assert 5 <= len(followed) <= 10
    assert followed["rank"].tolist()[:5] == [1, 2, 3, 4, 5]
    assert set(layers["top_token_id"]) <= set(followed["token_id"]) or len(followed) == 10
    assert (lens.groupby("token_id")["layer"].count() == 5).all()


def test_a_target_of_several_tokens_has_a_joint_probability(llama: Any, llama_directory: Path) -> None:
    plain = load_hugging_face("llama", llama_directory, "float32", False)
    run = elimtool.trace(llama, TEXTS[0], targets=[" zebra", " of"])
    ids = list(run.prompts["token_ids"][0])
    target = [int(i) for i in llama.tokenizer.backend(" zebra", add_special_tokens=False).input_ids]
    assert len(target) > 2
    with torch.inference_mode():
        logprobs = plain(input_ids=torch.tensor([ids + target])).logits[0].log_softmax(-1)
    expected = sum(float(logprobs[len(ids) - 1 + i, token]) for i, token in enumerate(target))
    found = run.table("survival").set_index("target")
    assert found.loc[" zebra", "target_logprob"] == pytest.approx(expected, abs=1e-4)
    assert found.loc[" of", "target_logprob"] == pytest.approx(np.log(found.loc[" of", "prob"]), abs=1e-6)
    everywhere = elimtool.trace(llama, TEXTS[0], targets=[" zebra"], options=TraceOptions(position="all"))
    joint = everywhere.table("survival").set_index("position")["target_logprob"]
    assert joint.iloc[:-1].isna().all()
    assert joint.iloc[-1] == pytest.approx(expected, abs=1e-4)


def test_nothing_is_scored_that_no_table_reads(llama: Any) -> None:
    for names, passes in ((("lens",), 1), (("survival",), 2), (("verdicts",), 2)):
        model = Watched.of(llama)
        options = TraceOptions(tables=names)
        elimtool.trace(model, TEXTS[0], targets=[" zebra", " of"], foils=[" France"], options=options)
        assert len(model.passes) == passes, names


def test_shared_first_tokens_are_appended_and_probed_behind(llama: Any) -> None:
    run = elimtool.trace(llama, "The text of a token", targets=[" zebra", " zebu"])
    row = run.prompts.iloc[0]
    shared = row["n_appended"]
    assert shared >= 1
    assert run.table("lens")["position"].unique().tolist() == [row["n_tokens"] - 1]
    assert not run.table("survival")["ambiguous"].any()
    partly = elimtool.trace(llama, "The text of a token", targets=[" zebra", " zebu", " of"]).table(
        "survival"
    )
    assert partly.set_index("target")["ambiguous"].to_dict() == {" zebra": True, " zebu": True, " of": False}


def test_bad_prompts_are_rows_or_errors(llama: Any) -> None:
    asked = [
        "fine",
        Prompt(text="x " * 300, id="long"),
        Prompt(text="b", spans=(SpanRequest("s", "zz"),), id="span"),
    ]
    with pytest.raises(ElimError, match="context is 128"):
        elimtool.trace(llama, asked)
    run = elimtool.trace(llama, asked, options=TraceOptions(errors="row"))
    assert run.prompts["status"].tolist() == ["ok", "error", "error"]
    assert run.prompts["error_message"].isna().tolist() == [True, False, False]
    assert set(run.table("lens")["prompt_id"]) == {run.prompts["prompt_id"][0]}
    lone = elimtool.trace(llama, ["fine", "lone \ud83d"], options=TraceOptions(errors="row")).prompts
    assert lone["status"].tolist() == ["ok", "error"]
    assert lone["text"][1] == "lone \\ud83d"
    nothing = elimtool.trace(llama, asked[1], options=TraceOptions(errors="row"))
    assert {name for name in nothing.tables if nothing.arrow(name).num_rows} == {"prompts"}


def test_duplicates_and_nothing_are_refused(llama: Any) -> None:
    with pytest.raises(ElimError, match="prompts 1 and 3 have the same id"):
        elimtool.trace(llama, ["a", "b", "a"])
    with pytest.raises(ElimError, match="`targets` must be a list of strings, got 'Paris'"):
        elimtool.trace(llama, "a", targets="Paris")
    with pytest.raises(ElimError, match="no prompt"):
        elimtool.trace(llama, [])


def test_a_chat_is_traced_by_roles(llama: Any) -> None:
    prompt = Prompt(messages=(Message("system", "Be brief."), Message("user", "Which city is it?")))
    table = elimtool.trace(llama, prompt).table("attention")
    masses = table[table["layer"] == 1].set_index("span")["mass"]
    assert list(masses.index) == ["<sink>", "system", "user", "<rest>"]
    assert masses.sum() == pytest.approx(1, abs=1e-5)


def test_another_prompt_is_another_run(llama: Any) -> None:
    runs = [
        elimtool.trace(llama, text, targets=targets)
        for text, targets in (("a", []), ("b", []), ("a", [" of"]))
    ]
    assert len({run.manifest.fingerprint for run in runs}) == 3


def test_verdicts_join_the_tables(llama: Any) -> None:
    run = elimtool.trace(llama, TEXTS[:2], targets=[" of", " is"], foils=[" Paris"])
    judged = run.table("verdicts").set_index(["prompt_id", "target"])
    survival = run.table("survival").set_index(["prompt_id", "target"])
    assert judged.index.tolist() == survival.index.tolist()
    assert judged["final_rank"].tolist() == survival["rank"].tolist()
    components = run.table("components").set_index(["prompt_id", "target", "component"])["dla_centred"]
    for key, row in judged.iterrows():
        if isinstance(row["promoter"], str):
            assert components[(*key, row["promoter"])] == pytest.approx(row["promoter_dla"])


def test_a_model_made_in_memory(tiny: Any) -> None:
    run = elimtool.trace(tiny, TEXTS[:2], targets=[" of"])
    assert run.table("lens")["layer"].max() == 2
    assert len(run.manifest.weights_sha256) == 64
    mass = run.table("attention").groupby(["prompt_id", "position", "layer"])["mass"].sum()
    np.testing.assert_allclose(mass, 1, atol=1e-5)


def test_repeated_token_without_bos_has_one_answer_at_every_position(llama: Any) -> None:
    """Equal values at every position mix to the same value, whatever the attention: metrics.md, finding 4."""
    run = elimtool.trace(llama, "!" * 20, targets=["!"], options=TraceOptions(position="all"))
    lens = run.table("lens")
    assert run.prompts["n_tokens"][0] == 20
    for _, rows in lens.groupby("layer"):
        assert rows["logprob"].max() - rows["logprob"].min() < 1e-4


def test_readout_in_chunks_changes_nothing(llama: Any) -> None:
    model = Watched.of(llama)
    options = TraceOptions(position="all")
    whole, parts = (tables(model, TEXTS[:1], options, (" of",), readout_bytes=held) for held in (2**28, 1))
    assert model.read.count(llama.n_layers + 1) == len(set(whole["lens"]["position"]))
    assert set(parts) == set(whole)
    for name, table in whole.items():
        assert_same(parts[name], table, name)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_masses_are_of_float32_whatever_the_weights_are(llama_directory: Path, dtype: str) -> None:
    model = load_model(str(llama_directory), dtype=dtype)
    run = elimtool.trace(model, TEXTS[0], options=TraceOptions(lens="raw"))
    np.testing.assert_allclose(run.table("attention").groupby("layer")["mass"].sum(), 1, atol=1e-6)

"""Two models over the same prompts: one after the other, what agrees is compared and the rest is said."""

from __future__ import annotations

import gc
import weakref
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool.analysis.compare.runs import compare_runs
from elimtool.errors import ElimError, Exit
from elimtool.run.comparison import Comparison
from elimtool.samplers import resolve
from elimtool.tasks.compare import readings
from elimtool.tasks.compare.chains import compare_samplers
from elimtool.tasks.compare.models import compare_models
from tests.analysis.compare.swaps import assert_swapped, assert_zero
from tests.conftest import byte_tokenizer
from tests.families import save

PROMPTS = [
    elimtool.Prompt(
        text="The capital of France is", id="France", targets=("Paris", "Berlin"), foils=("Rome",)
    ),
    elimtool.Prompt(text="The capital of Spain is", id="Spain", targets=("Paris",)),
    elimtool.Prompt(text="too long " * 300, id="long"),
]
OPTIONS = elimtool.TraceOptions(samplers=("hf",), lens="raw")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    return elimtool.load_model(str(save("llama", tmp_path_factory.mktemp("b"), tokenizer, seed=4)))


@pytest.fixture(scope="module")
def found(llama: Any, other: Any) -> Comparison:
    return compare_models(llama, other, PROMPTS, options=OPTIONS)


def test_a_model_against_itself_is_all_zeros(llama: Any):
    same = compare_models(llama, llama, PROMPTS, options=OPTIONS)
    assert_zero(same)
    apart = same.table("divergence")
    assert (apart[["cosine_distance", "relative_l2", "js"]] == 0).all(axis=None) and (
        apart["jaccard"] == 1
    ).all()
    assert same.table("pairs")["js_output"].dropna().tolist() == [0, 0]


def test_exchanging_the_models_negates_every_difference(found: Comparison, llama: Any, other: Any):
    assert_swapped(found, compare_models(other, llama, PROMPTS, options=OPTIONS))


def test_it_is_the_comparison_of_the_two_runs_and_the_distributions(
    found: Comparison, llama: Any, other: Any
):
    options = replace(OPTIONS, errors="row")
    runs = compare_runs(*(elimtool.trace(model, PROMPTS, options=options) for model in (llama, other)))
    for name in (
        "lens_differences",
        "verdict_differences",
        "stage_differences",
        "flips",
        "attention_differences",
    ):
        assert found.arrow(name).equals(runs.arrow(name)), name
    pairs = found.table("pairs").set_index("pair_id")
    assert pairs["status"].tolist() == ["ok", "ok", "error"]
    apart = found.table("divergence").set_index(["pair_id", "layer"])
    assert pairs.loc["France", "js_output"] == apart.loc[("France", 3), "js"]


def test_divergence_is_that_of_hugging_faces_hidden_states(found: Comparison, llama: Any, other: Any):
    """Both models are read after the space before 'Paris', a token of its own here."""
    states = []
    for model in (llama, other):
        ids = torch.tensor([model.tokenizer.encode("The capital of Spain is ").ids])
        out = model.hf(ids, output_hidden_states=True)
        states.append(([one[0, -1].double() for one in out.hidden_states], out.logits[0, -1].double()))
    rows = found.table("divergence").query("pair_id == 'Spain'").set_index("layer")
    for layer in (-1, 0, 2):
        a, b = (state[0][layer + 1] for state in states)
        assert rows.loc[layer, "cosine_distance"] == pytest.approx(
            1 - float(torch.cosine_similarity(a, b, 0)), abs=1e-5
        )
        assert rows.loc[layer, "relative_l2"] == pytest.approx(
            float(2 * (a - b).norm() / (a.norm() + b.norm())), rel=1e-4
        )
    p, q = (state[1].softmax(-1) for state in states)
    middle = (p + q) / 2
    js = sum((one * (one / middle).log2()).sum() for one in (p, q)) / 2
    assert rows.loc[3, "js"] == pytest.approx(float(js), rel=1e-3)


def test_models_that_share_little_are_compared_on_strings_and_outputs(llama: Any, tmp_path: Path):
    strange = byte_tokenizer()
    strange.add_tokens(["<|more|>"])
    deep = elimtool.load_model(str(save("gpt2", tmp_path, strange)))
    found = compare_models(llama, deep, PROMPTS[:2], options=OPTIONS)
    said = " ".join(found.notes)
    for words in ("joined as strings", "vocabularies differ"):
        assert words in said, found.notes
    apart = found.table("divergence")
    assert apart["js"].isna().all() and apart["jaccard"].isna().all()
    assert found.table("lens_differences")["logprob_difference"].notna().any()
    assert_swapped(found, compare_models(deep, llama, PROMPTS[:2], options=OPTIONS))


def test_models_of_different_depths_are_compared_at_their_outputs(llama: Any, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_config(deepcopy(llama.hf.config))
    whole.config.num_hidden_layers = 2
    whole.model.layers = whole.model.layers[:2]
    whole.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    found = compare_models(llama, elimtool.load_model(str(tmp_path)), PROMPTS[:2], options=OPTIONS)
    assert any(note.startswith("A has 4 layers, B 2") for note in found.notes)
    for name in ("lens_differences", "layer_differences", "divergence"):
        rows = found.table(name)
        assert len(rows) and rows["layer"].isna().all(), name
    assert (
        found.table("divergence")["js"].notna().all() and found.arrow("attention_differences").num_rows == 0
    )


def test_a_model_that_is_loaded_for_it_is_dropped_before_the_next(llama_directory: Path):
    alive: list[Any] = []
    most = 0

    def load() -> Any:
        nonlocal most
        model = elimtool.load_model(str(llama_directory))
        alive.append(weakref.ref(model.hf))
        gc.collect()
        most = max(most, sum(one() is not None for one in alive))
        return model

    found = compare_models(load, load, "A text", options=OPTIONS)
    assert len(alive) == 2 and most == 1
    assert not found.table("verdict_differences")["changed"].any()


def test_distributions_that_do_not_fit_are_left_out_and_said(llama: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readings, "KEPT_BYTES", 1)
    found = compare_models(llama, llama, PROMPTS, options=OPTIONS)
    assert set(found.table("divergence")["pair_id"]) == {"France"}
    assert found.table("pairs")["js_output"].isna().tolist() == [False, True, True]
    assert "Of 1 of the prompts distributions were not kept: table divergence lacks them." in found.notes


def test_where_one_model_has_a_fitted_lens_both_are_read_raw(
    llama_directory: Path, other: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from elimtool.lenses.corpus import Document, shipped
    from elimtool.lenses.find import cached_lens
    from elimtool.lenses.fit import fit_lens

    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path))
    fitted = elimtool.load_model(str(llama_directory))
    path = cached_lens(fitted.hashes()["weights_sha256"])
    path.parent.mkdir(parents=True)
    text = shipped("fit")[0].text
    documents = (Document("file", "one", 1, text[:1500]), Document("file", "two", 1, text[1500:2800]))
    fit_lens(fitted, documents, window=40).save(path)
    auto = replace(OPTIONS, lens="auto")
    for sides in ((fitted, other), (other, fitted)):
        found = compare_models(*sides, PROMPTS[:1], options=auto)
        assert (found.a.lens, found.b.lens) == ("raw", "raw")
        fitted_side = "AB"[sides.index(fitted)]
        assert f"A fitted lens is there for {fitted_side} alone: both models are read raw." in found.notes
        assert found.table("divergence")["js"].notna().all()


def test_targets_written_otherwise_are_told(llama: Any, tmp_path: Path):
    names, runs = ["Paris", "Rome", "Madrid", "Berlin", "Oslo"], []
    for rule in ("exact", "auto"):
        options = replace(OPTIONS, target_space=rule)  # type: ignore[arg-type]
        runs.append(elimtool.trace(llama, "The capital is", targets=names, options=options))
        runs[-1].save(tmp_path / rule)
    other = (runs[0].table("survival")["spelling"] != runs[1].table("survival")["spelling"]).sum()
    said = " ".join(compare_runs(tmp_path / "exact", tmp_path / "auto").notes)
    assert other and f"{other} of the targets are written otherwise in B" in said
    assert "written otherwise" not in " ".join(compare_runs(tmp_path / "auto", tmp_path / "auto").notes)


def test_what_cannot_be_compared_is_refused(llama: Any):
    cases = {"`position` must be .*, got 'all'": {"position": "all"}, "`generate`": {"generate": 2}}
    for words, changed in cases.items():
        with pytest.raises(ElimError, match=words):
            compare_models(llama, llama, PROMPTS, options=replace(OPTIONS, **changed))  # type: ignore[arg-type]
    with pytest.raises(ElimError, match="none of the 1 prompts") as refused:
        compare_models(llama, llama, PROMPTS[2:], options=OPTIONS)
    assert refused.value.exit_code == Exit.NOTHING


def test_two_samplers_of_one_model(llama: Any):
    options = elimtool.TraceOptions(samplers=("top_k=2", "top_k=5"), lens="raw")
    found = compare_samplers(llama, PROMPTS, options=options, unread={"bad": ElimError("no prompt")})
    left = found.table("survivor_differences")
    assert left["n_survivors_difference"].tolist() == [3, 3] and (left["total_variation"] > 0).all()
    pairs = found.table("pairs").set_index("pair_id")
    assert pairs.loc["bad", "error_message"] == "no prompt" and pairs.loc["long", "status"] == "error"
    again = replace(resolve("hf"), name="again")
    assert_zero(compare_samplers(llama, PROMPTS, options=replace(options, samplers=("hf", again))))
    with pytest.raises(ElimError, match="`samplers` must name two chains to compare, got 3"):
        compare_samplers(llama, PROMPTS)

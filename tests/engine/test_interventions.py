"""Traces under interventions: both passes' rows, what changes nothing, and what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import ElimError, Prompt, SpanRequest, TraceOptions
from elimtool.engine.reference import cached_reference, ensure_reference, measure_reference
from elimtool.model.interventions import Ablate, Intervention, Knockout, Patch, Scale
from elimtool.model.interventions.edits import Site
from elimtool.run.schema import ONE_PASS
from tests.engine.test_engine import TEXTS, assert_same

PASSES = ("lens", "lens_layers", "attention", "survival", "components", "sampling_targets", "verdicts")
TELLING = ("lens", "survival", "attention")
NOTHING = (Scale("1.2", 1.0), Scale("mlp.2", 1.0))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for the module's tests, apart from the user's."""
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path_factory.getbasetemp() / "interventions-cache"))


def trace(model: Any, prompts: Any, *interventions: Intervention, **options: Any) -> Any:
    return elimtool.trace(
        model,
        prompts,
        targets=[" of", " is"],
        options=TraceOptions(interventions=interventions, samplers=("hf",), lens="raw", **options),
    )


def test_no_intervention_leaves_one_pass(llama: Any) -> None:
    run = trace(llama, TEXTS[:2])
    assert run.interventions is None and "effects" not in run.tables
    for name in run.tables:
        table = run.arrow(name)
        if name not in ONE_PASS:
            assert table.column("intervention").null_count == table.num_rows
        assert run.under(None).arrow(name).equals(table)


def test_both_passes_are_there_the_plain_one_first_and_untouched(llama: Any) -> None:
    alone, run = trace(llama, TEXTS[:2]), trace(llama, TEXTS[:2], Scale("1.2", 3.0), batch_size=2)
    label = "scale 1.2=3.0"
    assert run.interventions == label
    single = trace(llama, TEXTS[:2], batch_size=2)
    for name in single.tables:
        plain = run.under(None).arrow(name)
        assert plain.equals(single.arrow(name)), name
        if name not in ONE_PASS:
            column = run.arrow(name).column("intervention").to_pylist()
            assert column == [None] * plain.num_rows + [label] * (len(column) - plain.num_rows)
    for name in PASSES:
        assert (
            not run.under(label)
            .arrow(name)
            .drop("intervention")
            .equals(alone.arrow(name).drop("intervention"))
        )


def test_an_intervention_that_changes_nothing_changes_no_byte(llama: Any) -> None:
    run = trace(llama, TEXTS[:2], *NOTHING)
    for name in run.tables:
        if name not in ONE_PASS:
            before, after = run.under(None).arrow(name), run.under(run.interventions).arrow(name)
            assert before.drop("intervention").equals(after.drop("intervention")), name
    found = run.table("effects")
    assert (found["logprob_change"] == 0).all() and (found["rank_before"] == found["rank_after"]).all()


def test_effects_join_the_passes(llama: Any) -> None:
    run = elimtool.trace(
        llama,
        TEXTS[0],
        targets=[" of", " is"],
        foils=[" Paris"],
        options=TraceOptions(interventions=(Ablate("3.1", "zero"),), samplers=("hf",), lens="raw"),
    )
    lens = run.table("lens")
    last = lens[lens["layer"] == 3].set_index(["target", lens["intervention"].fillna("")[lens["layer"] == 3]])
    for row in run.table("effects").itertuples():
        before, after = last.loc[row.target, ""], last.loc[row.target, "ablate 3.1 zero"]
        assert row.versus == last.loc[last["is_foil"]].index[0][0]
        foil_before, foil_after = last.loc[row.versus, ""], last.loc[row.versus, "ablate 3.1 zero"]
        assert row.logprob_change == pytest.approx(after["logprob"] - before["logprob"])
        assert row.logit_difference_before == pytest.approx(before["logit"] - foil_before["logit"])
        assert row.logit_difference_after == pytest.approx(after["logit"] - foil_after["logit"])
        assert (row.rank_before, row.rank_after) == (before["rank"], after["rank"])


def test_without_targets_the_same_tokens_are_followed_in_both_passes(llama: Any) -> None:
    options = TraceOptions(interventions=(Ablate("mlp.3", "zero"),), samplers=(), lens="raw", position="all")
    run = elimtool.trace(llama, TEXTS[:2], options=options)
    plain, changed = run.under(None).table("survival"), run.under(run.interventions).table("survival")
    assert plain["target"].tolist() == changed["target"].tolist()
    assert (plain["rank"] != changed["rank"]).any()


@pytest.mark.parametrize(
    "interventions",
    [(Ablate("1.2"), Ablate("mlp.1", "resample")), (Knockout("late", (1, 3), "later"), Scale("2.0", -1.0))],
    ids=str,
)
def test_batched_equals_single(llama: Any, interventions: tuple[Intervention, ...]) -> None:
    texts = [text + " is the end of it" for text in TEXTS[:2]]
    prompts = [Prompt(text=text, spans=(SpanRequest("late", "the end"),)) for text in texts]
    together = trace(llama, prompts, *interventions, tables=TELLING)
    for prompt in prompts:
        alone = trace(llama, prompt, *interventions, tables=TELLING)
        for name in TELLING:
            whole = together.table(name)
            part = whole[whole["prompt_id"] == alone.prompts["prompt_id"][0]].reset_index(drop=True)
            assert_same(part, alone.table(name), name)


def test_joint_probability_under_an_intervention(llama: Any) -> None:
    """Of a target of several tokens: in place for all of them, or null where that has no meaning."""
    prompt = Prompt(text=TEXTS[0], targets=(" zebra",), spans=(SpanRequest("s", "France"),))
    ablated = trace(llama, prompt, Ablate("1.2", "zero"), tables=("survival",)).table("survival")[
        "target_logprob"
    ]
    assert ablated[0] != ablated[1] and not ablated.isna().any()
    cut = trace(llama, prompt, Knockout("s"), tables=("survival",)).table("survival")["target_logprob"]
    assert cut.isna().tolist() == [False, True]
    later = trace(llama, prompt, Knockout("s", None, "later"), tables=("survival",)).table("survival")[
        "target_logprob"
    ]
    assert not later.isna().any() and later[0] != later[1]


def test_a_prompt_that_does_not_fit_is_a_row_or_an_error(llama: Any) -> None:
    prompts = [Prompt(text=TEXTS[0], spans=(SpanRequest("s", "France"),)), "another"]
    with pytest.raises(ElimError, match="`knockout` 's' does not name a span of the prompt"):
        trace(llama, prompts, Knockout("s"))
    run = trace(llama, prompts, Knockout("s"), errors="row")
    assert run.prompts["status"].tolist() == ["ok", "error"]
    assert set(run.table("effects")["prompt_id"]) == {run.prompts["prompt_id"][0]}


def test_a_patch_of_a_place_that_is_not_there_is_refused(llama: Any, tmp_path: Path) -> None:
    elimtool.record(llama, TEXTS[0]).save(tmp_path / "a.safetensors")
    file = str(tmp_path / "a.safetensors")
    for place, said in (("17.3", "has no layer 17"), ("1.99", "has no head 99"), ("mlp.9", "has no layer 9")):
        with pytest.raises(ElimError, match=said):
            trace(llama, TEXTS[0], Patch(file, (place,)))


def test_the_manifest_says_what_was_done(llama: Any, tmp_path: Path) -> None:
    spans = (SpanRequest("s", "The capital"),)
    run = trace(llama, Prompt(text=TEXTS[0], id="p", spans=spans), Knockout("s"), Ablate("1.1"))
    config = run.manifest.config
    assert config["interventions"] == ["knockout s from last", "ablate 1.1 mean"]
    assert config["intervention_notes"][0].startswith("p: the span 's' was knocked out without its attention")
    assert config["reference"]["weights_sha256"] == run.manifest.weights_sha256
    run.save(tmp_path / "run")
    again = elimtool.open_run(tmp_path / "run")
    assert again.interventions == "knockout s from last; ablate 1.1 mean"
    assert again.under(None).arrow("lens").num_rows * 2 == again.arrow("lens").num_rows


def test_generating_under_an_intervention_is_refused(llama: Any) -> None:
    with pytest.raises(ElimError, match=r"`generate` cannot be combined with scale 1\.2"):
        TraceOptions(interventions=NOTHING, generate=2)


def test_the_reference_is_the_mean_over_the_shipped_text(llama: Any) -> None:
    reference = ensure_reference(llama)
    assert cached_reference(llama).is_file()
    assert int(reference.facts["tokens"]) > 3500
    again = measure_reference(llama)
    site = Site(1, "heads")
    assert torch.equal(again.means[site], reference.means[site])
    assert torch.equal(again.samples[site], ensure_reference(llama).samples[site])
    assert reference.means[site].shape == (32,) and reference.samples[site].shape == (64, 32)
    spread = reference.samples[site].std(0) / np.sqrt(64)
    off = (reference.samples[site].mean(0) - reference.means[site]).abs()
    assert bool((off < 5 * spread + 1e-6).all())


def test_an_mlp_behind_whose_output_stands_a_norm(tmp_path: Path, tokenizer: Any) -> None:
    """Gemma 2 adds a norm's output: it is replaced there, and the shares of the logit are given up."""
    from elimtool.model.loading import load_model
    from tests.families import save

    model = load_model(str(save("gemma2", tmp_path / "model", tokenizer)))
    run = trace(model, TEXTS[0], Ablate("mlp.1", "mean"), tables=("components", "mechanisms", "effects"))
    plain, changed = run.under(None), run.under(run.interventions)
    assert plain.arrow("components").num_rows > 0 == changed.arrow("components").num_rows
    why = changed.table("mechanisms")["undecomposed"]
    assert why.notna().tolist() == [False, True, False, False] and "not affine" in why[1]
    assert run.table("effects")["logprob_change"].abs().max() > 1e-3


@pytest.mark.parametrize("cut", [0, 7, 2000])
def test_damaged_reference_activations_are_measured_anew(
    llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path))
    ensure_reference(llama)
    path = cached_reference(llama)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with pytest.warns(UserWarning, match="is damaged, and is made anew"):
        ensure_reference(llama)
    assert path.read_bytes() == whole

"""Stages that combine rows of logits: guidance against transformers itself, others by definition."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.generation import logits_process as hf

import elimtool
from elimtool import TraceOptions
from elimtool.errors import ElimError
from elimtool.model.decode import end_ids
from elimtool.model.loading import load_model
from elimtool.samplers import History, resolve
from elimtool.testing import rows
from tests.families import save

NONE = torch.zeros((1, 0), dtype=torch.int64)
PROMPT, SECOND = "The capital of France is", "The capital of"


def mixed(spec: str, own: torch.Tensor, other: torch.Tensor, name: str = "against") -> torch.Tensor:
    past = [History(rows={name: row}) for row in other]
    return resolve(spec).run(own, NONE.expand(len(own), 0), past).final


@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.5, 1.0001, 1.5, 3.0])
@pytest.mark.parametrize("kind", ["normal", "ties", "peaked"])
def test_guidance_is_that_of_transformers(kind: str, scale: float) -> None:
    own, other = rows(kind, 200, 30, 1), rows("normal", 200, 30, 2)
    processor = hf.UnbatchedClassifierFreeGuidanceLogitsProcessor(scale, model=None)
    processor.get_unconditional_logits = lambda _: other[:, None]
    wanted = processor(torch.zeros((200, 1), dtype=torch.int64), own.clone())
    assert torch.allclose(mixed(f"hf:top_k=0,guidance_scale={scale}", own, other), wanted, atol=1e-12)


def test_identities() -> None:
    own, other = rows("normal", 20, 30, 1), rows("normal", 20, 30, 2)
    ends = mixed("guidance=0", own, other), mixed("guidance=1.5", own, other)
    assert torch.allclose(ends[0], other.log_softmax(-1))
    assert torch.allclose(mixed("context_aware=0.5", own, other), ends[1])
    wanted = (1.5 * own - 0.5 * other).log_softmax(-1)  # on logits it is the same distribution
    assert torch.allclose(ends[1].log_softmax(-1), wanted)
    assert torch.equal(mixed("guidance=1", own, other), own)


def test_dola_contrasts_with_the_farthest_layer_and_masks_the_improbable() -> None:
    layers = rows("normal", 4, 12, 3)
    own = layers[-1:]
    p, early = own.softmax(-1)[0], layers[:3].softmax(-1)

    def divergence(one: torch.Tensor, other: torch.Tensor) -> float:
        middle = torch.distributions.Categorical((one + other) / 2)
        parts = [
            torch.distributions.kl_divergence(torch.distributions.Categorical(x), middle)
            for x in (one, other)
        ]
        return float(sum(parts) / 2)

    far = max((0, 1, 2), key=lambda index: divergence(p, early[index]))
    found = mixed("dola=[-1, 0, 1],dola.share=0.2", own, layers[None], "layers")[0]
    keep = p >= 0.2 * p.max()
    assert torch.equal(found > -torch.inf, keep)
    assert torch.allclose(found[keep], (p.log() - early[far].log())[keep])
    assert far in (0, 1, 2) and 1 <= int(keep.sum()) < 12


def guided(model: Any, ids: list[int], other: list[int], scale: float, tokens: int) -> list[int]:
    """The text that transformers itself writes greedily under guidance."""
    made = model.hf.generate(
        torch.tensor([ids]),
        guidance_scale=scale,
        negative_prompt_ids=torch.tensor([other]),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return made[0, len(ids) :].tolist()


def test_what_is_written_under_guidance_is_what_transformers_writes(llama: Any) -> None:
    spec = "guidance=2.5,greedy"
    options = TraceOptions(samplers=(spec,), generate=5, against=SECOND, tables=("walk", "sampling"))
    run = elimtool.trace(llama, PROMPT, options=options)
    ids, other = (llama.tokenizer.encode(text).ids for text in (PROMPT, SECOND))
    wanted = guided(llama, ids, other, 2.5, 5)
    assert run.table("walk")["token_id"].tolist() == wanted
    plain = elimtool.trace(
        llama, PROMPT, options=TraceOptions(samplers=("greedy",), generate=5, tables=("walk",))
    )
    assert plain.table("walk")["token_id"].tolist() != wanted, "guidance must change this text"
    first = run.table("sampling").iloc[0]
    assert first["stage"] == "guidance" and first["n_after"] == first["n_before"]
    assert run.manifest.config["against"] == SECOND


def test_targets_and_further_texts_are_under_guidance_too(llama: Any) -> None:
    """Token by token, each after both prompts: against Hugging Face's own outputs."""
    spec = "guidance=2.5"
    shared = {"samplers": (spec,), "against": SECOND, "lens": "raw", "tables": ("top_tokens",)}
    options = TraceOptions(through=(spec,), target_space="exact", **shared)
    followed = elimtool.trace(llama, PROMPT, targets=(" Paris",), options=options)
    options = TraceOptions(generate=2, watch=("eos",), risk=True, samples=2, **shared)
    written = elimtool.trace(llama, PROMPT, options=options)

    def guided_after(written: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            own, other = (
                llama.hf(input_ids=torch.tensor([[*llama.tokenizer.encode(text).ids, *written]])).logits[
                    0, -1
                ]
                for text in (PROMPT, SECOND)
            )
        own, other = own.double().log_softmax(-1), other.double().log_softmax(-1)
        return (other + 2.5 * (own - other)).softmax(-1)

    steps = followed.table("sequence_steps")
    assert len(steps) > 1
    for place, step in enumerate(steps.itertuples()):
        probs = guided_after(steps["token_id"][:place].tolist())
        assert step.prob == pytest.approx(float(probs[step.token_id]), rel=1e-3)
    (end,) = end_ids(llama)
    assert written.table("stops")["stop_by"][0] == pytest.approx(float(guided_after([])[end]), rel=1e-3)
    assert written.table("risk")["n_samples"].tolist() == [2]


@pytest.mark.parametrize("spec", ["contrastive=0.5", "contrastive=0.7,contrastive.share=0.02"])
@pytest.mark.parametrize("difference", ["false", "true"])
def test_contrastive_is_its_definition_and_masks_first(spec: str, difference: str) -> None:
    own, other = rows("normal", 20, 30, 1), rows("normal", 20, 30, 2)
    other[:, 4] = own[:, 4] = -torch.inf  # of two zeros there is no difference
    found = mixed(f"{spec},contrastive.difference={difference}", own, other, "amateur")
    beta, share = (0.5, 0.1) if spec.endswith("0.5") else (0.7, 0.02)
    p = own.softmax(-1)
    keep = p >= share * p.amax(-1, keepdim=True)
    assert torch.equal(found > -torch.inf, keep)
    weight = beta if difference == "true" else 1 + beta
    wanted = weight * p.log() - beta * other.log_softmax(-1)
    assert torch.allclose(found[keep], wanted[keep]) and not found.isnan().any()


def test_contrastive_identities() -> None:
    own, other = rows("normal", 20, 30, 1), rows("normal", 20, 30, 2)
    assert torch.equal(mixed("contrastive=0", own, other, "amateur"), own)
    best = mixed("contrastive=0.5,contrastive.share=1", own, other, "amateur") > -torch.inf
    assert torch.equal(best, own == own.amax(-1, keepdim=True)), "share 1 leaves the argmax"
    same = mixed("contrastive=3,contrastive.share=0", own, own, "amateur").softmax(-1)
    assert torch.allclose(same, own.softmax(-1)), "an amateur that is the model changes nothing"


@pytest.mark.parametrize(
    ("spec", "name"),
    [("guidance=1.5", "against"), ("context_aware=0.5", "against"), ("contrastive=0.5", "amateur")],
)
def test_a_row_tells_where_targets_stand_in_the_other_row(spec: str, name: str) -> None:
    own, other = rows("normal", 6, 30, 1), rows("ties", 6, 30, 2)
    targets = torch.tensor([[3, 7, 12, -1]]).expand(6, -1)
    past = [History(rows={name: row}) for row in other]
    chain = resolve(f"top_k=20,{spec},temperature=2")
    ledger = chain.run(own, targets, past)
    ranks, logprobs = ledger.records[1].others
    for row in range(6):
        for k, token in enumerate((3, 7, 12)):
            assert ranks[row, k] == 1 + int((other[row] > other[row, token]).sum())
            assert torch.allclose(logprobs[row, k], other[row].log_softmax(-1)[token])
    assert (ranks[:, 3] == 0).all() and bool(logprobs[:, 3].isnan().all())
    assert ledger.records[1].combines and not ledger.records[0].combines
    assert (ledger.records[0].others[0] == 0).all()


def test_tables_and_story_tell_the_other_row(llama: Any) -> None:
    from elimtool.report.facts import Probe, Tables
    from elimtool.report.figures.funnel import funnel
    from elimtool.report.ledger import ledger, ledgers
    from elimtool.report.screen import Screen

    options = TraceOptions(
        samplers=("guidance=2.5,top_k=5", "dola=[0],temperature=1"),
        against=SECOND,
        target_space="exact",
        tables=("sampling", "sampling_targets", "lens"),
        lens="raw",
    )
    run = elimtool.trace(llama, PROMPT, targets=(" Paris",), options=options)
    with torch.inference_mode():
        ids = torch.tensor([llama.tokenizer.encode(SECOND).ids])
        other = llama.hf(input_ids=ids).logits[0, -1].double().log_softmax(-1)
    fates = run.table("sampling_targets").set_index("stage")
    row = fates.loc["guidance"]
    assert row["other_logprob"] == pytest.approx(float(other[row["token_id"]]), abs=1e-4)
    assert row["other_rank"] == 1 + int((other > other[row["token_id"]]).sum())
    early = run.table("lens").query("layer == 0").iloc[0]
    assert fates.loc["dola", "other_rank"] == early["rank"]
    assert fates.loc[["top_k"], "other_rank"].isna().all()
    tables = Tables(run)
    (prompt,) = tables.arrow("prompts").to_pylist()
    probe = Probe(tables, prompt, run.table("lens")["position"].iloc[0])
    told = " ".join("\n".join(map(str, ledger(ledgers(probe), Screen(100)))).split())
    assert f"rank {row['other_rank']:,} (p " in told and "after the second prompt, " in told
    assert "at the earlier layer" in told and " bits here" in told
    notes = [note for stage in funnel(probe)[0].chains[0].stages for note in stage.notes]
    assert any("after the second prompt" in note for note in notes)


@pytest.fixture(scope="module")
def amateur(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return save("gpt2", tmp_path_factory.mktemp("amateur"), tokenizer)


def story_of(run: Any) -> str:
    """The detailed story as text."""
    import io

    from rich.console import Console

    from elimtool.report.trace.story import print_story

    console = Console(width=140, file=io.StringIO(), force_terminal=False)
    print_story(run, console, verbose=True)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def written_by(model: Any, tokens: int, scores: Any) -> list[int]:
    """Write greedily by the scores of the model's tokens so far."""
    ids = list(model.tokenizer.encode(PROMPT).ids)
    start = len(ids)
    for _ in range(tokens):
        ids.append(int(scores(torch.tensor([ids])).argmax()))
    return ids[start:]


def test_what_is_written_against_an_amateur_is_that_of_both_models(llama: Any, amateur: Any) -> None:
    """Token by token from whole passes of both models; the amateur must change the text."""
    weaker = load_model(str(amateur))

    def contrasted(ids: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            own, other = (
                one.hf(input_ids=ids).logits[0, -1].double().log_softmax(-1) for one in (llama, weaker)
            )
        return (3 * own - 2 * other).masked_fill(own < own.max() + log(0.05), -torch.inf)

    options = TraceOptions(
        samplers=("contrastive=2,contrastive.share=0.05,greedy",),
        amateur=str(amateur),
        generate=5,
        tables=("walk", "sampling", "sampling_targets"),
    )
    run = elimtool.trace(llama, PROMPT, options=options)
    assert f"to the amateur {weaker.name}" in " ".join(story_of(run).split())
    wanted = written_by(llama, 5, contrasted)
    assert run.table("walk")["token_id"].tolist() == wanted
    assert wanted != written_by(llama, 5, lambda ids: llama.hf(input_ids=ids).logits[0, -1])
    assert run.manifest.config["amateur"]["weights_sha256"] == weaker.hashes()["weights_sha256"]


def test_an_amateur_of_another_vocabulary_is_refused(llama: Any, tmp_path: Path) -> None:
    from tests.conftest import byte_tokenizer

    other = byte_tokenizer()
    other.add_tokens(["<|more|>"])
    place = save("gpt2", tmp_path, other)
    with pytest.raises(ElimError, match="another vocabulary"):
        elimtool.trace(llama, PROMPT, options=TraceOptions(samplers=("hf",), amateur=str(place)))


def test_dola_writes_by_the_layers_of_whole_passes(llama: Any) -> None:
    """Hidden states of Hugging Face, read by its own final norm and head."""

    def contrasted(ids: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            found = llama.hf(input_ids=ids, output_hidden_states=True)
            early = llama.readout(found.hidden_states[1][0, -1:]).double().log_softmax(-1)[0]
        own = found.logits[0, -1].double().log_softmax(-1)
        return (own - early).masked_fill(own < own.max() + log(0.1), -torch.inf)

    options = TraceOptions(
        samplers=("dola=[0],greedy",), generate=5, lens="raw", tables=("walk", "walk_stages")
    )
    run = elimtool.trace(llama, PROMPT, options=options)
    wanted = written_by(llama, 5, contrasted)
    assert run.table("walk")["token_id"].tolist() == wanted
    assert wanted != written_by(llama, 5, lambda ids: llama.hf(input_ids=ids).logits[0, -1])


def test_layers_are_those_of_the_lens(llama: Any) -> None:
    options = TraceOptions(samplers=("dola=[-1, 0]",), tables=("sampling", "lens"), lens="raw")
    run = elimtool.trace(llama, PROMPT, options=options)
    assert run.table("sampling")["notes"].iloc[0][0].startswith("contrasted with layer ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samplers": ("guidance=2",)}, "needs other logits beside the model's own .*against"),
        ({"samplers": ("contrastive=0.5",)}, "needs other logits beside the model's own .*amateur"),
        ({"samplers": ("dola=[77]",)}, "layer 77 is not before the last"),
        ({"against": ""}, "`against` must be a prompt"),
        ({"against": "x", "position": "all"}, "`against` is read after the whole prompt only"),
    ],
)
def test_what_is_missing_is_said(llama: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ElimError, match=said.partition(" .*")[0]) as error:
        elimtool.trace(llama, PROMPT, options=TraceOptions(**options))
    assert said.rpartition(".*")[2] in f"{error.value.message} {error.value.hint}"

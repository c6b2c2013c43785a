"""Checks of written text: what is written, how often, and how probable it is, against Hugging Face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool.analysis.check.findings import Report
from elimtool.analysis.check.read import read_checks
from elimtool.engine.forced import probability_of
from elimtool.errors import ElimError
from elimtool.prompts.prompt import Prompt
from elimtool.samplers import resolve

TEXT = "The capital of France is"


def judged(
    llama: Any, folder: Path, *checks: dict[str, Any], samplers: tuple[str, ...] = ("greedy",)
) -> Report:
    file = {
        "version": 1,
        "prompts": [{"id": "fr", "prompt": TEXT}],
        "samplers": list(samplers),
        "checks": [{"id": f"c{number}", **one} for number, one in enumerate(checks)],
    }
    (folder / "checks.yaml").write_text(json.dumps(file))
    return elimtool.run_checks(folder / "checks.yaml", model=llama)


def greedy(llama: Any, tokens: int) -> str:
    """What Hugging Face itself writes."""
    ids = torch.tensor([llama.encode(Prompt(text=TEXT)).token_ids])
    found = llama.hf.generate(ids, do_sample=False, max_new_tokens=tokens, pad_token_id=0)
    written: str = llama.tokenizer.backend.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
    return written


def test_what_is_written_is_what_hugging_face_writes(llama: Any, tmp_path: Path) -> None:
    wanted = greedy(llama, 6)
    report = judged(
        llama,
        tmp_path,
        {"metric": "written", "generate": 6, "is": f" {wanted} "},
        {"metric": "written", "generate": 6, "contains": [wanted[0], wanted[1:3]]},
        {"metric": "written", "generate": 6, "matches": "(?s)^.{2,}$"},
        {"metric": "written", "generate": 2, "is": wanted},
        {"metric": "written", "generate": 6, "contains": "no such text"},
        {"metric": "written", "generate": 6, "matches": "^no"},
    )
    assert [one.status for one in report.results] == ["passed"] * 3 + ["failed"] * 3
    told = report.results[4].findings[0].message
    assert "expected a text that contains 'no such text'" in told and "chain greedy" in told


def test_probability_is_the_product_of_hugging_faces_softmax(llama: Any, tmp_path: Path) -> None:
    one = llama.encode(Prompt(text=TEXT, targets=("Rome",)), target_space="exact")
    ids = one.targets[0].token_ids
    plain = llama.encode(Prompt(text=TEXT)).token_ids
    with torch.no_grad():
        logits = llama.hf(torch.tensor([[*plain, *ids]])).logits[0, len(plain) - 1 : -1].double()
    each = logits.softmax(-1)[range(len(ids)), list(ids)]
    sharp = (logits / 0.5).softmax(-1)[range(len(ids)), list(ids)]
    assert len(ids) > 1
    report = judged(
        llama,
        tmp_path,
        {"metric": "written_prob", "text": "Rome", "chain": "temperature=1", "min": 0},
        {"metric": "written_prob", "text": "Rome", "chain": "temperature=0.5", "min": 0},
        {"metric": "written_prob", "text": "Rome", "chain": "greedy", "max": 0},
        samplers=("temperature=1", "temperature=0.5", "greedy"),
    )
    seen = [one.findings[0].seen for one in report.results]
    assert seen[2] == 0
    through = probability_of(llama, llama.encode(Prompt(text=TEXT)), resolve("temperature=1"), ids)
    assert through == pytest.approx((float(each.prod()), float(each.prod())), rel=1e-4)
    half = probability_of(llama, llama.encode(Prompt(text=TEXT)), resolve("temperature=0.5"), ids)
    assert half[0] == pytest.approx(float(sharp.prod()), rel=1e-4)


def test_chance_is_averaged_over(llama: Any, tmp_path: Path) -> None:
    chain = tmp_path / "chain.yaml"
    # where it fires, all tokens but the least probable one go
    chain.write_text("stages: [{stage: xtc, probability: 0.3, threshold: 0.0}]\n")
    one = llama.encode(Prompt(text=TEXT))
    with torch.no_grad():
        logits = llama.hf(torch.tensor([one.token_ids])).logits[0, -1].double()
    probs, ids = logits.softmax(-1).sort(descending=True)
    for place, expected in ((0, 0.7 * float(probs[0])), (-1, 0.7 * float(probs[-1]) + 0.3)):
        found, _ = probability_of(llama, one, resolve(str(chain)), [int(ids[place])])
        assert found == pytest.approx(expected, rel=1e-4)


def test_share_of_seeds_is_the_probability(llama: Any, tmp_path: Path) -> None:
    one = llama.encode(Prompt(text=TEXT))
    best = int(llama.hf(torch.tensor([one.token_ids])).logits[0, -1].argmax())
    text = llama.tokenizer.spell(best).decode("utf-8", "replace")
    chain = "temperature=0.2"
    prob, _ = probability_of(llama, one, resolve(chain), [best])
    check = {
        "metric": "written",
        "generate": 1,
        "seeds": 40,
        "agg": "share",
        "where": {"is": text},
        "min": 0,
    }
    report = judged(llama, tmp_path, check, samplers=(chain,))
    seen = report.results[0].findings[0].seen
    assert isinstance(seen, float)
    assert abs(seen - prob) < 4 * (prob * (1 - prob) / 40) ** 0.5 + 1e-9
    assert 0 < seen < 1


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ({"metric": "written", "contains": "x"}, "needs 'generate'"),
        ({"metric": "written_prob", "min": 0}, "needs 'text'"),
        ({"metric": "entropy", "generate": 3, "min": 0}, "'generate' is for metric written"),
        ({"metric": "entropy", "text": "x", "min": 0}, "'text' is for metric written_prob"),
        ({"metric": "written", "generate": 3}, "expects nothing"),
        ({"metric": "written", "generate": 3, "seeds": 4, "contains": "x"}, "several texts a prompt"),
        ({"metric": "written", "generate": 3, "matches": "("}, "not a regular expression"),
        ({"metric": "written", "generate": 3, "agg": "share", "min": 1}, "which texts count"),
        ({"metric": "entropy", "contains": "x", "min": 0}, "'contains' is for texts"),
        ({"metric": "written", "generate": 0, "contains": "x"}, "generate"),
    ],
)
def test_what_does_not_go_together_is_refused(check: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text(json.dumps({"version": 1, "samplers": ["hf"], "checks": [{"id": "a", **check}]}))
    with pytest.raises(ElimError, match=says):
        read_checks(path)


def test_a_chain_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    check = {"id": "a", "metric": "written", "generate": 3, "contains": "x"}
    path.write_text(json.dumps({"version": 1, "samplers": ["hf", "vllm"], "checks": [check]}))
    with pytest.raises(ElimError, match="names no chain") as refused:
        read_checks(path)
    assert refused.value.hint == "add chain: hf, vllm"


def test_a_text_that_outgrows_the_context_is_null(llama: Any, tmp_path: Path) -> None:
    report = judged(llama, tmp_path, {"metric": "written", "generate": 5000, "contains": "x"})
    (found,) = report.results[0].findings
    assert (found.status, found.seen) == ("failed", None)
    assert "would not fit into the model's context" in found.message

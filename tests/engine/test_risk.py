"""Risk scores of a small model against Hugging Face's own attention, logits and hidden states."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool.analysis.risk.answers import clusters, normal
from elimtool.errors import ElimError
from elimtool.model.entailment import Entailment
from elimtool.prompts.design import Design

PROMPT = "The capital of France is"


def traced(model: Any, prompts: Any, chain: str = "temperature=1", **options: Any) -> elimtool.Run:
    asked = {
        "generate": 4,
        "samplers": (chain,),
        "risk": True,
        "samples": 3,
        "seed": 5,
        "tables": ("risk", "walk"),
    }
    return elimtool.trace(model, prompts, options=elimtool.TraceOptions(**{**asked, **options}))


def test_scores_are_those_of_the_formulas_on_plain_transformers(llama: Any, llama_directory: Path) -> None:
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(llama_directory, attn_implementation="eager")

    def forced(ids: list[int]) -> Any:
        with torch.inference_mode():
            return plain(torch.tensor([ids]), output_attentions=True, output_hidden_states=True)

    run = traced(llama, PROMPT)
    (row,) = run.arrow("risk").to_pylist()
    prompt = run.arrow("prompts").to_pylist()[0]["token_ids"]
    written = run.table("walk")["token_id"].tolist()
    written = written[: row["n_answer_tokens"]]
    assert len(written) == 4, "the tiny model ends its text elsewhere; choose another seed"
    seen = forced([*prompt, *written])
    n, logprobs = len(prompt), seen.logits[0].double().log_softmax(-1)
    own = [float(logprobs[n - 1 + j, token]) for j, token in enumerate(written)]
    assert row["mean_logprob"] == pytest.approx(np.mean(own), abs=1e-5)

    ratios, layers = [], []
    depth = len(seen.attentions)
    for index, attention in enumerate(seen.attentions):
        weights = attention[0].double()
        for head in weights:
            for j in range(4):
                query = head[n - 1 + j]
                context, new = query[: n - 1].mean(), query[n - 1 : n + j].mean()
                ratios.append(float(context / (context + new)))
        if depth // 3 <= index < ceil(2 * depth / 3):
            before = [[float(head[n + j, n + j - 1]) for j in (1, 2, 3)] for head in weights]
            best = max(before, key=np.mean)
            c = [np.exp(own[0])]
            for j in (1, 2, 3):
                c.append(0.2 * np.exp(own[j]) + 0.8 * best[j - 1] * c[-1])
            layers.append(-np.mean(np.log(c)))
    assert row["lookback"] == pytest.approx(np.mean(ratios), abs=1e-5)
    assert row["rauq"] == pytest.approx(max(layers), abs=1e-5)

    others = []
    for k in (1, 2, 3):
        options = elimtool.TraceOptions(generate=4, samplers=("temperature=1",), seed=5 + k, tables=("walk",))
        others.append(elimtool.trace(llama, PROMPT, options=options).table("walk")["token_id"].tolist())
    ends = {llama.tokenizer.backend.eos_token_id}
    states = []
    for tokens in others:
        ids = [*prompt, *(token for token in tokens if token not in ends)]
        states.append(forced(ids).hidden_states[depth // 2 + 1][0, -1].double().numpy())
    states = np.stack(states)
    kept = np.delete(states, np.unique(np.abs(states).argmax(1)), 1)
    centred = kept - kept.mean(1, keepdims=True)
    expected = np.linalg.slogdet(centred @ centred.T + 0.001 * np.eye(3))[1] / 3
    assert row["eigenscore"] == pytest.approx(expected, abs=1e-3)


def test_equal_samples_have_no_entropy(llama: Any) -> None:
    (row,) = traced(llama, PROMPT, "top_k=1").arrow("risk").to_pylist()
    assert (row["semantic_entropy"], row["n_clusters"], row["n_samples"]) == (0.0, 1, 3)
    assert row["clustering"] == "exact" and row["correct"] is None


def test_what_is_right_is_told_by_targets_and_aliases(llama: Any) -> None:
    first = "".join(traced(llama, PROMPT, "top_k=1", generate=1).table("walk")["token"])
    assert normal(first)
    prompts = [
        elimtool.Prompt(text=PROMPT, targets=(f"{first} Lyon",), id="wrong"),
        elimtool.Prompt(text=PROMPT, targets=("Lyon", first), id="right"),
        elimtool.Prompt(text=PROMPT, id="alias", design=Design(answers=((first, "x"),))),
    ]
    found = traced(llama, prompts, "top_k=1", generate=1, target_space="exact")
    rows = {row["prompt_id"]: row for row in found.arrow("risk").to_pylist()}
    assert [rows[name]["correct"] for name in ("right", "wrong", "alias")] == [True, False, True]
    assert rows["alias"]["clustering"] == "aliases"


def test_targets_are_known_where_written_positions_are_read(llama: Any) -> None:
    asked = elimtool.Prompt(text=PROMPT, targets=("Lyon",))
    (row,) = traced(llama, asked, position="written", tables=("risk",)).arrow("risk").to_pylist()
    assert row["correct"] is False and row["n_answer_tokens"] == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [({"risk": True}, "`risk` needs an answer"), ({"risk": True, "generate": 2, "samples": 1}, "`samples`")],
)
def test_what_it_needs_is_said(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ElimError, match=told):
        elimtool.TraceOptions(**options)


def test_it_is_measured_only_where_it_is_asked_for(llama: Any) -> None:
    run = elimtool.trace(llama, PROMPT, options=elimtool.TraceOptions(generate=2, samplers=("hf",)))
    assert "walk" in run.tables and "risk" not in run.tables
    with pytest.raises(ElimError, match="table risk needs `risk`"):
        elimtool.TraceOptions(generate=2, tables=("risk",))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A classifier that calls everything entailment."""
    from transformers import BertConfig, BertForSequenceClassification

    labels = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    config = BertConfig(
        vocab_size=300, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=256, id2label=labels, label2id={one: index for index, one in labels.items()},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    folder = tmp_path_factory.mktemp("classifier")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_samples_that_entail_each_other_are_one_cluster(llama: Any, classifier: Path) -> None:
    (plain,) = traced(llama, PROMPT).arrow("risk").to_pylist()
    (row,) = traced(llama, PROMPT, nli=str(classifier)).arrow("risk").to_pylist()
    assert (plain["n_clusters"], plain["clustering"]) == (3, "exact")
    assert (row["semantic_entropy"], row["n_clusters"], row["clustering"]) == (0.0, 1, "nli")
    names = {"semantic_entropy", "n_clusters", "clustering"}
    assert all(row[name] == plain[name] for name in row if name not in names)


def test_clusters_go_by_their_first_member_and_aliases_first() -> None:
    def near(one: str, other: str) -> bool:
        return abs(ord(one[0]) - ord(other[0])) <= 1

    assert clusters(["a", "b", "c", "c x", "a", "Paris"], [["Paris"]], near) == [0, 0, 1, 1, 0, 2]
    assert clusters(["a", "A.", "b"], []) == [0, 0, 1]


def test_what_is_no_model_of_entailment_is_refused(llama: Any, llama_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ElimError, match="has no config"):
        Entailment(str(tmp_path))
    with pytest.raises(ElimError, match="`nli` says which samples"):
        elimtool.TraceOptions(generate=2, nli="x")
    with pytest.raises(ElimError, match="is not a model of entailment"):
        traced(llama, PROMPT, nli=str(llama_directory))

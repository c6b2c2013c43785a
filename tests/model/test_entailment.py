"""Classifiers of entailment of three real classes, with random weights and labels in any order and case."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel

from elimtool.errors import ElimError
from elimtool.model.entailment import Entailment

LETTERS = list(string.ascii_lowercase)
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def bert() -> tuple[Any, Any, dict[str, Any]]:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{one}" for one in LETTERS), "."]
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    return transformers.BertForSequenceClassification, tokenizer, {"max_position_embeddings": 24}


def roberta() -> tuple[Any, Any, dict[str, Any]]:
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    tokenizer = transformers.RobertaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    places = {"max_position_embeddings": 26, "pad_token_id": 1, "type_vocab_size": 1}
    return transformers.RobertaForSequenceClassification, tokenizer, places


def deberta() -> tuple[Any, Any, dict[str, Any]]:
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "\u2581", *LETTERS, "."]
    tokenizer = transformers.DebertaV2Tokenizer(vocab=[(one, -1.0) for one in pieces], unk_id=3)
    relative = {"relative_attention": True, "pos_att_type": "p2c|c2p", "position_biased_input": False}
    more = {"max_position_embeddings": 24, "pooler_hidden_size": 16, "type_vocab_size": 0}
    return transformers.DebertaV2ForSequenceClassification, tokenizer, {**relative, **more}


ORDERS = {
    "bert": (bert, ["entailment", "neutral", "contradiction"], 0),
    "roberta": (roberta, ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], 2),
    "deberta-v2": (deberta, ["contradiction", "entailment", "neutral"], 1),
    "two labels": (deberta, ["Entailment", "not_entailment"], 0),
}


def made(folder: Path, build: Callable[[], tuple[Any, Any, dict[str, Any]]], labels: list[str]) -> Any:
    """Write a classifier with random weights, as its makers would, and return the model."""
    kind, tokenizer, more = build()
    names = {"id2label": dict(enumerate(labels)), "label2id": {one: i for i, one in enumerate(labels)}}
    torch.manual_seed(0)
    model = kind(kind.config_class(vocab_size=len(tokenizer), **{**SMALL, **more, **names})).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def leant(folder: Path, head: str, label: int, towards: float) -> None:
    """Add to the score of a label, in the file."""
    tensors = load_file(folder / "model.safetensors")
    tensors[head][label] += towards
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("which", ORDERS)
def test_entailment_is_found_by_its_name_wherever_it_stands(which: str, tmp_path: Path) -> None:
    build, labels, place = ORDERS[which]
    model = made(tmp_path, build, labels)
    judge = Entailment(str(tmp_path))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for one, other in (("a cat", "an animal"), ("abc", "xyz"), ("to be.", "to be.")):
        with torch.inference_mode():
            best = int(model(**tokenizer(one, other, return_tensors="pt")).logits.argmax())
        assert judge.follows(one, other) == (best == place)
    head = "classifier.out_proj.bias" if build is roberta else "classifier.bias"
    for label in range(len(labels)):
        leant(tmp_path, head, label, 50.0 * (label + 1))
        assert Entailment(str(tmp_path)).same("abc", "xyz") == (label == place)


@pytest.mark.parametrize("build", [bert, roberta, deberta])
def test_texts_beyond_the_positions_are_cut(build: Any, tmp_path: Path) -> None:
    made(tmp_path, build, ["entailment", "neutral", "contradiction"])
    assert Entailment(str(tmp_path)).follows("abc " * 50, "xyz " * 50) in (True, False)


@pytest.mark.parametrize(
    ("labels", "told", "hint"),
    [
        (["LABEL_0", "LABEL_1", "LABEL_2"], "none of its labels is entailment", "`id2label`"),
        (["positive", "negative"], "they are 'positive', 'negative'", "deberta-base-mnli"),
        (["entailment", "entails", "neutral"], "several labels say entailment", "deberta-base-mnli"),
    ],
)
def test_labels_that_do_not_say_are_refused(labels: list[str], told: str, hint: str, tmp_path: Path) -> None:
    made(tmp_path, deberta, labels)
    with pytest.raises(ElimError) as refused:
        Entailment(str(tmp_path))
    assert told in refused.value.message and hint in refused.value.hint


def test_other_classes_and_damage_are_refused(tmp_path: Path, llama_directory: Path) -> None:
    with pytest.raises(ElimError, match="weights are of no classifier"):
        Entailment(str(llama_directory))
    speech = tmp_path / "other"
    transformers.WhisperConfig().save_pretrained(speech)
    with pytest.raises(ElimError, match="cannot load `nli`"):
        Entailment(str(speech))
    whole = tmp_path / "whole"
    made(whole, bert, ["entailment", "neutral"])
    (whole / "tokenizer.json").unlink()
    (whole / "tokenizer_config.json").unlink()
    with pytest.raises(ElimError, match="its tokenizer knows no word"):
        Entailment(str(whole))
    made(whole, bert, ["entailment", "neutral"])
    (whole / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ElimError, match="cannot load `nli`"):
        Entailment(str(whole))

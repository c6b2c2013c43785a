"""Ask a classifier of natural language inference whether one text follows from another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from elimtool.errors import ElimError
from elimtool.model.quiet import quiet

LABEL = "entail"
"""Beginning of the label that says so, in any case."""
WORDS = "a red cat is in the house"
"""Words of which a tokenizer of English knows some."""
OFFSET = 2
"""Positions that some classes, such as RoBERTa, leave unused at the beginning."""


class Entailment:
    """A classifier of natural language inference.

    Args:
        name: Its local folder, as Hugging Face writes one.

    Raises:
        ElimError: There is none, it cannot be loaded, or none of its labels is of entailment.
    """

    def __init__(self, name: str) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        hint = "name a local folder of a model such as microsoft/deberta-base-mnli"
        if not (Path(name) / "config.json").is_file():
            raise ElimError(f"`nli` {name} is not the folder of a model: it has no config.json", hint)
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(name, local_files_only=True)
                self._model, info = AutoModelForSequenceClassification.from_pretrained(
                    name, local_files_only=True, output_loading_info=True
                )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise ElimError(f"cannot load `nli` {name}: {str(error).splitlines()[0]}", hint) from error
        if missing := sorted(info["missing_keys"]):
            told = f"its weights are of no classifier ({missing[0]} is missing)"
            raise ElimError(f"`nli` {name} is not a model of entailment: {told}", hint)
        known = set(self._tokenizer(WORDS, add_special_tokens=False)["input_ids"])
        if known <= {self._tokenizer.unk_token_id}:  # transformers makes an empty one where files are missing
            raise ElimError(f"`nli` {name}: its tokenizer knows no word, as if its files were missing", hint)
        self._label = entailment_label(self._model.config.id2label, name, hint)
        places = getattr(self._model.config, "max_position_embeddings", None)
        own = self._tokenizer.model_max_length
        self._longest = own if not places else min(own, places - OFFSET)

    def follows(self, premise: str, hypothesis: str) -> bool:
        """Return whether entailment is the most probable label; texts that are too long are cut."""
        given = self._tokenizer(
            premise, hypothesis, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        with torch.inference_mode():
            return int(self._model(**given).logits[0].argmax()) == self._label

    def same(self, one: str, other: str) -> bool:
        """Return whether each of two texts follows from the other."""
        return self.follows(one, other) and self.follows(other, one)


def entailment_label(labels: Mapping[Any, Any], name: str, hint: str) -> int:
    """Find the label that says that one text follows from another, whatever its place and case.

    Args:
        labels: Names of labels by number, as ``id2label`` of a configuration.
        name: Of the model, for messages.
        hint: What to do.

    Raises:
        ElimError: None says so, or several do.
    """
    named = {int(index): str(label) for index, label in labels.items()}
    found = [index for index, label in named.items() if label.casefold().startswith(LABEL)]
    if len(found) == 1:
        return found[0]
    told = ", ".join(f"'{label}'" for label in named.values())
    if found:
        raise ElimError(f"`nli` {name}: several labels say entailment: {told}", hint)
    said = f"none of its labels is entailment, they are {told}"
    if all(label.startswith("LABEL_") for label in named.values()):
        hint = "if you know which one is entailment, name the labels in `id2label` of its config.json"
    raise ElimError(f"`nli` {name} is not a model of entailment: {said}", hint)

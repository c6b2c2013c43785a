"""Ask a classifier of natural language inference whether one text follows from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from elimtool.errors import ElimError
from elimtool.model.quiet import quiet

LABEL = "entail"
"""Beginning of the label that says so, in any case."""


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
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ElimError(f"cannot load `nli` {name}: {str(error).splitlines()[0]}", hint) from error
        labels = {int(index): str(label) for index, label in self._model.config.id2label.items()}
        found = [index for index, label in labels.items() if label.casefold().startswith(LABEL)]
        if len(found) != 1 or info["missing_keys"]:
            told = ", ".join(labels.values())
            raise ElimError(f"`nli` {name} is not a model of entailment: its labels are {told}", hint)
        self._label = found[0]

    def follows(self, premise: str, hypothesis: str) -> bool:
        """Return whether entailment is the most probable label; texts that are too long are cut."""
        given = self._tokenizer(premise, hypothesis, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return int(self._model(**given).logits[0].argmax()) == self._label

    def same(self, one: str, other: str) -> bool:
        """Return whether each of two texts follows from the other."""
        return self.follows(one, other) and self.follows(other, one)

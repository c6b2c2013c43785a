"""Run a model token by token with a key-value cache: each step costs one token, however long the text."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.numerics.transfer import sent

if TYPE_CHECKING:
    from elimtool.model.model import Model

AT_ONCE = 4096
"""Keys of one pass over endings that are only looked at: each takes the keys of its whole text."""


class Decoder:
    """The next-token logits of a growing text.

    Args:
        model: A model of Hugging Face, which keeps its keys and values.

    Raises:
        ElimError: The model was made in memory and has no cache.
    """

    def __init__(self, model: Model) -> None:
        if not hasattr(model.hf, "base_model_prefix"):
            raise ElimError(f"{model.name} cannot generate", "load it from a directory or a hub id")
        self.model = model
        self.length = 0
        self._cache: Any = None

    def read(self, ids: Sequence[int]) -> Float64[Tensor, "1 vocab"]:
        """Append tokens to the text and return the logits after the last of them.

        Args:
            ids: First the whole prompt, then one token a step.

        Raises:
            ElimError: The text has grown past the model's context, or the logits are not finite.
        """
        return self.read_rows([ids])

    def read_rows(self, rows: Sequence[Sequence[int]]) -> Float64[Tensor, "rows vocab"]:
        """Append tokens to several texts of one length, and return the logits after the last of each.

        Args:
            rows: First whole prompts, then a token for each text a step; always as many.

        Raises:
            ElimError: As for ``read``.
        """
        logits, self._cache = self._run(rows, self._cache)
        self.length += len(rows[0])
        return logits

    def follow(self, parents: Sequence[int]) -> None:
        """Go on with some of the texts, each as often as it is named.

        Args:
            parents: Places of the texts, from 0.

        Raises:
            ElimError: The model's keys and values cannot be put in another order.
        """
        self._reorder(self._cache, parents)

    def look(self, parents: Sequence[int], tokens: Sequence[int]) -> Float64[Tensor, "endings vocab"]:
        """Return the logits after single tokens behind the texts, which stay as they are.

        Args:
            parents: Place of the text that each token is put behind.
            tokens: The tokens.

        Raises:
            ElimError: As for ``read`` and ``follow``.
        """
        found = []
        at_once = max(1, AT_ONCE // (self.length + 1))
        for begin in range(0, len(tokens), at_once):
            cache = deepcopy(self._cache)
            self._reorder(cache, parents[begin : begin + at_once])
            found.append(self._run([[one] for one in tokens[begin : begin + at_once]], cache)[0])
        return torch.cat(found)

    def _reorder(self, cache: Any, parents: Sequence[int]) -> None:
        reorder = getattr(cache, "reorder_cache", None)
        if reorder is None:
            raise ElimError(f"{self.model.name} keeps states that cannot branch: no beams with it")
        with torch.inference_mode():
            reorder(sent(torch.tensor(list(parents)), self.model.device))

    def _run(self, rows: Sequence[Sequence[int]], cache: Any) -> tuple[Float64[Tensor, "rows vocab"], Any]:
        """Run tokens behind what a cache holds; return the last logits, and the cache with the tokens."""
        length = self.length + len(rows[0])
        context = self.model.context
        if context is not None and length > context:
            raise ElimError(
                f"the text has grown to {length:,} tokens, but the model's context is {context:,}",
                "generate fewer tokens",
            )
        with torch.inference_mode():
            found = self.model.call(
                sent(torch.tensor([list(ids) for ids in rows]), self.model.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,  # a long prompt's logits would take more memory than the model
            )
        logits: Tensor = found.logits[:, -1].double().cpu()  # sampler chains work in float64 on the CPU
        if bool(logits.isnan().any()):
            raise ElimError(f"{self.model.name}: the logits after token {length} are not finite")
        return logits, found.past_key_values


class TextTree:
    """The next-token logits after a prompt and after texts that branch from it, for one token each.

    Args:
        model: A model of Hugging Face, which keeps its keys and values.
        prompt: Token ids of the prompt.
    """

    def __init__(self, model: Model, prompt: Sequence[int]) -> None:
        self._decoder = Decoder(model)
        self._prompt = tuple(prompt)
        self._places: dict[tuple[int, ...], int] = {}

    def read(self, texts: Sequence[tuple[int, ...]]) -> Float64[Tensor, "texts vocab"]:
        """Return the logits after the prompt and each text.

        Args:
            texts: First the empty text by itself; then texts that differ, each of them one of those read last
                and a token more.

        Raises:
            ElimError: As for ``Decoder.read``.
        """
        if self._places:
            self._decoder.follow([self._places[text[:-1]] for text in texts])
        rows = [text[-1:] or self._prompt for text in texts]
        self._places = {text: place for place, text in enumerate(texts)}
        return self._decoder.read_rows(rows)


def end_ids(model: Model) -> frozenset[int]:
    """Tokens that end a text, by the model's generation settings or else its tokenizer."""
    settings = getattr(model.hf, "generation_config", None)
    ends = getattr(settings, "eos_token_id", None)
    if ends is None:
        ends = model.tokenizer.backend.eos_token_id
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

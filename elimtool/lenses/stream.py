"""Run text through a model for the residuals of every layer, a few windows at a time."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.lenses.corpus import Document
from elimtool.lenses.regime import WINDOW
from elimtool.model.model import Model
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.prompts.prompt import Prompt

SHORTEST = WINDOW + 2
"""Fewest tokens of a window: the first, which is dropped, the second, which no kept row predicts, and a
regime's ``WINDOW``."""

READOUT_BYTES = 64 * 2**20
"""Bytes of logits held at a time."""

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Streamed:
    """Residuals of some windows at all positions but the first.

    Attributes:
        first: Index of the first of these windows among all windows.
        windows: Token ids of each window.
        residuals: Layer -1 first; rows by window, then by position from 1.
    """

    first: int
    windows: tuple[Ids, ...]
    residuals: Float[Tensor, "layers rows width"]

    @property
    def lengths(self) -> list[int]:
        """Rows of each window."""
        return [len(ids) - 1 for ids in self.windows]


def cut_windows(model: Model, documents: Sequence[Document], window: int, limit: int | None) -> list[Ids]:
    """Tokenise documents and cut each into windows; the rest of one is used if it is long enough.

    Every window begins as a prompt does, with the tokens that the tokenizer puts before a text (BOS).

    Args:
        model: The model whose tokenizer is used.
        documents: Texts; no window spans two of them.
        window: Tokens in a window at most.
        limit: Tokens to cut in all, at most.

    Raises:
        ElimError: ``window`` does not suit the model, or the texts are too short for a single window.
    """
    upper = f"to {model.context}" if model.context else "or more"
    if window < SHORTEST or (model.context is not None and window > model.context):
        raise ElimError(f"`window` must be {SHORTEST} {upper} tokens, got {window}")
    found: list[Ids] = []
    left = limit
    for document in documents:
        before, body = _tokens(model, document.text)
        step = window - len(before)
        for start in range(0, len(body), step):
            ids = (before + body[start : start + step])[:left]
            if len(ids) < SHORTEST:
                continue
            found.append(ids)
            left = None if left is None else left - len(ids)
    if not found:
        raise ElimError(
            f"the text is too short: it gives no window of {SHORTEST} tokens",
            "give more text, or a larger `tokens`",
        )
    return found


def _tokens(model: Model, text: str) -> tuple[Ids, Ids]:
    """Return the tokens that the tokenizer puts before a text, and the text's own."""
    whole = model.tokenizer.encode(text).ids
    body = model.tokenizer.encode(text, special=False).ids
    return whole[: len(whole) - len(body)], body


def text_sha256(windows: Sequence[Ids]) -> str:
    """Hash the token ids of all windows and where they end."""
    digest = hashlib.sha256()
    for ids in windows:  # each with its length before it, so that other borders give another digest
        digest.update(array("q", (len(ids), *ids)).tobytes())
    return digest.hexdigest()


def stream(model: Model, windows: Sequence[Ids], batch_size: int) -> Iterator[Streamed]:
    """Run windows through the model, ``batch_size`` at a time."""
    for first in range(0, len(windows), batch_size):
        some = tuple(windows[first : first + batch_size])
        batch = Batch.of([encoded_window(ids) for ids in some], model.device)
        kept: list[Tensor] = []

        def observe(view: LayerView, batch: Batch = batch, kept: list[Tensor] = kept) -> None:
            kept.append(view.residual[batch.rows])

        model.stream(batch, (), observe)
        yield Streamed(first, some, torch.stack(kept))


def read_out(model: Model, residual: Float[Tensor, "rows width"]) -> Iterator[tuple[slice, Tensor]]:
    """Yield log-probabilities (nats) of last-layer residuals, as many rows at a time as fit in memory."""
    rows = max(1, READOUT_BYTES // (model.vocab * 4))
    for start in range(0, len(residual), rows):
        part = slice(start, min(start + rows, len(residual)))
        yield part, torch.log_softmax(model.readout(residual[part]), -1)


def encoded_window(ids: Ids) -> Encoded:
    """Wrap a window for ``Model.stream``, with every position but the first probed."""
    return Encoded(Prompt(text="-"), "", "", ids, (), 0, (), (), tuple(range(1, len(ids))), ())

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
"""Tokens that a window must have: one that is dropped, one that no kept row predicts, and the rest."""

READOUT_BYTES = 64 * 2**20
"""Logits held at a time."""

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Streamed:
    """Residuals of some windows at all positions but the first.

    Attributes:
        first: Index of the first window among all.
        windows: Token ids of each.
        residuals: Layer -1 first, the last layer last; rows by window, then by position from 1.
    """

    first: int
    windows: tuple[Ids, ...]
    residuals: Float[Tensor, "layers rows width"]

    @property
    def lengths(self) -> list[int]:
        """Rows of each window."""
        return [len(ids) - 1 for ids in self.windows]


def cut_windows(model: Model, documents: Sequence[Document], window: int, limit: int | None) -> list[Ids]:
    """Tokenise documents and cut each into windows; what is left over is used if it is long enough.

    Every window begins as a prompt would, with what the tokenizer puts before a text (BOS).

    Args:
        model: Gives the tokenizer.
        documents: Texts; no window reaches over the end of one.
        window: Tokens in a window at most.
        limit: Stop once so many tokens are cut.

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
    """What the tokenizer puts before a text by itself, and the text's own tokens."""
    whole = model.tokenizer.encode(text).ids
    body = model.tokenizer.encode(text, special=False).ids
    return whole[: len(whole) - len(body)], body


def text_sha256(windows: Sequence[Ids]) -> str:
    """Digest of the token ids of all windows and where they end."""
    digest = hashlib.sha256()
    for ids in windows:
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
    """Log-probabilities of last-layer residuals, as many rows at a time as fit in ``READOUT_BYTES``."""
    rows = max(1, READOUT_BYTES // (model.vocab * 4))
    for start in range(0, len(residual), rows):
        part = slice(start, min(start + rows, len(residual)))
        yield part, torch.log_softmax(model.readout(residual[part]), -1)


def encoded_window(ids: Ids) -> Encoded:
    """A window as the model's stream wants it: every position but the first probed, nothing else."""
    return Encoded(Prompt(text="-"), "", "", ids, (), 0, (), (), tuple(range(1, len(ids))), ())

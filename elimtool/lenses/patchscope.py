"""Patchscope: put a residual into a prompt that repeats words, and read which word the model then repeats.

Source: Ghandeharioun et al. 2024 (arXiv 2401.06102), with its identity prompt and without trained maps: the
residual after block l takes the place of the residual of ``?`` after the same block. At ``?`` itself the next
token would be the arrow, so the arrow is appended and the output read after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.model.interventions.edits import Change, Site
from elimtool.model.interventions.install import putting
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.view import NOBODY, Batch, LayerView

IDENTITY = "cat -> cat\n1135 -> 1135\nhello -> hello\n?"
ASKED = " ->"
AT_ONCE = 4096
"""Tokens of one pass, about."""

Put = tuple[int, Float[Tensor, "width"]] | None
"""A layer (-1 is the embedding) and the residual to put there; ``None`` leaves the prompt as it is."""


class Patchscope:
    """Reads residuals by the word that the model repeats.

    Args:
        model: The model, without interventions.

    Raises:
        ElimError: Its tokenizer leaves no place for the residual, or its context is too short.
    """

    name = "patchscope"

    def __init__(self, model: Model) -> None:
        self.model = model
        begun = model.tokenizer.encode(IDENTITY).ids
        self.slot = len(begun) - 1
        self.ids = (*begun, *model.tokenizer.continuation(IDENTITY, ASKED, special=True))
        if not model.tokenizer.texts([begun[-1]])[0].endswith("?"):
            raise ElimError(
                f"{model.name}: the tokenizer merges the place that a patchscope puts residuals in"
            )
        if model.context is not None and len(self.ids) > model.context:
            raise ElimError(f"{model.name}: a patchscope's prompt takes {len(self.ids):,} tokens of context")

    @exclusive
    def after(
        self, puts: Sequence[Put], written: Sequence[tuple[int, ...]] | None = None
    ) -> Float32[Tensor, "puts vocab"]:
        """Compute log-probabilities (nats) of the whole vocabulary after the arrow.

        Args:
            puts: What is put in, each into a prompt of its own.
            written: Tokens behind the arrow, as many for each; none by default.
        """
        step = max(1, AT_ONCE // (len(self.ids) + 8))
        behind = [()] * len(puts) if written is None else list(written)
        parts = [
            self._together(puts[start : start + step], behind[start : start + step])
            for start in range(0, len(puts), step)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self.model.vocab)

    def _together(self, puts: Sequence[Put], written: Sequence[tuple[int, ...]]) -> Tensor:
        texts = [(*self.ids, *own) for own in written]
        encoded = [replace(NOBODY, token_ids=ids, positions=(len(ids) - 1,)) for ids in texts]
        batch = Batch.of(encoded, self.model.device)
        last: list[Tensor] = []

        def keep(view: LayerView) -> None:
            last[:] = [view.residual[:, 0]]

        with ExitStack() as hooks:
            for layer in sorted({one[0] for one in puts if one is not None}):
                site = Site(layer, "residual")
                edits = [
                    (row, Change(site, None, (self.slot,), one[1][None]))
                    for row, one in enumerate(puts)
                    if one is not None and one[0] == layer
                ]
                hooks.enter_context(putting(self.model.bridge, batch, site, edits))
            self.model.stream(batch, (), keep)
        return torch.log_softmax(self.model.readout(last[0]).float(), -1).cpu()

    def greedy(self, puts: Sequence[Put], first: Float[Tensor, "puts vocab"], count: int) -> list[str]:
        """Write the most probable tokens after the arrow.

        Args:
            puts: What is put in.
            first: Log-probabilities of the first token, from ``after``.
            count: Tokens to write.
        """
        written: list[tuple[int, ...]] = [(int(row.argmax()),) for row in first]
        for _ in range(count - 1):
            then = self.after(puts, written)
            written = [(*own, int(row.argmax())) for own, row in zip(written, then, strict=True)]
        return ["".join(self.model.tokenizer.texts(own)) for own in written]

    def logits(self, residual: Float[Tensor, "rows width"], layer: int) -> Float[Tensor, "rows vocab"]:
        """Read residuals after one layer, as ``lens eval`` reads lenses."""
        return self.after([(layer, one) for one in residual]).to(residual.device)


@exclusive
def residuals_of(
    model: Model, ids: Sequence[int], positions: Sequence[int]
) -> Float[Tensor, "layers positions width"]:
    """Run a text and return its residuals at some positions, the embedding first."""
    kept: list[Tensor] = []

    def keep(view: LayerView) -> None:
        kept.append(view.residual[0].clone())

    one = replace(NOBODY, token_ids=tuple(ids), positions=tuple(positions))
    model.stream(Batch.of([one], model.device), (), keep)
    return torch.stack(kept)

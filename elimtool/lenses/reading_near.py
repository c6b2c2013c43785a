"""The tokens nearest to what a lens reads in a layer, and how often they are so on other text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.lenses.clouds import Cloud
from elimtool.lenses.corpus import Document
from elimtool.lenses.lens import Lens
from elimtool.lenses.stream import cut_windows, stream
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.view import Batch, Encoded, LayerView

OTHERS = 256
"""About how many positions of other text a neighbour is looked for at."""
WINDOW = 64
"""Tokens of that text in one window."""


@dataclass(frozen=True, slots=True)
class ReadToken:
    """A token near a layer's reading.

    Attributes:
        token: Its text.
        token_id: The token.
        cosine: Cosine of its centred row with the normed reading, -1 .. 1.
        rank: Its rank among the reading's logits; 1 is the most probable.
        prob: Its probability there, 0 .. 1.
        elsewhere: Share of positions of other text at which it is among as many nearest of this layer,
            0 .. 1: where it is 1, it is near whatever the prompt.
    """

    token: str
    token_id: int
    cosine: float
    rank: int
    prob: float
    elsewhere: float


@dataclass(frozen=True, slots=True)
class ReadingNear:
    """The neighbours of a layer's reading.

    Attributes:
        prompt: The prompt as the model read it.
        position: Index of the token read.
        token: Its text.
        layer: Layer; -1 is the embedding.
        lens: Name of the lens.
        neighbours: Nearest first.
        n_others: Positions of other text.
    """

    prompt: str
    position: int
    token: str
    layer: int
    lens: str
    neighbours: tuple[ReadToken, ...]
    n_others: int


@exclusive
def reading_near(
    model: Model,
    cloud: Cloud,
    lens: Lens,
    encoded: Encoded,
    layer: int,
    documents: Sequence[Document],
    count: int = 10,
) -> ReadingNear:
    """Find the tokens nearest to what a lens reads after a layer at the last position.

    Args:
        model: The model; calls that run it wait for each other.
        cloud: Rows of the unembedding.
        lens: The lens; the last layer is read as it is.
        encoded: The prompt.
        layer: Layer, -1 .. n_layers - 1.
        documents: Other text.
        count: Neighbours to list.

    Raises:
        ElimError: There is no such layer.
    """
    if not -1 <= layer < model.n_layers:
        raise ElimError(f"`layer` must be -1 to {model.n_layers - 1}, got {layer}")
    kept: list[Tensor] = []

    def observe(view: LayerView) -> None:
        if view.layer == layer:
            kept.append(view.residual[0, -1:].clone())

    with torch.inference_mode():
        model.stream(Batch.of([encoded], model.device), (), observe)
        carried = _carried(model, lens, kept[0], layer)
        logprobs = model.readout(carried)[0].log_softmax(-1)
        found = cloud.nearest(model.normed(carried)[0], count)
        others, n_others = _elsewhere(model, cloud, lens, layer, documents, count)
    return ReadingNear(
        encoded.text,
        encoded.positions[-1],
        model.tokenizer.texts([encoded.token_ids[encoded.positions[-1]]])[0],
        layer,
        lens.name,
        tuple(
            ReadToken(
                cloud.text(token),
                token,
                value,
                int((logprobs > logprobs[token]).sum()) + 1,
                float(logprobs[token].exp()),
                others[token] / n_others,
            )
            for token, value in found
        ),
        n_others,
    )


def _carried(
    model: Model, lens: Lens, residual: Float[Tensor, "rows width"], layer: int
) -> Float[Tensor, "rows width"]:
    return residual if layer == model.n_layers - 1 else lens.to_final(residual, layer)


def _elsewhere(
    model: Model, cloud: Cloud, lens: Lens, layer: int, documents: Sequence[Document], count: int
) -> tuple[Counter[int], int]:
    """Count how often each token is among the nearest of this layer on other text."""
    windows = cut_windows(model, documents, min(WINDOW, model.context or WINDOW), None)
    wanted = max(1, OTHERS // WINDOW)
    picked = windows[:: max(1, len(windows) // wanted)][:wanted]
    found: Counter[int] = Counter()
    n = 0
    for some in stream(model, picked, wanted):
        carried = _carried(model, lens, some.residuals[layer + 1], layer)
        for part, cosines in cloud.cosines(model.normed(carried)):
            found.update(cosines.topk(min(count, cloud.size)).indices.flatten().tolist())
            n += part.stop - part.start
    return found, n

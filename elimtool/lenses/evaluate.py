"""Measure how far each layer's reading is from the model's output, by lens and for a context-free guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.lenses.corpus import Document
from elimtool.lenses.lens import Lens
from elimtool.lenses.patchscope import Patchscope
from elimtool.lenses.raw import RawLens
from elimtool.lenses.stream import Streamed, cut_windows, read_out, stream
from elimtool.model.atomic import Progress, in_tenths
from elimtool.model.lock import exclusive
from elimtool.model.model import Model

LEADING = 50
"""Tokens of the output whose order a reading is held against."""
MEASURES = ("kl", "agreement", "rank_correlation", "mass_moved", "own_token")
"""What is measured of a reading."""


@dataclass(frozen=True, slots=True)
class LayerReading:
    """One layer read through one lens, as means over the sampled positions.

    Attributes:
        layer: -1 is the embedding.
        lens: Name of the lens.
        kl: KL(final || layer), nats.
        agreement: Share of positions whose most probable token is the output's, 0 .. 1.
        rank_correlation: Mean Spearman correlation of the reading's order with the output's, over the 50
            most probable tokens of the output, -1 .. 1.
        mass_moved: Mean share of the probability that lies on other tokens than in the output (total
            variation), 0 .. 1.
        own_token: Share of positions where the reading's most probable token is the token read, or that with
            a space before it, 0 .. 1: high where a layer is read as the word, not as what comes next.
    """

    layer: int
    lens: str
    kl: float
    agreement: float
    rank_correlation: float
    mass_moved: float
    own_token: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of ``elimtool lens eval``.

    Attributes:
        n_rows: Positions sampled.
        n_windows: Windows of text that the positions are in.
        baseline_kl: KL(final || mean output on the fit text), nats; ``None`` without a fitted lens.
        baseline_agreement: Share of positions where that guess has the output's top token; likewise.
        layers: One reading for each lens and layer but the last, which is the output itself.
    """

    n_rows: int
    n_windows: int
    baseline_kl: float | None
    baseline_agreement: float | None
    layers: tuple[LayerReading, ...]


@exclusive
def evaluate(
    model: Model,
    lenses: Sequence[Lens | Patchscope],
    documents: Sequence[Document],
    *,
    prior: Float[Tensor, "vocab"] | None = None,
    samples: int = 256,
    window: int = 128,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Evaluation:
    """Read held-out text through lenses, layer by layer.

    Args:
        model: The model; calls that run it wait for each other.
        lenses: Calibrated lenses, or a patchscope; the raw one is always measured too.
        documents: Text that the lenses were not fitted on.
        prior: Log-probabilities (nats) of the context-free guess.
        samples: Approximate number of positions to read, spread evenly over the text.
        window: Tokens that the model sees at once.
        batch_size: Windows in one forward pass.
        progress: Called with the share done.

    Raises:
        ElimError: The text is too short, or the window does not suit the model.
    """
    windows = cut_windows(model, documents, window, None)
    picked = windows[:: max(1, len(windows) * 8 // max(samples, 8))]  # about 8 positions a window
    each = max(1, samples // len(picked))
    tell = in_tenths(progress, "reading held-out text through the lens")
    sums = _Sums(model, [RawLens(), *lenses], prior)
    with torch.inference_mode():
        for some in stream(model, picked, batch_size):
            rows = _spread(some, each)
            tokens = torch.tensor([token for ids in some.windows for token in ids[1:]])[rows]
            sums.add(some.residuals[:, rows], tokens)
            tell((some.first + len(some.windows)) / len(picked))
    return sums.evaluation(len(picked))


def with_space(model: Model) -> Int[Tensor, " vocab"]:
    """Map each token to the one that writes it with a space before it; to itself where there is none."""
    texts = model.tokenizer.texts(range(model.vocab))
    known = {text: token for token, text in reversed(list(enumerate(texts)))}
    return torch.tensor([known.get(f" {text}", token) for token, text in enumerate(texts)])


def _spread(some: Streamed, each: int) -> Tensor:
    """Choose ``each`` rows of every window, evenly spaced."""
    rows: list[int] = []
    start = 0
    for length in some.lengths:
        count = min(each, length)
        rows += [start + (2 * i + 1) * length // (2 * count) for i in range(count)]
        start += length
    return torch.tensor(rows)


class _Sums:
    """Sums of divergence and agreement of every lens and layer."""

    def __init__(self, model: Model, lenses: Sequence[Lens | Patchscope], prior: Tensor | None) -> None:
        self.model = model
        self.lenses = lenses
        self.prior = prior
        self.spaced = with_space(model)
        self.n = 0
        self.sums = torch.zeros(len(lenses), model.n_layers, len(MEASURES), dtype=torch.float64)
        self.baseline = torch.zeros(2, dtype=torch.float64)

    def add(self, residuals: Float[Tensor, "layers rows width"], tokens: Int[Tensor, " rows"]) -> None:
        """Add some rows, and the token at each."""
        for part, final in read_out(self.model, residuals[-1]):
            own = tokens[part]
            output = _Output(final, torch.stack([own, self.spaced[own]], -1).to(final.device))
            self.n += len(final)
            if self.prior is not None:
                self.baseline += output.compare(self.prior.to(final).expand_as(final))[:2]
            for index in range(self.model.n_layers):
                for which, lens in enumerate(self.lenses):
                    self.sums[which, index] += output.compare(self._read(lens, residuals[index, part], index))

    def _read(self, lens: Lens | Patchscope, residuals: Tensor, index: int) -> Tensor:
        if isinstance(lens, Patchscope):
            return lens.logits(residuals, index - 1)
        return self.model.readout(lens.to_final(residuals, index - 1))

    def evaluation(self, n_windows: int) -> Evaluation:
        """Return the means."""
        means = (self.sums / self.n).tolist()
        layers = tuple(
            LayerReading(index - 1, lens.name, *means[which][index])
            for index in range(self.model.n_layers)
            for which, lens in enumerate(self.lenses)
        )
        guess_kl, guess_agree = (None, None) if self.prior is None else (self.baseline / self.n).tolist()
        return Evaluation(self.n, n_windows, guess_kl, guess_agree, layers)


class _Output:
    """The model's own output at some rows, with what every comparison with it needs."""

    def __init__(self, logprobs: Float[Tensor, "rows vocab"], own: Int[Tensor, "rows spellings"]) -> None:
        self.own = own
        logprobs = logprobs.double()  # near the last layer the divergence is a small difference of large sums
        self.probs = logprobs.exp()
        self.top = logprobs.argmax(-1)
        self.negative_entropy = _dot(self.probs, logprobs)
        self.leading = logprobs.topk(min(LEADING, logprobs.shape[-1])).indices

    def compare(self, logits: Float[Tensor, "rows vocab"]) -> Tensor:
        """Sum each of ``MEASURES`` over the rows, float64 on the CPU."""
        # KL = sum p log p - sum p z + logsumexp(z), without a copy of the size of the vocabulary
        logits = logits.double()
        cross = logits.logsumexp(-1) - _dot(self.probs, logits)
        divergence = (self.negative_entropy + cross).clamp(min=0.0)  # rounding may leave it just below 0
        order = logits.gather(-1, self.leading).argsort(dim=-1, descending=True, stable=True)
        moved = (self.probs - logits.softmax(-1)).abs().sum(-1) / 2
        first = logits.argmax(-1)
        says_own = (first[:, None] == self.own).any(-1)
        found = [divergence, (first == self.top).double(), _spearman(order), moved, says_own.double()]
        return torch.stack([one.sum() for one in found]).cpu()


def _spearman(order: Int[Tensor, "rows k"]) -> Float[Tensor, " rows"]:
    """Correlate places in an order with 0 .. k - 1."""
    places = torch.arange(order.shape[-1], device=order.device, dtype=torch.float64)
    away = places - places.mean()
    spread = away.square().sum()
    # which comes first, second, ... in the reading, by its place in the output: as well a permutation
    return (order - places.mean()) @ away / spread if spread > 0 else torch.ones(len(order)).to(places)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return torch.bmm(left[:, None], right[:, :, None])[:, 0, 0]

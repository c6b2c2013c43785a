"""Fit the ridge lens and the regime reference of a model in one pass over text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.lenses.corpus import Document
from elimtool.lenses.moments import RATIOS, Moments, fit_maps
from elimtool.lenses.regime import FEWEST, UNSEEN, WINDOW, ReferenceStatistics, context_gain
from elimtool.lenses.ridge import Facts, RidgeLens
from elimtool.lenses.stream import Ids, Streamed, cut_windows, read_out, stream, text_sha256
from elimtool.model.atomic import Progress, in_tenths
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.version import __version__

HELD_OUT_EVERY = 8
"""One window in this many chooses lambda."""

RULE = (
    f"per layer, the multiple of the mean channel variance among {', '.join(f'{r:g}' for r in RATIOS)} with"
    f" the least squared error on every {HELD_OUT_EVERY}th window; then fitted on all windows"
)

GAIN_QUANTILE = 0.05

GAIN_EVERY = 4
"""Step between positions whose residuals are kept for the context gain: p_0 is known only after the pass."""


@exclusive
def fit_lens(
    model: Model,
    documents: Sequence[Document],
    *,
    tokens: int | None = None,
    window: int = 128,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> RidgeLens:
    """Fit the affine maps from every layer to the last, and the regime reference, in one pass.

    Drops the first token of each window: its residual is the attention sink's massive activation, not a
    prediction. Memory is of order layers x width^2, whatever the amount of text.

    Args:
        model: The model; calls that run it wait for each other.
        documents: Text to fit on; keep it apart from the text that the lens is evaluated on.
        tokens: Tokens to use at most.
        window: Tokens that the model sees at once.
        batch_size: Windows in one forward pass.
        progress: Called with the share done.

    Raises:
        ElimError: The text is too short, or the window does not suit the model.
    """
    windows = cut_windows(model, documents, window, tokens)
    if len(windows) < 2:
        raise ElimError(
            "the text is too short: it gives a single window", "give more text: some of it chooses lambda"
        )
    tell = in_tenths(progress, f"fitting the lens on {sum(map(len, windows)):,} tokens")
    train, held_out = (Moments.empty(model.n_layers, model.width) for _ in range(2))
    outputs = _Outputs(model, len(windows))
    with torch.inference_mode():
        for some in stream(model, windows, batch_size):
            chosen = _held_out_rows(some).to(some.residuals.device)
            for moments, rows in ((train, ~chosen), (held_out, chosen)):
                if bool(rows.any()):
                    moments.add(some.residuals[:, rows])
            outputs.add(some)
            tell((some.first + len(some.windows)) / len(windows))
        if progress:
            progress("solving for the lens")
        n_rows = train.n + held_out.n
        weight, bias, penalty = fit_maps(train, held_out)
        reference = outputs.reference()
    facts = Facts(
        model=model.name,
        weights_sha256=model.hashes()["weights_sha256"],
        text_sha256=text_sha256(windows),
        n_tokens=sum(map(len, windows)),
        n_rows=n_rows,
        window=window,
        rule=RULE,
        gain_q05=reference.gain_q05,
        elimtool=__version__,
    )
    return RidgeLens(weight, bias, torch.tensor(penalty), reference, facts)


def _held_out_rows(some: Streamed) -> Tensor:
    """Mark the rows of windows that choose lambda."""
    numbers = torch.arange(some.first, some.first + len(some.windows))
    chosen = numbers % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return chosen.repeat_interleave(torch.tensor(some.lengths))


class _Outputs:
    """Reduces the model's own outputs at one stretch of each window to their mean and its surprisal.

    A stretch is ``WINDOW`` observed tokens and the position that predicts the next. Its place varies from
    window to window, so that contexts of every length are in the reference. Windows evenly spread over the
    text, at least ``FEWEST`` if there are as many, are also read at their opening.
    """

    def __init__(self, model: Model, n_windows: int) -> None:
        self.model = model
        self.total = torch.zeros(model.vocab, dtype=torch.float64)
        self.n = 0
        self.surprisal = torch.zeros(n_windows, dtype=torch.float64)
        self.gaining: list[Tensor] = []
        self.every = max(1, n_windows // FEWEST)
        self.openings: list[Tensor] = []

    def add(self, some: Streamed) -> None:
        """Add the last layer's residuals of some windows."""
        start = 0
        stretches, following = [], []
        for offset, (ids, length) in enumerate(zip(some.windows, some.lengths, strict=True)):
            if (some.first + offset) % self.every == 0:
                self.openings.append(self._opening(ids, some.residuals[-1, start : start + WINDOW]))
            # 37: a prime, so that consecutive windows are read at places far apart, and all places occur
            end = WINDOW + 1 + (some.first + offset) * 37 % (length - WINDOW)
            stretches.append(some.residuals[-1, start + end - WINDOW - 1 : start + end])
            following.append(torch.tensor([*ids[end - WINDOW + 1 : end + 1], 0]))
            start += length
        self.gaining += [one[::GAIN_EVERY].clone() for one in stretches]
        rows, wanted = torch.cat(stretches), torch.cat(following).to(some.residuals.device)
        surprisal = torch.zeros(len(rows), dtype=torch.float64)
        for part, logprobs in read_out(self.model, rows):
            surprisal[part] = -logprobs.gather(-1, wanted[part, None])[:, 0].double().cpu()
            self.total += logprobs.exp_().sum(0, dtype=torch.float64).cpu()
        self.n += len(rows)
        means = surprisal.reshape(len(some.windows), -1)[:, :WINDOW].mean(1)
        self.surprisal[some.first : some.first + len(some.windows)] = means

    def _opening(self, ids: Ids, final: Tensor) -> Tensor:
        """Average the surprisal (nats) of a window's first 1 .. ``WINDOW`` counted tokens.

        Args:
            ids: The window's tokens.
            final: Last residuals at its positions 1 .. ``WINDOW``, which predict tokens 2 and later.
        """
        logprobs = torch.cat([part for _, part in read_out(self.model, final)])
        wanted = torch.tensor(ids[UNSEEN : UNSEEN + WINDOW], device=logprobs.device)
        surprisal = -logprobs.gather(-1, wanted[:, None])[:, 0].double().cpu()
        return surprisal.cumsum(0) / torch.arange(1, WINDOW + 1)

    def reference(self) -> ReferenceStatistics:
        """Return the regime reference."""
        # tokens whose probability underflowed get the smallest float32 instead of a logarithm of -inf
        prior = (self.total / self.n).clamp(min=1e-38).log().float()
        gains = [
            context_gain(logprobs, prior.to(logprobs.device)).cpu()
            for _, logprobs in read_out(self.model, torch.cat(self.gaining))
        ]
        quantile = float(torch.cat(gains).double().quantile(GAIN_QUANTILE))
        openings = torch.stack(self.openings).float()
        return ReferenceStatistics(self.surprisal.sort().values.float(), openings, prior, quantile)

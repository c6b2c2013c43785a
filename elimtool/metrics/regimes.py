"""Regimes: whether each prediction is strong, balanced, familiar or dysfunctional, by the text before it.

Table ``regimes``, one row per probed position; filled where the lens has a reference set.
``elimtool.lenses.regime`` has the rule and its sources. From the same surprisals comes the table
``span_surprisal``, one row per prompt and span.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.lenses.regime import ABSTAIN, WINDOW, Recent, counted, recent_surprisal, regimes
from elimtool.lenses.stream import READOUT_BYTES
from elimtool.metrics.columns import place
from elimtool.metrics.metric import Metric, ReadoutView, Settings
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.numerics.shapes import normaliser


class Regimes(Metric):
    """Keeps the last layer's residuals, and reads out the positions that the rule needs."""

    needs: frozenset[str] = frozenset({"context"})
    tables: ClassVar[tuple[str, ...]] = ("regimes", "span_surprisal")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.reference = settings.reference if settings.wants("regimes") else None
        self.context: Tensor | None = None
        self.recent: list[Recent] = []

    def observe(self, view: LayerView) -> None:
        """Keep the last layer's residuals, if a table needs them."""
        asked = self.reference is not None or self.settings.wants("span_surprisal")
        if asked and view.context is not None:
            self.context = view.context

    def read(self, view: ReadoutView) -> None:
        """Find the regimes of some rows, and with the first of them what follows spans."""
        if self.context is None or view.readout is None:
            return
        if not self.recent:
            surprisal = self._surprisal(view)
            pairs = list(zip(self.batch.encoded, surprisal, strict=True))
            self.recent = [recent_surprisal(one.token_ids, some, one.templated) for one, some in pairs]
            if self.settings.wants("span_surprisal"):
                self.filled["span_surprisal"] += [_after_spans(one, some) for one, some in pairs]
        if self.reference is None:
            return
        prompt, probe = (index.cpu() for index in view.rows)
        position = self.batch.positions.cpu()[prompt, probe]
        recent = _gather(self.recent, prompt.tolist(), position.tolist())
        found = regimes(self.reference, view.output, recent)
        self.filled["regimes"].append(
            {
                **place(self.batch, view.rows),
                "regime": [None if name == ABSTAIN else name for name in found.regime],
                "n_recent": recent.n.numpy(),
                "recent_surprisal": recent.mean.numpy(),
                "repetition": recent.repetition.numpy(),
                "p_high": found.high.numpy(),
                "p_low": found.low.numpy(),
                "collision": found.collision.cpu().numpy(),
                "context_gain": found.gain.cpu().numpy(),
            }
        )

    def _surprisal(self, view: ReadoutView) -> list[Float[Tensor, "tokens"]]:
        """Return the surprisal of the tokens that are looked at in each prompt, read out together."""
        assert self.context is not None
        wanted = [_wanted(one) for one in self.batch.encoded]
        before = [rows[some - 1] for rows, some in zip(self.context, wanted, strict=True)]
        tokens = [
            torch.tensor(one.token_ids)[some] for one, some in zip(self.batch.encoded, wanted, strict=True)
        ]
        together = surprisal_of(view, torch.cat(before), torch.cat(tokens), self.settings.compiled)
        found, start = [], 0
        for one, some in zip(self.batch.encoded, wanted, strict=True):
            surprisal = torch.full((len(one.token_ids),), torch.nan, dtype=torch.float64)
            surprisal[some] = together[start : start + len(some)]
            start += len(some)
            found.append(surprisal)
        return found


def _after_spans(one: Encoded, surprisal: Float[Tensor, "tokens"]) -> dict[str, Any]:
    """Average the surprisal of what follows each named span in a prompt, appended tokens left out."""
    end = min(one.positions[-1] + 1, len(one.token_ids) - one.n_appended)
    named = {span.name for span in one.prompt.spans}  # else each token is a span
    spans = [span for span in one.spans if span.tokens and span.name in named]
    parts = [surprisal[span.tokens[-1] + 1 : end] for span in spans]
    known = [part[~part.isnan()] for part in parts]
    return {
        "prompt_id": [one.prompt_id] * len(spans),
        "span": [span.name for span in spans],
        "n_after": [len(part) for part in known],
        "surprisal_after": [float(part.mean()) if len(part) else None for part in known],
    }


def _wanted(one: Encoded) -> Int[Tensor, "some"]:
    """List the tokens whose surprisal the probed positions of a prompt need: those that count, ascending."""
    counts = counted(len(one.token_ids), one.templated)[: one.positions[-1] + 1]
    before_first = int(counts[: one.positions[0] + 1].sum())
    return counts.nonzero()[max(0, before_first - WINDOW) :, 0]


def surprisal_of(
    view: ReadoutView, residual: Float[Tensor, "rows width"], tokens: Tensor, compiled: bool = False
) -> Float[Tensor, "rows"]:
    """Return each token's surprisal (nats, float64), by the last residual of the position before it."""
    assert view.readout is not None
    step = max(1, READOUT_BYTES // (view.logits.shape[-1] * 4))  # float32 logits
    found = [torch.empty(0, dtype=torch.float64)]  # so that no rows give an empty tensor
    for start in range(0, len(residual), step):
        logits = view.readout(residual[start : start + step])
        wanted = tokens[start : start + step, None].to(logits.device)
        surprise = normaliser(logits, compiled) - logits.gather(-1, wanted)[:, 0]
        found.append(surprise.double().cpu())
    return torch.cat(found)


def _gather(recent: list[Recent], prompt: list[int], position: list[int]) -> Recent:
    """Select some positions of some prompts."""
    cells = list(zip(prompt, position, strict=True))
    return Recent(
        torch.stack([recent[i].mean[t] for i, t in cells]),
        torch.stack([recent[i].n[t] for i, t in cells]),
        torch.stack([recent[i].opening[t] for i, t in cells]),
        torch.stack([recent[i].repetition[t] for i, t in cells]),
    )

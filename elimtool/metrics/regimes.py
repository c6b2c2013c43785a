"""Regimes: whether each prediction is strong, balanced, familiar or dysfunctional, by the text before it.

Table ``regimes``, one row per probed position; filled where the lens has a reference set.
``elimtool.lenses.regime`` has the rule and its sources. From the same surprisals comes the table
``span_surprisal``, one row per prompt and span.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.lenses.regime import (
    ABSTAIN,
    WINDOW,
    Recent,
    ReferenceStatistics,
    collision_and_gain,
    counted,
    judged,
    recent_surprisal,
)
from elimtool.metrics.columns import Columns, join, place
from elimtool.metrics.metric import Here, Metric, ReadoutView, Settings
from elimtool.model.view import Batch, Encoded, LayerView, Rows
from elimtool.numerics.shapes import normaliser
from elimtool.numerics.transfer import Array, sent


class Regimes(Metric):
    """Keeps the last layer's residuals, and has those read out that the rule needs."""

    needs: frozenset[str] = frozenset({"context"})
    tables: ClassVar[tuple[str, ...]] = ("regimes", "span_surprisal")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.reference = settings.reference if settings.wants("regimes") else None
        self.context: Tensor | None = None
        self.wanted: list[Int[Tensor, "some"]] = []
        self.found: list[Float[Tensor, "some"]] = []
        self.rows: list[tuple[Rows, dict[str, Tensor]]] = []

    def observe(self, view: LayerView) -> None:
        """Keep the last layer's residuals, if a table needs them."""
        asked = self.reference is not None or self.settings.wants("span_surprisal")
        if asked and view.context is not None:
            self.context = view.context

    def more_residuals(self) -> Tensor | None:
        """Return the residuals that predict the tokens that are looked at in each prompt."""
        if self.context is None:
            return None
        self.wanted = [_wanted(one) for one in self.batch.encoded]
        width = self.context.shape[1]
        before = [row * width + some - 1 for row, some in enumerate(self.wanted)]
        return self.context.flatten(0, 1)[sent(torch.cat(before), self.context.device)]

    def read_more(self, logits: Float[Tensor, "some vocab"]) -> None:
        """Keep the surprisal (nats, float64) of the tokens that some of these residuals predict."""
        start = sum(map(len, self.found))
        token = sent(self._tokens[start : start + len(logits), None], logits.device)
        surprise = normaliser(logits, self.settings.compiled) - logits.gather(-1, token)[:, 0]
        self.found.append(surprise.double())

    @cached_property
    def _tokens(self) -> Int[Tensor, "all"]:
        each = zip(self.batch.encoded, self.wanted, strict=True)
        return torch.cat([torch.tensor(one.token_ids)[some] for one, some in each])

    def _spread(self, together: Float[Tensor, "all"]) -> list[Float[Tensor, "tokens"]]:
        """Give each prompt the surprisal of the tokens that are looked at in it; NaN for others."""
        found, each = [], torch.split(together, list(map(len, self.wanted)))
        for one, some, own in zip(self.batch.encoded, self.wanted, each, strict=True):
            surprisal = torch.full((len(one.token_ids),), torch.nan, dtype=torch.float64)
            surprisal[some] = own
            found.append(surprisal)
        return found

    def read(self, view: ReadoutView) -> None:
        """Reduce the outputs of some rows."""
        if self.context is not None and self.reference is not None:
            self.rows.append((view.rows, collision_and_gain(self.reference, view.output)))

    def end(self) -> None:
        """Bring the surprisals, and what outputs were reduced to."""
        if self.context is not None:
            empty = torch.empty(0, dtype=torch.float64, device=self.context.device)
            some = {(at, name): one for at, (_, found) in enumerate(self.rows) for name, one in found.items()}
            self.bring({"surprisal": torch.cat([empty, *self.found])} | some, self._columns)
            self.context = None

    def _columns(self, here: Here) -> dict[str, Columns]:
        """Find the regimes of rows, and what follows spans."""
        surprisal = self._spread(torch.from_numpy(here["surprisal"]))
        pairs = list(zip(self.batch.encoded, surprisal, strict=True))
        filled: dict[str, Columns] = {}
        if self.settings.wants("span_surprisal"):
            filled["span_surprisal"] = join([_after_spans(one, some) for one, some in pairs])
        if self.reference is not None and self.rows:
            every = [recent_surprisal(one.token_ids, some, one.templated) for one, some in pairs]
            filled["regimes"] = join(
                [
                    self._of_rows(self.reference, rows, every, here[at, "collision"], here[at, "gain"])
                    for at, (rows, _) in enumerate(self.rows)
                ]
            )
        return filled

    def _of_rows(
        self, reference: ReferenceStatistics, rows: Rows, every: list[Recent], collision: Array, gain: Array
    ) -> Columns:
        prompt, probe = rows.here
        position = self.batch.here["positions"][prompt, probe]
        recent = _gather(every, prompt.tolist(), position.tolist())
        found = judged(reference, torch.from_numpy(collision), torch.from_numpy(gain), recent)
        return {
            **place(self.batch, rows),
            "regime": [None if name == ABSTAIN else name for name in found.regime],
            "n_recent": recent.n.numpy(),
            "recent_surprisal": recent.mean.numpy(),
            "repetition": recent.repetition.numpy(),
            "p_high": found.high.numpy(),
            "p_low": found.low.numpy(),
            "collision": collision,
            "context_gain": gain,
        }


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


def _gather(recent: list[Recent], prompt: list[int], position: list[int]) -> Recent:
    """Select some positions of some prompts."""
    cells = list(zip(prompt, position, strict=True))
    return Recent(
        torch.stack([recent[i].mean[t] for i, t in cells]),
        torch.stack([recent[i].n[t] for i, t in cells]),
        torch.stack([recent[i].opening[t] for i, t in cells]),
        torch.stack([recent[i].repetition[t] for i, t in cells]),
    )

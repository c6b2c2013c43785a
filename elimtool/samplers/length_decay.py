"""Exponential length penalty: push the end of the text from a step on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log
from typing import Any, ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.stage import Context, Effect, Role, Stage


@dataclass(frozen=True)
class LengthDecay(Stage):
    """Raises end-of-text tokens exponentially from a number of generated tokens on.

    Formula: with k = generated tokens - ``after`` > 0, ``l + |l| (factor^k - 1)``. A logit of 0 stays, and a
    banned token stays banned. On the same logits, an end passes the best other logit M from the least k with
    ``factor^k >= M / l`` (l > 0) or ``factor^k >= 2 + M / |l|`` (l < 0); its remark says from which step.
    Unit: logit. Removes nothing. Off: factor = 1.

    Attributes:
        factor: Growth for each token past ``after``; under 1 it lowers the end.
        after: Generated tokens after which it begins.
        eos: The tokens that end a text; ``null`` = the model's own, once the chain is given them.
    """

    kind: ClassVar[str] = "length_decay"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "factor"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"factor": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py ExponentialDecayLengthPenalty",
    )

    bound_of: ClassVar[str] = "step"

    factor: float = 1.0
    after: int = 0
    eos: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self.number("factor", 0, float("inf"))
        self.integer("after", 0)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Raise the end."""
        past = torch.tensor([len(history.generated) - self.after for history in context.histories])
        grown = self.factor ** past.clamp(min=0).to(c.scores) - 1
        ends = c.among(self.eos or ()) & c.alive
        lift = (c.scores.abs() * grown[:, None]).masked_fill(~ends, 0.0)
        best = c.scores.masked_fill(ends, NEG_INF).amax(-1)
        details: list[dict[int, Lift]] = [{} for _ in context.histories]
        for row, column in ends.nonzero().tolist():
            token, logit = int(c.ids[row, column]), float(c.scores[row, column])
            details[row][token] = Lift(
                token, float(lift[row, column]), self.leads_from(logit, float(best[row]))
            )
        return Effect(c, scores=c.scores + lift, active=past > 0, details=tuple(details))

    def leads_from(self, logit: float, best: float) -> int | None:
        """Return the least number of generated tokens from which an end reaches the best other logit.

        Args:
            logit: Logit of the end, before it is raised.
            best: The best other logit.

        Returns:
            0 where it does without being raised; ``None`` where it never does.
        """
        if logit >= best:
            return 0
        if self.factor <= 1 or logit == 0:
            return None
        needed = best / logit if logit > 0 else 2 - best / logit
        k = max(1, ceil(log(needed) / log(self.factor)))
        while logit + abs(logit) * (self.factor**k - 1) < best:  # the logarithms are rounded
            k += 1
        return self.after + k


@dataclass(frozen=True)
class Lift:
    """How an end of the text is raised.

    Attributes:
        token: Its id.
        lift: What is added to its logit.
        least: Number of generated tokens from which it leads; ``None`` for never.
    """

    token: int
    lift: float
    least: float | None

    def __str__(self) -> str:
        return self._told(str(self.token))

    def told(self, spell: Callable[[int], str]) -> str:
        """Return the sentence of ``str``, with the token's text."""
        return self._told(repr(spell(self.token)))

    def _told(self, token: str) -> str:
        when = "never leads" if self.least is None else f"leads from {self.least:g} written tokens on"
        return f"the end {token} is raised by {self.lift:.3g}; on these logits it {when}"

"""Share the state of the two Mirostat stages: a bound mu that follows the surprise of the chosen tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Stage


@dataclass(frozen=True)
class Mirostat(Stage):
    """Steers mu so that the surprise of the text stays near tau bits; see the two versions."""

    main: ClassVar[str] = "tau"
    off: ClassVar[Mapping[str, Any] | None] = {"tau": 0.0}

    tau: float = 5.0
    eta: float = 0.1

    def __post_init__(self) -> None:
        self.number("tau", 0, float("inf"))
        self.number("eta", 0, float("inf"))

    def start(self, rows: int, /) -> Float64[Tensor, " rows"]:
        """Return mu = 2 tau."""
        return torch.full((rows,), 2 * self.tau, dtype=torch.float64)

    def accept(
        self, state: Float64[Tensor, " rows"], probs: Float64[Tensor, " rows"], /
    ) -> Float64[Tensor, " rows"]:
        """Move mu against the error of the surprise."""
        return state - self.eta * (-probs.log2() - self.tau)

    def mu(self, c: Candidates, context: Context) -> Float[Tensor, " rows"]:
        """Return the state of each row, before the first token that of ``start``."""
        return (context.state if context.state is not None else self.start(len(c.n))).to(c.scores)

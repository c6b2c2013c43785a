"""Share what stages do that mix the distribution with other rows of logits at the same place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.numerics.transfer import sent
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.stage import Context, Effect, Role, Stage

AGAINST = "against"
"""Name of the row of logits after a second prompt, see ``History.rows``."""
LAYERS = "layers"
"""Name of the readouts of all layers, that of the embedding first and the model's own output last."""
AMATEUR = "amateur"
"""Name of the row of logits of a second, weaker model after the same tokens."""
HINTS = {
    AGAINST: "give the second prompt as `against`",
    LAYERS: "it acts where `trace` or `batch` reads the layers of a model",
    AMATEUR: "give the second model as `amateur`",
}


@dataclass(frozen=True)
class Combine(Stage):
    """Mixes the distribution with other rows of logits."""

    role: ClassVar[Role] = "combine"
    unit: ClassVar[str] = "logit"
    needs: ClassVar[str] = AGAINST

    def beside(self, c: Candidates, context: Context) -> Float64[Tensor, "rows *others vocab"]:
        """Return the other logits of every row.

        Raises:
            ElimError: There are none.
        """
        found = [history.rows.get(self.needs) for history in context.histories]
        rows = [row for row in found if row is not None]
        if len(rows) < len(found):
            raise ElimError(f"{self.name} needs other logits beside the model's own", HINTS[self.needs])
        return sent(torch.stack(rows).double(), c.scores.device)

    def extrapolated(self, c: Candidates, context: Context, scale: float, raw: bool = False) -> Effect:
        """Move from the log-probabilities (``raw``: logits) after the second prompt past the model's own."""
        own, wide = c.scores, self.beside(c, context)
        if not raw:
            own, wide = own - own.logsumexp(-1, keepdim=True), wide.log_softmax(-1)
        other = (wide if c.tokens is None else wide.gather(1, c.ids)).to(own)
        scores = (other + scale * (own - other)).masked_fill(~c.alive, NEG_INF)
        return Effect(c, scores=scores, other=wide.log_softmax(-1) if raw else wide)


def needed_rows(stages: Iterable[Stage]) -> frozenset[str]:
    """Name the other logits that stages combine with the output."""
    return frozenset(one.needs for one in stages if isinstance(one, Combine) and not one.is_off())

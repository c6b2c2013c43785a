"""Read the model after a second prompt, for the stages of chains that move away from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.forced import outputs
from elimtool.prompts.prompt import Prompt
from elimtool.samplers import History
from elimtool.samplers.combine import AGAINST

if TYPE_CHECKING:
    from elimtool.model.model import Model

After = Callable[[tuple[int, ...]], Tensor]
"""Returns the logits after a second prompt and the tokens that were written after it, [vocab]."""

KEPT = 8
"""Rows that are kept: probed rows of a batch mostly ask for the same one, that without written tokens."""


def history(prompt: tuple[int, ...], written: tuple[int, ...], against: After | None) -> History:
    """Return what a chain looks back on at one place: the tokens, and the other logits there.

    Args:
        prompt: The prompt's tokens.
        written: The tokens after it.
        against: Reads the model after a second prompt; ``None`` where there is none.
    """
    return History(prompt, written, {} if against is None else {AGAINST: against(written)})


def after(model: Model, text: str) -> After:
    """Make the function that reads a model after a prompt.

    Args:
        model: The model, without interventions.
        text: The prompt.

    Raises:
        ElimError: The prompt cannot be used.
    """
    ids = model.encode(Prompt(text), position=-1).token_ids

    @lru_cache(maxsize=KEPT)
    def read(written: tuple[int, ...]) -> Float64[Tensor, "vocab"]:
        # what would come after the last token is not read: any token stands for it
        (rows,) = outputs(model, ids, [(*written, ids[-1])])
        return rows[-1]

    return read

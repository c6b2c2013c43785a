"""Read other logits beside a model's own, for the stages of chains that combine them.

After a second prompt, of a second model after the same tokens, and of every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.forced import outputs
from elimtool.errors import ElimError
from elimtool.model.view import NOBODY, Batch, LayerView
from elimtool.prompts.prompt import Prompt
from elimtool.samplers import History
from elimtool.samplers.combine import AGAINST, AMATEUR, LAYERS

if TYPE_CHECKING:
    from elimtool.lenses.lens import Lens
    from elimtool.model.model import Model

Ids = tuple[int, ...]
After = Callable[[Ids, Ids, Collection[str]], Mapping[str, Tensor]]
"""Returns other logits, by their names in ``History.rows``, after a prompt and the tokens that were written
after it; those that are named are known already."""
Read = Callable[[Ids, Ids], Tensor]
"""Reads one kind of other logits after a prompt and the tokens that were written after it."""

KEPT = 8
"""Rows that are kept: probed rows of a batch mostly ask for the same one, that without written tokens."""


def history(prompt: Ids, written: Ids, against: After | None) -> History:
    """Return what a chain looks back on at one place: the tokens, and the other logits there.

    Args:
        prompt: The prompt's tokens.
        written: The tokens after it.
        against: Reads other logits; ``None`` where no stage combines any.
    """
    return History(prompt, written, {} if against is None else against(prompt, written, ()))


def other_rows(
    model: Model, lens: Lens, needed: Collection[str], text: str | None, amateur: Model | None
) -> After | None:
    """Make the function that reads what the stages of some chains combine with a model's output.

    Args:
        model: The model, without interventions.
        lens: How to read layers before the last.
        needed: Names of the other logits that stages combine.
        text: The second prompt; ``None`` for none.
        amateur: The second model; ``None`` for none.

    Raises:
        ElimError: The second prompt cannot be used, or the two models have different vocabularies.
    """
    readers: dict[str, Read] = {LAYERS: _of_layers(model, lens)}
    if text is not None:
        readers[AGAINST] = _after(model, text)
    if amateur is not None:
        _check_vocabulary(model, amateur)
        readers[AMATEUR] = _of_amateur(amateur)
    reading = {name: read for name, read in readers.items() if name in needed}

    def rows(prompt: Ids, written: Ids, known: Collection[str]) -> Mapping[str, Tensor]:
        return {name: read(prompt, written) for name, read in reading.items() if name not in known}

    return rows if reading else None


def _after(model: Model, text: str) -> Read:
    ids = model.encode(Prompt(text), position=-1).token_ids

    @lru_cache(maxsize=KEPT)
    def read(written: Ids) -> Float64[Tensor, "vocab"]:
        # what would come after the last token is not read: any token stands for it
        (rows,) = outputs(model, ids, [(*written, ids[-1])])
        return rows[-1]

    return lambda _, written: read(written)


def _of_amateur(amateur: Model) -> Read:
    @lru_cache(maxsize=KEPT)
    def read(prompt: Ids, written: Ids) -> Float64[Tensor, "vocab"]:
        (rows,) = outputs(amateur, prompt, [(*written, prompt[-1])])
        return rows[-1]

    return read


def _of_layers(model: Model, lens: Lens) -> Read:
    @lru_cache(maxsize=KEPT)
    def read(prompt: Ids, written: Ids) -> Float64[Tensor, "layers vocab"]:
        ids = prompt + written
        kept: list[Tensor] = []

        def keep(view: LayerView) -> None:
            kept.append(view.residual[:, 0])

        one = replace(NOBODY, token_ids=ids, positions=(len(ids) - 1,))
        model.stream(Batch.of([one], model.device), (), keep)
        carried = [lens.to_final(row, at - 1) for at, row in enumerate(kept[:-1])]  # the embedding is -1
        with torch.inference_mode():
            return model.readout(torch.cat([*carried, kept[-1]])).double().cpu()

    return read


def _check_vocabulary(model: Model, amateur: Model) -> None:
    both = [one.tokenizer.backend.get_vocab() for one in (model, amateur)]
    if both[0] != both[1] or model.vocab != amateur.vocab:
        raise ElimError(
            f"{amateur.name} has another vocabulary than {model.name}: their logits cannot be combined",
            "give as `amateur` a smaller model of the same family",
        )

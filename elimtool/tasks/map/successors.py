"""Sum up which heads write the successor of a word that stands alone: of digits, days, months and letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from elimtool.model.affine import wide
from elimtool.model.carried import by_head
from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.part import Arrays
from elimtool.tasks.map.probes import SetWord, Successors
from elimtool.tasks.map.units import Unit


class MemberSums:
    """Sums of some words, each alone.

    [units, layers, heads]: ``successor``, 1 where of all words of the set the next one comes first in what
    the head writes, of ``successor.rows``; ``chance``, 1 over the number of words. The head gets the word as
    the first block leaves it, in any layer: what later blocks make of a token that stands alone is a sink.
    Source: Gould et al. 2023 (arXiv 2312.09230).
    """

    names: ClassVar[tuple[str, ...]] = ("successor", "successor.rows", "chance")

    def __init__(self, model: Model, units: Sequence[Unit], batch: Batch) -> None:
        self.model, self.batch = model, batch
        members = Successors(model.tokenizer).members
        self.members = [members[unit.index] for unit in units]
        sets = {one.name: torch.tensor(one.members, device=batch.ids.device) for one in self.members}
        self.words = {name: model.written(ids) for name, ids in sets.items()}
        shape = len(units), model.n_layers, model.n_heads
        self.found = {name: torch.zeros(shape, dtype=torch.float64) for name in self.names}
        self.found["chance"] += torch.tensor(
            [1 / len(one.members) for one in self.members], dtype=torch.float64
        )[:, None, None]

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Look at nothing: the words are run in ``sums``, each layer on the first one's output."""

    def sums(self) -> Arrays:
        """Run the words, and return all arrays."""

        def observe(view: LayerView) -> None:
            block = view.block
            if view.layer < 1 or block is None or block.heads is None or block.output is None:
                return
            inputs = by_head(wide(block.heads.inputs[:, 0]), block.heads.count)
            maps = by_head(block.output.whole, block.heads.count).transpose(0, 1)
            for row, one in enumerate(self.members):
                first, counts = nexts(one, self.words[one.name], inputs[row], maps)
                self.found["successor"][row, view.layer] = first.double().cpu()
                self.found["successor.rows"][row, view.layer] = counts.double().cpu()

        with fed_by_the_first(self.model):
            self.model.stream(self.batch, {"block"}, observe)
        return {name: one.numpy() for name, one in self.found.items()}

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}


def nexts(one: SetWord, words: Tensor, inputs: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Tell for each head whether what it writes puts the next word of a set before all others.

    Args:
        one: The word and its set.
        words: Directions that raise each word of the set, [words, width], see ``Model.written``.
        inputs: What each head carries of the word, [heads, size].
        maps: Each head's part of the output projection, [heads, width, size].

    Returns:
        Whether it does, and whether it writes anything, [heads].
    """
    written = (maps @ inputs[..., None])[..., 0]
    told = written @ words.to(written).T
    return told.argmax(-1) == one.place + 1, written.any(-1)


@contextmanager
def fed_by_the_first(model: Model) -> Iterator[None]:
    """While open, give every later block what the first one put out."""
    first: list[Tensor] = []

    def feed(_module: nn.Module, args: Any, named: dict[str, Any], start: bool) -> Any:
        state = args[0] if args else named["hidden_states"]
        if start:
            first[:] = [state]
        return ((first[0], *args[1:]), named) if args else (args, {**named, "hidden_states": first[0]})

    with model.held(), ExitStack() as hooks:
        for layer, block in enumerate(model.bridge.blocks[1:]):
            hooks.enter_context(
                block.original_component.register_forward_pre_hook(
                    lambda m, args, named, layer=layer: feed(m, args, named, layer == 0), with_kwargs=True
                )
            )
        yield

"""Run a part of a model: from some layers on, and from some position on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from elimtool.model.view import NOBODY, Batch

if TYPE_CHECKING:
    from elimtool.model.model import Model

KeysAndValues = Sequence[tuple[Tensor, Tensor]]
"""Keys and values of each layer, [runs, groups, keys, size]."""


class Beginning:
    """Keys and values of the first positions of some runs, for passes in which rows join.

    Args:
        kept: Keys and values of the runs.
        runs: The run of each row, in the order in which rows join.
        position: Number of positions.
    """

    def __init__(self, kept: KeysAndValues, runs: Int[Tensor, "rows"], position: int) -> None:
        self.layers = [(keys[:, :, :position], values[:, :, :position]) for keys, values in kept]
        self.runs = runs
        self.position = position

    def cache(self) -> Any:
        """Make a cache that answers with the beginnings of as many rows as ask, and keeps nothing new."""
        from transformers.cache_utils import DynamicCache

        made = DynamicCache()
        for layer, (keys, values) in enumerate(self.layers):
            made.update(keys[:1], values[:1], layer)  # for the number of positions alone
        made.update = self._continue
        return made

    def _continue(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        runs = self.runs[: len(keys)]
        before = self.layers[layer]
        return torch.cat([before[0][runs], keys], 2), torch.cat([before[1][runs], values], 2)


class PartialPass:
    """Runs a model's blocks, without its head.

    Args:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._blocks = [block.original_component for block in model.bridge.blocks]
        self._tuples: dict[int, int] = {}

    def run(
        self,
        ids: Int[Tensor, "rows new"],
        states: Mapping[int, Float[Tensor, "some new width"]] | None = None,
        kept: Beginning | None = None,
    ) -> Float[Tensor, "all new width"]:
        """Run the blocks, and return the last one's output.

        Args:
            ids: Token ids; one row is enough where rows of several states join.
            states: States after layers (-1: the input of the first block), in their order. Blocks up to the
                first are left out; the others join as more rows. ``None`` runs the model as it is.
            kept: What came before these positions.
        """
        options: dict[str, Any] = {"use_cache": kept is not None}
        if kept is not None:
            options["past_key_values"] = kept.cache()
            where = torch.arange(kept.position, kept.position + ids.shape[1], device=ids.device)
            options["position_ids"] = where[None]
        with self._entered(states or {}):
            return self._run(ids, options)

    def keys_and_values(
        self, ids: Int[Tensor, "runs keys"], states: Mapping[int, Float[Tensor, "runs keys width"]]
    ) -> KeysAndValues:
        """Run whole prompts for the keys and values of each layer."""
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache()
        with self._entered(states):
            self._run(ids, {"use_cache": True, "past_key_values": cache})
        return [(layer.keys, layer.values) for layer in cache.layers]

    def _run(self, ids: Tensor, options: dict[str, Any]) -> Tensor:
        out: list[Tensor] = []
        with ExitStack() as inside:
            inside.enter_context(torch.inference_mode())
            if not self._tuples:
                for at, block in enumerate(self._blocks):
                    inside.enter_context(
                        block.register_forward_hook(lambda _m, _i, given, at=at: self._note(at, given))
                    )
            last = self._blocks[-1]
            inside.enter_context(last.register_forward_hook(lambda _m, _i, given: out.append(_first(given))))
            if self.model.native.usable:
                inside.enter_context(self.model.alone(batch_of(ids)))
            if hasattr(self.model.hf, "base_model_prefix"):
                self.model.call(ids, logits_to_keep=slice(0, 0), **options)
            else:  # TransformerLens' own small models
                self.model.call(ids)
        return out[0]

    def _note(self, layer: int, given: Any) -> None:
        """Note the form of a block's output: 0 for a tensor, else the length of its tuple."""
        self._tuples[layer] = len(given) if isinstance(given, tuple) else 0

    @contextmanager
    def _entered(self, states: Mapping[int, Tensor]) -> Iterator[None]:
        first = min(states, default=-1)
        with ExitStack() as undo:
            for start, state in states.items():
                joins = start > first

                def enter(
                    _m: nn.Module, args: Any, named: dict[str, Any], new: Tensor = state, joins: bool = joins
                ) -> Any:
                    before = args[0] if args else named["hidden_states"]
                    rows = torch.cat([before, new]) if joins else new
                    return ((rows, *args[1:]), named) if args else (args, {**named, "hidden_states": rows})

                undo.enter_context(self._blocks[start + 1].register_forward_pre_hook(enter, with_kwargs=True))
            for at in range(first + 1):

                def skip(hidden: Any, *_args: Any, size: int = self._tuples[at], **_named: Any) -> Any:
                    return (hidden, *(None,) * (size - 1)) if size else hidden

                self._blocks[at].__dict__["forward"] = skip  # on the instance: its hooks still run
                undo.callback(self._blocks[at].__dict__.pop, "forward", None)
            yield


def batch_of(ids: Int[Tensor, "rows keys"]) -> Batch:
    """Make a batch of bare token ids."""
    probed = torch.ones(len(ids), 1, dtype=torch.bool, device=ids.device)
    return Batch((NOBODY,) * len(ids), ids, torch.zeros_like(probed, dtype=torch.long), probed)


def _first(given: Any) -> Tensor:
    return given[0] if isinstance(given, tuple) else given  # type: ignore[no-any-return]

"""Run the wrapped model without the bridge's components that have no hooks, for one pass.

A component of the bridge adds hook points to the Hugging Face module inside it. Without hooks on them, the
module alone gives the same numbers faster: no second norm, no unused attention weights. Components with hooks
stay, so that these hooks see and change what they always do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from torch import nn

from elimtool.model.few_rows import few_rows
from elimtool.model.memory import out_of_memory
from elimtool.model.placement import device_of
from elimtool.model.probed import Keep, NotUnderstood, ProbedAttention, attending
from elimtool.model.slots import Slot, Slots
from elimtool.model.view import NOBODY, Batch

log = logging.getLogger(__name__)

FLAGS = ("use_split_qkv_input", "use_attn_in", "use_attn_result", "use_hook_mlp_in")
"""Settings of the bridge that make its components compute something else."""

TRIAL = 8
"""Tokens of the trial pass that shows whether a family can run without its bridge."""


class Native(Slots):
    """Runs a bridge's model without the components that have no hooks.

    Args:
        bridge: The ``TransformerBridge``.
        name: The user's name for the model, for the log.
    """

    def __init__(self, bridge: Any, name: str) -> None:
        super().__init__(bridge)
        self.name = name
        self.why_not = ""

    @cached_property
    def usable(self) -> bool:
        """Whether this architecture can run without its bridge; if not, ``why_not`` says why.

        Tried with a few tokens up to the first layer of each kind: every attention module must call the
        function that it is given, and its output must be what its weights give.
        """
        self.why_not = self._obstacle()
        if self.why_not:
            log.warning("%s: tracing takes the slower way through hooks: %s", self.name, self.why_not)
        return not self.why_not

    def _obstacle(self) -> str:
        if not self._configs:
            return "it is not a model of Hugging Face"
        if not self.attention:
            return "no block has attention that transformers runs"
        kinds = getattr(self._configs[0].get_text_config(), "layer_types", None) or ()
        first: dict[Any, int] = {}
        for module, layer in self.attention.items():
            first.setdefault((type(module), kinds[layer] if layer < len(kinds) else None), layer)
        awaited = {layer for layer in self.attention.values() if layer <= max(first.values())}
        try:
            awaited -= self._tried(max(first.values()))
        except NotUnderstood as error:
            return str(error)
        except Exception as error:  # code of an unknown architecture may raise anything
            if out_of_memory(error):
                raise
            log.debug("%s: the trial without the bridge failed", self.name, exc_info=True)
            return f"{type(error).__name__}: {error}"
        return "its attention does not go through transformers' attention interface" if awaited else ""

    def _tried(self, last: int) -> set[int]:
        """Run up to a layer; return the layers whose attention showed its weights."""
        where = device_of(self.hf, torch.device("cpu"))
        ids = torch.arange(TRIAL, device=where)[None] % self.bridge.cfg.d_vocab
        probed = torch.ones(1, TRIAL, dtype=torch.bool, device=where)
        batch = Batch((NOBODY,), ids, torch.arange(TRIAL, device=where)[None], probed)
        seen: set[int] = set()

        def keep(module: nn.Module, *_shown: Any) -> None:
            seen.add(self.attention[module])

        def stop(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            raise _Enough

        stopping = self.bridge.blocks[last].original_component.register_forward_hook(stop)
        with suppress(_Enough), stopping, torch.inference_mode(), self.running(batch, keep, check=True):
            self.hf(input_ids=ids, use_cache=False)
        return seen

    def hindered(self, parts: Collection[Any] = ()) -> bool:
        """Tell whether a hook is on something that only the bridge's own attention computes, or will be.

        Args:
            parts: Components of the bridge that will be watched.
        """
        if any(getattr(self.bridge.cfg, flag, False) for flag in FLAGS):
            return True
        hidden = self._hidden(parts)
        return _hooked(self._inner) or any(slot.original in self.attention for slot in hidden)

    @property
    def watched(self) -> bool:
        """Whether anything of the model or its bridge has hooks, which may act on places of a batch."""
        return _hooked(self._everything, self._spare)

    @cached_property
    def _inner(self) -> list[nn.Module]:
        """Hook points inside attention: of scores, weights and their inputs."""
        return [
            point
            for slot in self.slots
            if slot.original in self.attention
            for point in slot.points
            if point is not slot.component.hook_in and point is not slot.component.hook_out
        ]

    @cached_property
    def _points(self) -> list[nn.Module]:
        """Hook points of all slots."""
        return [point for slot in self.slots for point in slot.points]

    @cached_property
    def _parts(self) -> list[nn.Module]:
        """Components of all slots."""
        return [part for slot in self.slots for part in slot.parts]

    def _hidden(self, parts: Collection[Any]) -> list[Slot]:
        """Find the components that must stay because the model alone does not have some of ``parts``."""
        hidden = {part for part in parts if part.original_component not in self._inside}
        return [slot for slot in self.slots if hidden.intersection(slot.parts)] if hidden else []

    def _staying(self, parts: Collection[Any]) -> list[Slot]:
        spare, heard = self._spare, list[Slot]()
        if _hooked(self._points) or _hooked(self._parts, spare):  # seldom, and each look costs memory's time
            heard = [slot for slot in self.slots if _hooked(slot.points) or _hooked(slot.parts, spare)]
        return [*heard, *self._hidden(parts)]

    @property
    def _spare(self) -> set[int]:
        """Ids of the bridge's own hooks, which serve ``FLAGS`` alone."""
        blocks = self.bridge.blocks
        return {handle.id for block in blocks for handle in getattr(block, "_capture_hook_handles", ())}

    @contextmanager
    def running(
        self, batch: Batch, keep: Keep | None, parts: Collection[Any] = (), check: bool = False
    ) -> Iterator[set[nn.Module]]:
        """While open, run the model without the bridge and its attention by ``ProbedAttention``.

        Args:
            batch: The batch that runs.
            keep: Called with each attention module, its rows of weights and the keys that they see.
            parts: Components of the bridge that will be watched.
            check: Compare weights with the attention's output, and let no component stay.

        Yields:
            The bridge's components that stay, because they have hooks.
        """
        stay = [] if check else self._staying(parts)
        kept = {slot.component for slot in stay}
        plain = [slot for slot in stay if slot.original in self.attention]
        before = [config._attn_implementation_internal for config in self._configs]
        try:
            for slot in self.slots:
                slot.holder[slot.name] = slot.component if slot.component in kept else slot.original
            for slot in plain:  # the bridge's own attribute setter would pass it on to the module inside
                slot.component.__dict__["forward"] = _around(slot)
            with few_rows(self._linear), attending(ProbedAttention(batch, keep, check)) as name:
                for config in self._configs:
                    config._attn_implementation_internal = name
                yield kept
        finally:
            for config, own in zip(self._configs, before, strict=True):
                config._attn_implementation_internal = own
            for slot in plain:
                slot.component.__dict__.pop("forward", None)
            for slot in self.slots:
                slot.holder[slot.name] = slot.outside


class _Enough(Exception):
    """Ends a trial."""


def _around(slot: Slot) -> Callable[..., Any]:
    """Make a forward for an attention component: the module inside, between the two outer hook points."""

    def forward(*args: Any, **named: Any) -> Any:
        if args:
            args = (slot.component.hook_in(args[0]), *args[1:])
        else:
            named["hidden_states"] = slot.component.hook_in(named["hidden_states"])
        out = slot.original(*args, **named)
        if isinstance(out, tuple):
            return (slot.component.hook_out(out[0]), *out[1:])
        return slot.component.hook_out(out)

    return forward


def _hooked(modules: Collection[nn.Module], spare: Collection[int] = ()) -> bool:
    """Tell whether any of some modules has hooks, except forward pre-hooks with the ids ``spare``."""
    for module in modules:  # thousands in every pass: a plain loop, without a call for each
        before = module._forward_pre_hooks
        if module._forward_hooks or module._backward_hooks or (before and set(before) - set(spare)):
            return True
    return False

"""Read a running model's activations at the probed positions, as one view a layer, without changing any."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from elimtool.errors import ElimError
from elimtool.model.affine import Gain, Norm, Projection, wide
from elimtool.model.attention_reader import AttentionReader
from elimtool.model.decomposition import Decomposition
from elimtool.model.experts import MixtureReader
from elimtool.model.native import Native
from elimtool.model.output_map import OutputMap
from elimtool.model.placement import weight_of
from elimtool.model.taps import Taps
from elimtool.model.view import Batch, Block, LayerView
from elimtool.numerics.median import median, medians
from elimtool.numerics.transfer import sent

BEFORE = ("ln1", "ln2")
BEHIND = ("ln1_post", "ln2_post")


class BlockReader:
    """Reads the parts of one block; made once a model, so that norms are probed once.

    Args:
        block: A block of the bridge.
        width: Size of the residual stream.
        multiplier: Factor of the family on attention's and MLP's outputs before they are added.
        n_heads: Number of query heads.
        sample: Any tensor with the model's dtype and device.
    """

    def __init__(self, block: Any, width: int, multiplier: float, n_heads: int, sample: Tensor) -> None:
        self.block = block
        self.width = width
        self.multiplier = multiplier
        self.n_heads = n_heads
        self.sample = sample
        self.seen: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}
        self.experts = MixtureReader.of(block)

    @cached_property
    def gains(self) -> dict[str, Gain]:
        """Gain and bias of the norms that the block has."""
        found = {name: getattr(self.block, name, None) for name in (*BEFORE, *BEHIND)}
        return {
            name: Gain.of(norm, self.width, self.sample)
            for name, norm in found.items()
            if isinstance(norm, nn.Module)
        }

    @cached_property
    def parts(self) -> dict[str, Any]:
        """Those of output projection, down projection and gate that the block has."""
        attention, mlp = getattr(self.block, "attn", None), getattr(self.block, "mlp", None)
        dense = "dense_" if getattr(mlp, "bound_dense", False) else ""  # between mixtures of experts
        out = getattr(mlp, f"{dense}out", None)
        found = {
            "attention": getattr(attention, "o", None),
            "mlp": out,
            # without a down projection the gate is the router of a mixture
            "gate": None if out is None else getattr(mlp, f"{dense}gate", None),
        }
        return {name: part for name, part in found.items() if hasattr(part, "hook_in")}

    @cached_property
    def sizes(self) -> Tensor:
        """Euclidean norm of each neuron's output per unit of activation: [neurons]."""
        weight, _ = _linear(self.parts["mlp"], self.sample.device)
        assert weight is not None
        return wide(torch.linalg.vector_norm(weight, dim=0))

    @cached_property
    def shown(self) -> dict[str, Any]:
        """The components to watch, by the name of their output."""
        found = dict(self.parts)
        mlp: Any = getattr(self.block, "mlp", None)
        if "mlp" not in found and hasattr(mlp, "hook_out"):
            found["mlp"] = mlp
        return found | {name: getattr(self.block, name) for name in self.gains}

    def attach(self, taps: Taps, batch: Batch) -> None:
        """Watch the block's parts and norms in the next pass."""
        self.seen.clear()

        def keep(name: str) -> Callable[[Tensor], None]:
            def cut(out: Tensor) -> None:
                if out.ndim == 2 and len(out) == batch.running.numel():  # OPT flattens tokens for its MLP
                    out = out.reshape(*batch.running.shape, -1)
                if out.shape[:-1] == batch.running.shape:
                    self.seen[name] = batch.cut(out)  # a copy: the whole activation is freed at once

            return cut

        for name, part in self.shown.items():
            if name != "gate" and (name != "mlp" or name in self.parts):
                taps.into(part, keep(f"{name}.in"))
            taps.out_of(part, keep(f"{name}.out"))
        if self.experts is not None:
            self.experts.attach(taps, batch)

    def take(self, before: Tensor, after: Tensor, whole: Decomposition) -> Block:
        """Return what the pass showed, queue it for comparison with the residual, and forget it."""
        norms = {name: self._norm(name) for name in self.gains}
        ahead = [norms.get(name) or norms.get(other) for name, other in zip(BEFORE, BEHIND, strict=True)]
        behind = [norms.get(name) for name in BEHIND]
        attention = self._projection("attention")
        taken = Block(
            attention=attention,
            mlp=self._projection("mlp"),
            gate=self.seen.get("gate.out"),
            norms=(ahead[0], ahead[1]),
            behind=(behind[0], behind[1]),
            multiplier=self.multiplier,
            n_heads=self.n_heads,
            flaw=whole.ask(),
            output=self._output(attention),
            experts=None if self.experts is None else self.experts.take(self.seen.get("mlp.out")),
        )
        self.seen.clear()
        whole.take(taken, before, after)
        return taken

    def _norm(self, name: str) -> Norm | None:
        inputs, outputs = self.seen.get(f"{name}.in"), self.seen.get(f"{name}.out")
        return None if inputs is None or outputs is None else self.gains[name].frozen(inputs, outputs)

    def _output(self, attention: Projection | None) -> OutputMap | None:
        if attention is None or attention.weight is None:
            return None
        return OutputMap(attention.weight, self.gains.get(BEHIND[0]), self.n_heads, self.kept)

    def _projection(self, name: str) -> Projection | None:
        outputs = self.seen.get(f"{name}.out")
        if outputs is None or outputs.shape[-1] != self.width:
            return None
        weight, bias = _linear(self.parts.get(name), self.sample.device)
        inputs = self.seen.get(f"{name}.in")
        if weight is None or inputs is None or weight.shape != (self.width, inputs.shape[-1]):
            return Projection(None, outputs, None, None)
        return Projection(inputs, outputs, weight, bias, self.sizes if name == "mlp" else None)


def _linear(part: Any, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Read weight [out, in] and bias of a linear layer; ``(None, None)`` where it has none, or integers."""
    layer = getattr(part, "original_component", None)
    weight, bias = weight_of(layer, "weight"), weight_of(layer, "bias")
    if weight is None or weight.ndim != 2 or not weight.is_floating_point():
        return None, None
    turned = weight.T if type(layer).__name__ == "Conv1D" else weight  # GPT-2 stores weights [in, out]
    return turned.to(device), None if bias is None else bias.to(device)


@contextmanager
def captured(
    blocks: Sequence[Any],
    readers: Sequence[BlockReader],
    batch: Batch,
    needs: Collection[str],
    emit: Callable[[LayerView], None],
    native: Native | None = None,
) -> Iterator[None]:
    """While open, pass every layer that runs to ``emit``, as a view with what ``needs`` names.

    Args:
        blocks: The bridge's blocks.
        readers: Their readers, where ``needs`` has ``block``; else empty.
        batch: The batch that runs.
        needs: ``attention``, ``block``, ``context``, ``typical``, ``values`` (with the first two).
        emit: Called for layer -1 (the embedding), then for each block.
        native: Runs the model without the bridge's own attention; ``None`` forms every attention weight.
    """
    reading = AttentionReader(batch, needs)
    before: list[Tensor] = []
    whole = Decomposition()

    def layer(index: int, residual: Tensor, reader: BlockReader | None) -> None:
        _refuse_several(residual, batch, index)
        rows = batch.cut(residual)
        block = None if reader is None else reader.take(before[0], rows, whole)
        last = "context" in needs and index == len(blocks) - 1
        context = batch.spread(residual).to(batch.ids.device) if last else None
        typical = _typical(residual, batch) if "typical" in needs else None
        attention = {} if index < 0 else reading.take(blocks[index], block, before[0], rows)
        before[:] = [rows]
        emit(LayerView(index, batch, rows, block=block, context=context, typical=typical, **attention))

    for known in readers:
        assert known.gains is not None  # running the norms now, before there are hooks that would see it
    with ExitStack() as stack:
        kept = None
        if native is not None:
            parts = [part for reader in readers for part in reader.shown.values()]
            looked = reading.keep if reading.asked else None
            kept = stack.enter_context(native.running(batch, looked, parts))
        taps = Taps(kept)
        stack.callback(taps.remove)
        taps.into(blocks[0], lambda out: layer(-1, out, None))
        for index, block in enumerate(blocks):
            reader = readers[index] if readers else None
            if native is None:
                reading.watch(taps, getattr(block, "attn", None))
            if reader is not None:
                reader.attach(taps, batch)
            taps.out_of(block, lambda out, i=index, r=reader: layer(i, out, r))  # type: ignore[misc]
        yield
    whole.close()


def _refuse_several(residual: Tensor, batch: Batch, layer: int) -> None:
    """Refuse a residual stream that is not one vector for each token."""
    if residual.shape[:-1] != batch.running.shape:
        raise ElimError(
            f"layer {layer} of this architecture does not pass on one vector for each token, but a tensor of"
            f" shape {list(residual.shape)}",
            "elimtool reads one residual stream; models with several side by side cannot be traced",
        )


def _typical(residual: Tensor, batch: Batch) -> Tensor:
    """Return the median absolute value of each prompt's residuals, all its tokens and channels: [batch]."""
    sizes = batch.spread(wide(residual.detach()).abs())
    lengths = [len(one.token_ids) for one in batch.encoded]
    if sizes.is_cpu or sizes.dtype != torch.float32:
        found = [median(one[:length]) for one, length in zip(sizes.cpu().numpy(), lengths, strict=True)]
        return torch.tensor(found, dtype=torch.float32, device=batch.ids.device)
    counts = sent(torch.tensor(lengths) * sizes.shape[-1], sizes.device)
    return medians(sizes.flatten(1), counts).to(batch.ids.device)

"""Define what flows from a model to the metrics: encoded prompts, batches, one layer's activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.model.affine import Norm, Projection, wide
from elimtool.model.carried import Carried
from elimtool.model.heads import Heads
from elimtool.model.mixture import Mixture
from elimtool.model.output_map import OutputMap
from elimtool.model.packing import Packing
from elimtool.model.rows import Formed
from elimtool.numerics.transfer import Array, arrays, sent
from elimtool.prompts.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Span:
    """A named set of token indices of one prompt, ascending."""

    name: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A continuation to follow.

    Attributes:
        text: As the user asked for it.
        token_ids: All its tokens after those that it shares with every other target; rank and probability are
            of the first of them.
        spelling: As it is scored, such as with a space before it.
        token: Text of the token that rank and probability are of.
        is_foil: Whether it is only contrasted with the targets.
        ambiguous: Whether another target or foil has the same first token, so that their rows cannot be told
            apart.
        other_spelling: The other way to write it, with or without a space, which was not chosen, if any.
        other_logprob: Joint log-probability of that (nats); NaN where it was not scored.
    """

    text: str
    token_ids: tuple[int, ...]
    spelling: str
    token: str
    is_foil: bool = False
    ambiguous: bool = False
    other_spelling: str | None = None
    other_logprob: float = nan

    @classmethod
    def single(cls, text: str, token_id: int) -> Target:
        """Return a token of the vocabulary, which nobody asked for, as a target."""
        return cls(text, (token_id,), text, text)

    @property
    def token_id(self) -> int:
        """The token that rank and probability are of."""
        return self.token_ids[0]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt encoded for one model. ``positions`` are the probed query tokens, ascending.

    Its tokens are the prompt's, of which the last ``n_prefill`` begin the answer, then ``n_appended`` that
    targets begin with or ``n_written`` that the model wrote. ``offsets`` are the characters of ``text`` that
    each of the prompt's tokens came from. ``templated`` are those that the chat template wrote, not the user;
    none where the prompt is a text. ``appended_logprob`` is the joint log-probability (nats) of the appended
    tokens, NaN where there are none or it was not scored. ``clock`` is the time that the chat template read,
    ``None`` where it read none. ``control_tokens`` are those in what the user wrote.
    """

    prompt: Prompt
    prompt_id: str
    text: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    n_appended: int
    spans: tuple[Span, ...]
    sinks: tuple[int, ...]
    positions: tuple[int, ...]
    targets: tuple[Target, ...]
    n_prefill: int = 0
    n_written: int = 0
    templated: frozenset[int] = frozenset()
    offsets: tuple[tuple[int, int], ...] = ()
    appended_logprob: float = nan
    clock: str | None = None
    control_tokens: tuple[str, ...] = ()

    def follows(self, position: int) -> int | None:
        """Return the token to follow after a position: prefilled, written, or of a text that is scored."""
        if self.prompt.scored is not None:
            return self.token_ids[position + 1] if position + 1 < len(self.token_ids) else None
        # what is appended for the targets is no answer, so it ends the prompt and its prefill
        end = len(self.token_ids) - self.n_appended
        given = range(end - self.n_prefill - self.n_written, end)
        return self.token_ids[position + 1] if position + 1 in given else None


NOBODY = Encoded(Prompt(text=""), "", "", (), (), 0, (), (), (), ())
"""Placeholder in batches of bare token ids, which belong to no prompt."""


class Rows(tuple[Tensor, Tensor]):
    """``(prompt, probe)`` indices of probed positions on the batch's device, and on the host.

    Attributes:
        here: The indices on the host, which nobody has to wait for.
    """

    here: tuple[Array, Array]

    @classmethod
    def of(cls, prompt: Array, probe: Array, device: torch.device) -> Rows:
        """Send indices to a device."""
        both = sent(torch.from_numpy(np.stack([prompt, probe])), device)
        return cls._with(both[0], both[1], (prompt, probe))

    @classmethod
    def _with(cls, prompt: Tensor, probe: Tensor, here: tuple[Array, Array]) -> Rows:
        made = cls((prompt, probe))
        made.here = here
        return made

    def part(self, some: slice) -> Rows:
        """Return some of the rows."""
        prompt, probe = self.here
        return self._with(self[0][some], self[1][some], (prompt[some], probe[some]))


@dataclass(frozen=True)
class Batch:
    """Encoded prompts side by side, padded on the right, where causal attention does not look.

    ``positions`` are the query indices; ``probed`` says which of them are real, not padding. With ``packing``
    what the prompts begin with alike runs once; activations are then those of the tokens that run, until
    they are cut or spread.
    """

    encoded: tuple[Encoded, ...]
    ids: Int[Tensor, "batch keys"]
    positions: Int[Tensor, "batch probes"]
    probed: Bool[Tensor, "batch probes"]
    packing: Packing | None = None

    @classmethod
    def of(
        cls, encoded: Sequence[Encoded], device: torch.device | str = "cpu", before: bool = False
    ) -> Batch:
        """Pad and stack encoded prompts. The padding token is 0; no real token ever attends to it.

        Args:
            encoded: The prompts.
            device: Where the model expects them.
            before: Whether all positions before the probed ones are queries too.
        """
        queries = [tuple(range(one.positions[-1] + 1)) if before else one.positions for one in encoded]
        longest = max(len(one.token_ids) for one in encoded)
        probes = max(map(len, queries))
        ids = torch.zeros(len(encoded), longest, dtype=torch.long)
        positions = torch.zeros(len(encoded), probes, dtype=torch.long)
        probed = torch.zeros(len(encoded), probes, dtype=torch.bool)
        for row, one in enumerate(encoded):
            ids[row, : len(one.token_ids)] = torch.tensor(one.token_ids)
            positions[row, : len(queries[row])] = torch.tensor(queries[row])
            probed[row, : len(queries[row])] = True
        there = torch.device(device)
        made = cls(tuple(encoded), sent(ids, there), sent(positions, there), sent(probed, there))
        made.__dict__["here"] = {"positions": positions.numpy(), "probed": probed.numpy()}
        return made

    @cached_property
    def here(self) -> dict[str, Array]:
        """``positions`` and ``probed`` on the host."""
        return arrays({"positions": self.positions, "probed": self.probed})

    @cached_property
    def rows(self) -> Rows:
        """``(prompt, probe)`` indices of all real probed positions, in input order."""
        prompt, probe = self.here["probed"].nonzero()
        return Rows.of(prompt, probe, self.ids.device)

    @cached_property
    def sink(self) -> Bool[Tensor, "batch keys"]:
        """Which tokens are sinks."""
        sink = torch.zeros(self.ids.shape, dtype=torch.bool)
        for row, one in enumerate(self.encoded):
            sink[row, list(one.sinks)] = True
        return sent(sink, self.ids.device)

    @property
    def running(self) -> Int[Tensor, "rows tokens"]:
        """Ids of the tokens that run."""
        return self.ids if self.packing is None else self.packing.ids

    @cached_property
    def places(self) -> Int[Tensor, "all"]:
        """All probed positions, real or not, as indices into the tokens that run."""
        if self.packing is not None:
            return self.packing.place.gather(1, self.positions).flatten()
        starts = torch.arange(len(self.ids), device=self.ids.device) * self.ids.shape[1]
        return (starts[:, None] + self.positions).flatten()

    @cached_property
    def full(self) -> bool:
        """Whether every probe is real."""
        return bool(self.here["probed"].all())

    def on(self, device: torch.device) -> Batch:
        """Return the batch with its indices on a device, where another layer of a spread model runs."""
        if device == self.ids.device:
            return self
        ids, positions, probed = (one.to(device) for one in (self.ids, self.positions, self.probed))
        packing = None if self.packing is None else self.packing.on(device)
        moved = replace(self, ids=ids, positions=positions, probed=probed, packing=packing)
        moved.__dict__["here"] = self.here
        return moved

    def cut(self, values: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "batch probes width"]:
        """Copy the probed positions of an activation of the tokens that run."""
        # index_select on flat rows is faster than indexing with two tensors
        found = values.reshape(-1, values.shape[-1]).index_select(0, self.places.to(values.device))
        return found.view(*self.positions.shape, -1).to(self.ids.device)

    def spread(self, values: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "batch keys width"]:
        """Give an activation of the tokens that run to each prompt."""
        return values if self.packing is None else values[0, self.packing.place.to(values.device)]

    def real(self, values: Float[Tensor, "batch probes width"]) -> Float[Tensor, "rows width"]:
        """Select those of cut-out values that belong to real probes, in the order of ``rows``."""
        return values.flatten(0, 1) if self.full else values[self.rows]


@dataclass(frozen=True)
class Block:
    """The parts of one block's update to the residual stream at the probed positions.

    The update is ``multiplier`` times attention's and the MLP's output, each after the norm that some
    families put behind it. Parts that the block does not have, or does not show, are ``None``.

    Attributes:
        attention: The output projection, from heads side by side to attention's output.
        mlp: The down projection, from neurons to the MLP's output.
        gate: Gate pre-activations of a gated MLP.
        norms: The norms before (or else behind) attention and MLP.
        behind: The norms behind attention and MLP.
        multiplier: Factor of the family on both outputs.
        n_heads: Number of query heads.
        experts: The experts of a mixture; ``None`` for any other MLP.
        output: The output projection with the norm behind it; ``None`` without ``heads``.
        flaw: Says why the update is not the sum of these heads and this MLP, ``None`` if it is. Call it late:
            all blocks that ran until then are compared together. Without it this is not known.
    """

    attention: Projection | None
    mlp: Projection | None
    gate: Float[Tensor, "batch probes neurons"] | None
    norms: tuple[Norm | None, Norm | None]
    behind: tuple[Norm | None, Norm | None]
    multiplier: float
    n_heads: int
    flaw: Callable[[], str | None] | None = None
    experts: Mixture | None = None
    output: OutputMap | None = None

    @cached_property
    def heads(self) -> Heads | None:
        """The heads; ``None`` where attention's output is not a sum over them."""
        part = self.attention
        if part is None or part.inputs is None or part.weight is None:
            return None
        whole = part.inputs.shape[-1] % self.n_heads == 0
        return Heads(part.inputs, part.weight, self.n_heads) if whole else None

    def added(self) -> tuple[Float[Tensor, "batch probes width"], Float[Tensor, "batch probes width"]] | None:
        """Return what attention and MLP added, or ``None`` where either is not known."""
        if self.attention is None or self.mlp is None:
            return None
        parts = [
            wide(part.outputs if norm is None else norm.outputs)
            for part, norm in zip((self.attention, self.mlp), self.behind, strict=True)
        ]
        if self.multiplier != 1.0:
            parts = [self.multiplier * part for part in parts]
        return parts[0], parts[1]


@runtime_checkable
class FormedAttention(Protocol):
    """Attention weights of one layer, formed on request."""

    def parts(self) -> Iterator[tuple[slice, Formed]]:
        """Yield slices of probes with their rows, [batch, heads, some, keys], without later keys."""

    def whole(self) -> Formed:
        """Form all rows: [batch, heads, probes, keys]."""

    def of(self, prompts: slice, probes: slice) -> Tensor:
        """Form the weights of some probes of some prompts: [prompts, heads, some, keys]."""


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer's activations at the probed positions, taken while the layer runs.

    ``layer`` -1 is the embedding. The residual stream is always there; anything else that no metric needs, or
    that the layer does not have, is ``None``. Reduce a view and drop it before the next layer runs.

    Attributes:
        residual: The residual stream after the layer, before the final norm, in the model's dtype.
        attention: Attention weights of the probed queries, at least float32; visible keys sum to 1, or
            to less with ``null``. Also ``None`` where they are too many to hold: use ``attention_parts``.
        visible: Keys that each probed query may see in this layer, causal and inside its window if it has
            one; from the mask that the layer itself gets.
        block: Parts of the layer's update to the residual stream; ``None`` for the embedding.
        context: The residual stream at every position, probed or not; for the last layer only.
        rows: Forms attention weights, however many; ``None`` where the layer itself formed them. Keep it
            instead of the weights where these take more memory than queries and keys.
        typical: Median absolute value of the residual stream over all tokens and channels of each prompt.
        scores: What the softmax was taken of, -inf for hidden keys; ``None`` with ``attention``, and where
            only weights are known.
        null: Whether a learned score without a key takes attention too (gpt-oss's ``sinks``).
        null_mass: What it takes; ``None`` as ``attention``, without such a score, and where only weights are
            known.
        carried: What the heads carry from each key; ``None`` where it cannot be read, see ``unread``.
        unread: Why ``carried`` is ``None`` where it was asked for.
        no_weights: Why there are no attention weights where they were asked for; ``None`` if there are.
    """

    layer: int
    batch: Batch
    residual: Float[Tensor, "batch probes width"]
    attention: Float[Tensor, "batch heads probes keys"] | None = None
    visible: Bool[Tensor, "batch probes keys"] | None = None
    block: Block | None = None
    context: Float[Tensor, "batch keys width"] | None = None
    rows: FormedAttention | None = None
    typical: Float[Tensor, " batch"] | None = None
    null: bool = False
    no_weights: str | None = None
    scores: Float[Tensor, "batch heads probes keys"] | None = None
    null_mass: Float[Tensor, "batch heads probes"] | None = None
    carried: Carried | None = None
    unread: str | None = None

    def formed_parts(self) -> Iterator[tuple[slice, Formed]]:
        """Yield slices of probes with their attention rows; nothing for a layer without attention.

        Keys after the last of these probes may be missing.
        """
        if self.attention is not None:
            yield slice(0, self.attention.shape[2]), Formed(self.attention, self.scores, self.null_mass)
        elif self.rows is not None:
            yield from self.rows.parts()

    def attention_parts(self) -> Iterator[tuple[slice, Float[Tensor, "batch heads some keys"]]]:
        """Yield slices of probes with their attention weights, as ``formed_parts``."""
        for some, formed in self.formed_parts():
            yield some, formed.weights

    def all_attention(self) -> Float[Tensor, "batch heads probes keys"] | None:
        """Return the attention weights of all probes, however many; ``None`` without attention."""
        formed = self.rows.whole() if self.attention is None and self.rows is not None else None
        return self.attention if formed is None else formed.weights

"""Score many endings of one prompt: run its beginning once, and continue from its keys and values."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from elimtool.model.affine import tolerance, wide
from elimtool.model.memory import out_of_memory
from elimtool.model.view import NOBODY, Batch
from elimtool.numerics.transfer import sent

if TYPE_CHECKING:
    from elimtool.model.model import Model

log = logging.getLogger(__name__)

Ending = tuple[int, tuple[int, ...]]
"""Number of tokens of the prompt to keep, and the tokens that follow them."""

BATCH_TOKENS = 4096
"""Most padded tokens in one forward pass, unless a single prompt or ending has more."""

LITTLE = 256
"""Up to this many padded tokens, padding costs less than another pass."""

TRIAL = 8
"""Tokens of the trial pass that shows whether a family accepts a mask and positions of ours."""


Keys = list[tuple[Tensor, Tensor]]
"""Keys and values of one prompt by layer, each [1, groups, tokens, size]."""


class PassKeys:
    """Keys and values of a pass over a batch, so that endings of its prompts need no pass of their own."""

    def __init__(self) -> None:
        from transformers.cache_utils import DynamicCache

        self.cache = DynamicCache()

    def of(self, row: int, length: int) -> Keys | None:
        """Return those of one prompt; ``None`` where the model put none there, as the bridge's own code does.

        Args:
            row: Place of the prompt in the batch.
            length: Its tokens.
        """
        layers = self.cache.layers
        if not layers or any(layer.keys is None or layer.keys.shape[2] < length for layer in layers):
            return None
        one = slice(row, row + 1)
        return [(layer.keys[one, :, :length], layer.values[one, :, :length]) for layer in layers]


class Prefix:
    """A prompt with its keys and values.

    Args:
        model: A model for which ``shares_prefixes`` holds.
        ids: The prompt.

    Attributes:
        logits: Its own logits; not there for one of another pass.
    """

    model: Model
    kept: Keys
    logits: Tensor

    def __init__(self, model: Model, ids: Sequence[int]) -> None:
        from transformers.cache_utils import DynamicCache

        self.model = model
        cache = DynamicCache()
        self.logits = _run(model, sent(torch.tensor([list(ids)]), model.device), past_key_values=cache)[0]
        self.kept = [(layer.keys, layer.values) for layer in cache.layers]

    @classmethod
    def of(cls, model: Model, kept: Keys) -> Prefix:
        """Go on from keys and values of another pass over the prompt."""
        made = cls.__new__(cls)
        made.model, made.kept = model, kept
        return made

    def log_probabilities(
        self, endings: Sequence[Ending], ids: Sequence[int]
    ) -> Float64[Tensor, "endings tokens"]:
        """Compute log-probabilities (nats) of tokens after each ending, as a run of the whole text would.

        Args:
            endings: Each with at least one token.
            ids: The tokens.
        """
        order = sorted(range(len(endings)), key=lambda at: (len(endings[at][1]), endings[at][0]))
        wanted = sent(torch.tensor(list(ids)), self.model.device)
        found: dict[int, Tensor] = {}
        for some in _groups([endings[at] for at in order]):
            rows = order[len(found) : len(found) + len(some)]
            logprobs = torch.log_softmax(self._together(some).double(), -1)[:, wanted].cpu()
            found.update(zip(rows, logprobs, strict=True))
        return torch.stack([found[at] for at in range(len(endings))])

    def _together(self, endings: Sequence[Ending]) -> Float[Tensor, "endings vocab"]:
        """Run some endings, padded on the left so that all end in the same column."""
        from transformers.cache_utils import DynamicCache

        device = self.model.device
        shared = max(start for start, _ in endings)
        longest = max(len(ids) for _, ids in endings)
        ids = torch.zeros(len(endings), longest, dtype=torch.long)
        positions = torch.zeros_like(ids)
        for row, (start, own) in enumerate(endings):
            ids[row, longest - len(own) :] = torch.tensor(own)
            positions[row, longest - len(own) :] = torch.arange(start, start + len(own))
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.kept):
            size = (len(endings), -1, -1, -1)
            cache.update(keys[:, :, :shared].expand(size), values[:, :, :shared].expand(size), layer)
        return _run(
            self.model,
            sent(ids, device),
            past_key_values=cache,
            position_ids=sent(positions, device),
            attention_mask=sent(_visible(endings, shared, longest), device)[:, None],
        )


def shares_prefixes(model: Model) -> bool:
    """Try whether a family gives the same with cached keys and values as without."""
    if not hasattr(model.hf, "base_model_prefix") or not model.native.usable:
        return False
    ids = tuple(one % model.vocab for one in range(5, 5 + TRIAL))
    some = range(min(model.vocab, 1000))
    try:  # keep three tokens, leave two out, and continue with the last three
        gone_on = Prefix(model, ids).log_probabilities([(3, ids[5:])], some)[0]
        plain = torch.log_softmax(Prefix(model, ids[:3] + ids[5:]).logits.double(), -1)[list(some)].cpu()
    except Exception as error:  # code of an unknown architecture may raise anything
        if out_of_memory(error):
            raise
        log.debug("%s: the trial with kept keys failed", model.name, exc_info=True)
        return False
    return float((gone_on - plain).abs().max()) <= tolerance(model.dtype) * max(1.0, float(plain.abs().max()))


def window(model: Model) -> int | None:
    """Find the shortest attention window of a model's layers in tokens; ``None`` without one."""
    config = model.config
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    known = [int(size) for size in sizes if isinstance(size, int) and size > 0]
    return min(known, default=None)


def _run(model: Model, ids: Tensor, **options: Any) -> Float[Tensor, "rows vocab"]:
    probed = torch.ones(len(ids), 1, dtype=torch.bool, device=ids.device)
    batch = Batch((NOBODY,) * len(ids), ids, torch.zeros_like(probed, dtype=torch.long), probed)
    with torch.inference_mode(), model.alone(batch):
        logits: Tensor = model.call(ids, use_cache=True, logits_to_keep=1, **options).logits
    return wide(logits[:, -1])


def _visible(endings: Sequence[Ending], shared: int, longest: int) -> Bool[Tensor, "endings new keys"]:
    """Mark the keys that each new token sees: the kept part of the prompt, and new tokens up to itself."""
    kept = torch.tensor([start for start, _ in endings])
    first = torch.tensor([longest - len(own) for _, own in endings])
    at = torch.arange(longest)
    old = (torch.arange(shared) < kept[:, None])[:, None].expand(-1, longest, -1)
    # padding sees itself: a row of attention without any key would be NaN
    new = (at[:, None] >= at) & (at >= first[:, None, None]) | (at[:, None] == at)
    return torch.cat([old, new], -1)


def _groups(endings: Sequence[Ending]) -> Iterator[list[Ending]]:
    """Group consecutive endings for one pass each: not too many keys, and little padding."""
    some: list[Ending] = []
    for one in endings:
        group = [*some, one]
        longest = max(len(own) for _, own in group)
        keys = (longest + max(start for start, _ in group)) * len(group)
        real = sum(len(own) for _, own in group)
        # 1.25: at most a fifth of the new tokens is padding
        if some and (keys > BATCH_TOKENS or longest * len(group) > max(1.25 * real, LITTLE)):
            yield some
            some = []
        some.append(one)
    if some:
        yield some

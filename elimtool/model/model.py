"""Encode prompts for a loaded model, stream its layers in order, and read residuals out as logits.

The model runs inside TransformerLens' ``TransformerBridge`` with the checkpoint's raw weights: no LayerNorm
folding, no centring.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.model.adapters import Adapter
from elimtool.model.affine import Directions, tolerance, wide
from elimtool.model.capture import BlockReader, captured
from elimtool.model.dimensions import Dimensions
from elimtool.model.encode import encode_all
from elimtool.model.head import Head
from elimtool.model.identity import hashes_of
from elimtool.model.interventions import Intervention
from elimtool.model.interventions.edits import Site
from elimtool.model.interventions.install import installed, watching
from elimtool.model.interventions.reference import ReferenceActivations
from elimtool.model.lock import Exclusive, exclusive
from elimtool.model.native import Native
from elimtool.model.own_code import own_code
from elimtool.model.packing import Packing, saves
from elimtool.model.placement import PROCESSOR, Placement, weight_of
from elimtool.model.prefix import PassKeys, shares_prefixes
from elimtool.model.scores import Suspect
from elimtool.model.sharing import packs
from elimtool.model.sound import check_mask, not_finite
from elimtool.model.store import read_json, read_record
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.prompts.position import Position
from elimtool.prompts.prompt import Prompt

Observer = Callable[[LayerView], None]

PROCESSING = "raw"
"""Processing of the weights before use: none."""


@dataclass
class Model(Dimensions, Exclusive):
    """A causal language model under TransformerLens' hooks.

    One call at a time runs a model: calls from other threads wait, also those of functions that take the
    model (``trace``, ``attribute``, ...). After an exception, an interrupt too, the model is as it was.

    Build one with ``elimtool.load_model``, or with ``elimtool.wrap`` from a model that is in memory already.

    Attributes:
        bridge: The ``TransformerBridge``; its hooks and interventions work as TransformerLens documents.
        tokenizer: The model's own tokenizer.
        name: The user's name for the model.
        revision: Commit of a hub model; of a local one the folder that was asked for, else empty.
        revision_name: Revision as it was asked for, such as a branch; empty where none was.
        directory: Directory of the weights; ``None`` for a model made in memory.
        tokenizer_directory: Directory of the tokenizer, if it is another one.
        adapters: What was merged into the weights; empty where an adapter beside them was left out, ``None``
            where there was none.
        interventions: Changes made to the model whenever it streams; see ``intervened``.
        reference: Activations of reference text that they put in.
        placement: Where the weights were put when they were loaded.
        native: Runs the wrapped model without the bridge's components that have no hooks.
    """

    bridge: Any
    tokenizer: Tokenizer
    name: str
    revision: str = ""
    revision_name: str = ""
    directory: Path | None = None
    tokenizer_directory: Path | None = None
    adapters: tuple[Adapter, ...] | None = None
    interventions: tuple[Intervention, ...] = ()
    reference: ReferenceActivations | None = None
    placement: Placement = PROCESSOR
    native: Native = field(init=False, repr=False)
    _hashes: dict[str, str] = field(default_factory=dict, repr=False)
    _head_known: bool = field(default=False, repr=False)
    _keys: PassKeys | None = field(default=None, repr=False)
    _whole: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        self.native = Native(self.bridge, self.name)

    @cached_property
    def vocab(self) -> int:
        """Number of logits; by running the head, since configurations may state another number."""
        return int(self.readout(torch.zeros(1, self.width, dtype=self.dtype, device=self.device)).shape[-1])

    def encode(
        self,
        prompt: Prompt,
        *,
        position: Position = "last",
        sinks: str = "auto",
        target_space: str = "auto",
        units: str = "auto",
        written: tuple[int, ...] = (),
    ) -> Encoded:
        """Tokenise a prompt for this model; see ``encode_all``.

        Raises:
            ElimError: The prompt cannot be used.
        """
        (found,) = self.encode_all([prompt], position, sinks, target_space, units, written)
        if isinstance(found, Exception):
            raise found
        return found

    @exclusive
    def encode_all(
        self,
        prompts: Sequence[Prompt],
        position: Position = "last",
        sinks: str = "auto",
        target_space: str = "auto",
        units: str = "auto",
        written: tuple[int, ...] = (),
        suspect: Suspect | None = None,
    ) -> list[Encoded | Exception]:
        """Tokenise prompts for this model; one that cannot be used is replaced by its error.

        Where a target may be written with and without a space, the model itself says which is likelier, in
        plain passes for all prompts together. See ``elimtool.model.encode`` for the arguments.
        """
        return encode_all(self, prompts, position, sinks, target_space, units, written, suspect)

    @exclusive
    def stream(self, batch: Batch, needs: Collection[str], observe: Observer) -> None:
        """Run a batch and pass each layer to ``observe`` as soon as it has run.

        Args:
            batch: Encoded prompts, on this model's device.
            needs: Activations to show beside the residual stream: ``attention``, ``block``, ``context``,
                ``typical``, ``values`` (what the heads carry, together with ``attention`` and ``block``).
            observe: Called for layer -1 (the embedding), then 0 .. n_layers - 1.

        Raises:
            ElimError: The output is not finite, or this architecture cannot be read out.
        """
        usable = self.native.usable  # tried before there are hooks on the bridge
        readers = self.readers if "block" in needs else []
        # norms are probed here, before an intervention may change what they give
        shown = [part for reader in readers for part in reader.shown.values()]
        plans = [self.interventions] * len(batch.encoded)
        native: Native | None = None
        last: list[Tensor] = []

        def emit(view: LayerView) -> None:
            if native is None:  # native attention works its weights out from the mask, so it cannot disagree
                check_mask(self.name, view)
            last[:] = [view.residual]
            observe(view)

        with torch.inference_mode(), installed(self.bridge, batch, plans, self.reference):
            if usable and not self.native.hindered(shown):
                native = self.native
            run, texts = batch, [one.token_ids for one in batch.encoded]
            if native is not None and self._keys is None and self.shares(texts):
                run = replace(batch, packing=Packing.of(texts, batch.ids.device))
                run.__dict__["here"] = batch.here  # known already: nobody waits for the device again
            with captured(list(self.bridge.blocks), readers, run, needs, emit, native):
                own = self._forward(run)
            if last:
                self._check(batch, own, last[0])

    def shares(self, texts: Sequence[Sequence[int]]) -> bool:
        """Tell whether what texts begin with alike runs once in a pass, which pays and changes nothing."""
        return self.saved(texts) > 0

    def saved(self, texts: Sequence[Sequence[int]]) -> int:
        """Count the tokens that do not run in a pass over texts, as others begin with them.

        Interventions act on places of single prompts, and hooks of others may. Families in which a token
        depends on others by more than attention, or on its place in a row, fail the trial.

        Args:
            texts: Token ids of each; those of a text that is not known are empty.

        Returns:
            0 where each text runs whole.
        """
        found = 0 if self._whole or self.interventions else saves(texts)
        # the trial, which is run once, comes last: hooks would fail it
        return found if found and not self.native.watched and self.packs else 0

    @contextmanager
    def whole(self) -> Iterator[None]:
        """While open, every prompt of a pass runs from its first token on, whatever others begin with."""
        before, self._whole = self._whole, True
        try:
            yield
        finally:
            self._whole = before

    @contextmanager
    def keeping(self, keys: PassKeys | None) -> Iterator[None]:
        """While open, put the keys and values of the first pass that streams there; nothing for ``None``."""
        before, self._keys = self._keys, keys
        try:
            yield
        finally:
            self._keys = before

    def intervened(
        self, interventions: Sequence[Intervention], reference: ReferenceActivations | None = None
    ) -> Model:
        """Return this model with interventions whenever it streams; the weights are shared.

        Args:
            interventions: Made together, in order, on every prompt.
            reference: Activations of reference text (``elimtool.engine.reference``), if one of them needs it.

        Raises:
            ElimError: The model lacks what one of them names.
        """
        for intervention in interventions:
            intervention.check(self)
        other = copy(self)
        other.interventions, other.reference = tuple(interventions), reference
        return other

    @contextmanager
    def watching(
        self, batch: Batch, sites: Sequence[Site], see: Callable[[Site, Tensor], None]
    ) -> Iterator[None]:
        """While open, pass every site's value in a pass of ``batch``, [batch, keys, width], to ``see``."""
        with self.held(), watching(self.bridge, batch, sites, see):
            yield

    @contextmanager
    def alone(self, batch: Batch) -> Iterator[None]:
        """While open, run the wrapped model without the bridge, except for components with hooks."""
        with self.held(), self.native.running(batch, None):
            yield

    def call(self, ids: Int[Tensor, "rows keys"], **options: Any) -> Any:
        """Run the wrapped model once, as it is now, and return its output.

        Raises:
            ElimError: The model's own code failed.
        """
        with own_code(self.name):
            return self.hf(input_ids=ids, **options)

    @cached_property
    def shares_prefixes(self) -> bool:
        """Whether other endings of a prompt can continue from its cached keys and values."""
        return shares_prefixes(self)

    @cached_property
    def packs(self) -> bool:
        """Whether what prompts begin with alike can run once for all of them."""
        return self.native.usable and packs(self)

    @exclusive
    def readout(
        self, residual: Float[Tensor, "rows width"], room: Float[Tensor, "most vocab"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Compute logits of residual streams by the model's own head.

        The head runs on the given residuals, so that whatever a family does after the final norm (soft caps,
        logit scales, biases) is included.

        Args:
            residual: Residuals of the last layer, or mapped into its basis.
            room: Memory to reuse for float32 logits on the CPU, where they fit and the unembedding is a plain
                linear layer; the next readout overwrites them.

        Returns:
            float32 logits (float64 for a float64 model).
        """
        with torch.inference_mode():
            return self._head.logits(residual, room)

    @exclusive
    def directions(
        self,
        residual: Float[Tensor, "rows width"],
        tokens: Int[Tensor, "rows k"],
        logits: Float[Tensor, "rows vocab"],
    ) -> Directions:
        """Give the logits of some tokens as affine functions of a last residual; see ``Head.directions``."""
        with torch.inference_mode():
            return self._head.directions(residual, tokens, logits)

    @exclusive
    def written(self, tokens: Int[Tensor, " k"]) -> Float[Tensor, "k width"]:
        """Give what a vector in the last residual must point along to raise tokens' logits.

        The unembedding's rows through the final norm's gain and centring, without its scale and any bias:
        only the order of what one vector gives several tokens has a meaning.

        Args:
            tokens: Vocabulary indices.
        """
        with torch.inference_mode():
            return self._head.written(tokens)

    @exclusive
    def token_vectors(self, space: str) -> Float[Tensor, "vocab width"]:
        """Give the rows of the unembedding (``unembed``) or of the embedding (``embed``) for every logit.

        As they are stored: without the final norm's gain, and without what a family multiplies embeddings by.

        Raises:
            ElimError: There is no weight matrix of the model's width to read them from.
        """
        with torch.inference_mode():
            if space == "unembed":
                return self._head.rows()[: self.vocab].detach()
            table = getattr(getattr(self.bridge, "embed", None), "original_component", None)
            rows = weight_of(table, "weight")
            if rows is None or rows.ndim != 2 or rows.shape[1] != self.width:
                raise ElimError(
                    f"{self.name}: the embedding has no rows of the model's width",
                    "read the unembedding instead",
                )
            return wide(rows[: self.vocab]).to(self.device).detach()

    @exclusive
    def normed(self, residual: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """Apply the final norm to residuals of the last layer, or mapped into its basis."""
        with torch.inference_mode():
            return wide(self._head.normed(residual)).to(self.device)

    @exclusive
    def cosines(self, residual: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocab"]:
        """Compute the cosine of residuals after the final norm with every row of the unembedding.

        Args:
            residual: Residuals of the last layer, or mapped into its basis.

        Returns:
            The cosines, NaN where the norm gives 0.

        Raises:
            ElimError: There is no weight matrix of the model's width to read the rows from.
        """
        with torch.inference_mode():
            rows, found = self.token_vectors("unembed"), self.normed(residual)
            products = found @ rows.T
            products /= torch.linalg.vector_norm(rows, dim=-1)
            return products.div_(torch.linalg.vector_norm(found, dim=-1, keepdim=True))

    @exclusive
    def slopes(
        self, residual: Float[Tensor, "width"], steps: Float[Tensor, "k width"]
    ) -> Float[Tensor, "k vocab"]:
        """Differentiate all logits along some directions at a last residual, through norm, scales and caps.

        Args:
            residual: Where: a residual of the last layer.
            steps: Directions; the derivative is by a multiple of each, as long as it is given.
        """
        with torch.inference_mode():
            return self._head.slopes(residual, steps)

    @cached_property
    def _head(self) -> Head:
        return Head(self.bridge, self.name, self._sample)

    @cached_property
    def readers(self) -> list[BlockReader]:
        """One reader for each block."""
        multiplier = float(getattr(self.config, "residual_multiplier", None) or 1.0)
        return [
            BlockReader(block, self.width, multiplier, self.n_heads, self._sample)
            for block in self.bridge.blocks
        ]

    def _forward(self, batch: Batch) -> Tensor | None:
        """Run the model; the first time, return its logits at the first prompt's first probed position."""
        # later passes skip the unembedding: logits are read out of residuals
        first = 0 if self._head_known else int(batch.places[0]) % batch.running.shape[1]
        # no indices, which would have to lie where the last layer does
        keep = slice(first, first if self._head_known else first + 1)
        if hasattr(self.hf, "base_model_prefix"):
            keys, self._keys = self._keys, None  # of this pass alone: the next would be read as its sequel
            more = {} if keys is None else {"past_key_values": keys.cache}
            if batch.packing is not None:
                more = batch.packing.options
            output = self.call(batch.running, use_cache=keys is not None, logits_to_keep=keep, **more)
            logits = output.logits.to(self.device)
        else:
            logits = self.call(batch.ids)[:, keep]
        return None if self._head_known else logits[0, 0]

    def _check(self, batch: Batch, own: Tensor | None, residual: Tensor) -> None:
        """Refuse outputs that are not finite, and families whose head this code would run wrongly."""
        finite = (residual.isfinite().all(-1) | ~batch.probed).all()
        if own is not None:
            finite = finite & own.isfinite().all()
        if not bool(finite):
            raise not_finite(self.name, self.hf, self.dtype)
        if own is None:
            return
        read = self.readout(residual[0, :1])[0]
        same = read.shape == own.shape
        difference = float((read - own.to(read.dtype)).abs().max()) if same else float("inf")
        if difference > tolerance(self.dtype) * max(1.0, float(own.abs().max())):
            raise ElimError(
                f"{self.name}: the last residual, read out, differs from the logits by {difference:.3g}",
                "elimtool does not know how this architecture turns its last layer into logits",
            )
        self._head_known = True

    @cached_property
    def shipped_sampling(self) -> dict[str, dict[str, Any]]:
        """Sampler settings that the model ships with, by file and key; empty for a model made in memory."""
        if self.directory is None:
            given = getattr(self.hf, "generation_config", None)
            return {} if given is None else {"generation_config.json": given.to_diff_dict()}
        own = read_json(self.directory / "generation_config.json")
        kept = read_record(self.directory).get("sampling")
        return {"generation_config.json": own, "general.sampling": kept if isinstance(kept, dict) else {}}

    def hashes(self) -> dict[str, str]:
        """Return ``weights_sha256`` and ``tokenizer_sha256``, of the files or of the model in memory."""
        if not self._hashes:
            self._hashes.update(hashes_of(self))
        return self._hashes

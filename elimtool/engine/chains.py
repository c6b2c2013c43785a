"""The sampler chains of a run, resolved for its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from elimtool.errors import ElimError
from elimtool.model.decode import end_ids
from elimtool.samplers import Chain, Stage, resolve
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.logit_bias import LogitBias
from elimtool.samplers.shipped import MODEL, parted

if TYPE_CHECKING:
    from elimtool.model.model import Model


def refuse_confusable(chains: Sequence[Chain]) -> None:
    """Refuse different chains of one name: tables tell them apart by it.

    Raises:
        ElimError: Two have the same name.
    """
    known: dict[str, Chain] = {}
    for chain in chains:
        if known.setdefault(chain.name, chain) != chain:
            raise ElimError(f"two different chains are called '{chain.name}'", "give each a name of its own")


def chain_for(
    model: Model, spec: str | Chain | Stage, model_sampling: bool = True, grammar: Grammar | None = None
) -> Chain:
    """Resolve a sampler chain for a model, with DRY's breakers and grammars in its tokens.

    Args:
        model: The model.
        spec: The chain or its name, see ``resolve``.
        model_sampling: Whether a preset has the model's own settings laid over it as its engine does;
            ``PRESET@model`` has them in any case.
        grammar: A grammar for the chain, see ``resolve``.

    Raises:
        ElimError: The chain cannot be resolved.
    """
    asked = isinstance(spec, str) and parted(spec)[1] == MODEL
    chain = resolve(spec, model.shipped_sampling if model_sampling or asked else None, grammar)
    chain = chain.with_ends(sorted(end_ids(model)))
    if any(isinstance(stage, Grammar) and not stage.is_off() for stage in chain.stages):
        chain = chain.with_tokenizer(model.tokenizer.definition, model.vocab)
    for stage in chain.stages:
        if isinstance(stage, LogitBias):
            stage.check_vocabulary(model.vocab)
    if not chain.wants_text:
        return chain  # spelling the whole vocabulary takes time
    backend = model.tokenizer.backend
    pieces = model.tokenizer.texts(range(len(backend)))
    control = model.tokenizer.control_ids
    return chain.with_vocabulary(
        pieces, lambda text: backend(text, add_special_tokens=False).input_ids, control
    )

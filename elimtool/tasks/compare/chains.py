"""Compare what two sampler chains remove from the same output of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elimtool.analysis.compare.chains import compare_chains
from elimtool.analysis.compare.side import Side
from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.wrapping import Bridge, takes_bridges
from elimtool.prompts.position import OnePosition, check_position
from elimtool.tasks.trace import trace

if TYPE_CHECKING:
    from elimtool.prompts.prompt import Prompt
    from elimtool.run.comparison import Comparison

TABLES = ("top_tokens", "survival", "verdicts", "sampling", "sampling_targets", "chain_differences")
"""Tables for which the model is traced."""


@takes_bridges
@exclusive
def compare_samplers(
    model: Model | Bridge,
    prompts: str | Prompt | Iterable[str | Prompt],
    *,
    targets: Sequence[str] = (),
    foils: Sequence[str] = (),
    options: TraceOptions | None = None,
    unread: Mapping[str, ElimError] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare what two sampler chains leave of a model's output; differences are B minus A.

    Args:
        model: From ``load_model`` or ``wrap``, or a ``TransformerBridge``; calls on one wait for each other.
        prompts: Strings or ``Prompt`` objects.
        targets: Continuations to follow, for prompts that name none of their own.
        foils: Continuations to contrast them with, likewise.
        options: Its ``samplers`` are the two chains.
        unread: Records of a file that could not be read, by id; they become pairs with the error.
        seed: Seeds the resampling of the statistics.

    Raises:
        ElimError: The number of chains is not two, or an option or every prompt cannot be used.
    """
    assert isinstance(model, Model)
    options = options or TraceOptions()
    if len(options.samplers) != 2:
        raise ElimError(f"`samplers` must name two chains to compare, got {len(options.samplers):,}")
    check_position(options.position, several=False)
    # a chain given twice is traced once: chains of a run have different names
    once = tuple(dict.fromkeys(options.samplers))
    run = trace(
        model,
        prompts,
        targets=targets,
        foils=foils,
        options=replace(options, samplers=once, tables=TABLES, errors="row"),
    )
    names = tuple(Side(run).chains)
    at = options.position
    where: OnePosition = at if isinstance(at, int) and at >= 0 else "last"  # one was probed of each prompt
    return compare_chains(run, names[0], names[-1], position=where, unread=unread, seed=seed)

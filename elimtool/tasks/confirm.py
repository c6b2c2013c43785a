"""Test the culprits that verdicts name by ablation.

A component is confirmed to have suppressed a target if ablating it raises the target's log-probability by
more than a threshold, by more than ablating 95 % of random components of its kind does, and with one sign
under mean and resample ablation; to have promoted it, if ablating it likewise lowers the log-probability.
Components compensate for each other (McGrath et al. 2023, arXiv 2307.15771), so failing the test does not
clear one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from elimtool.analysis.evidence import DELTA, DELTA_HALF, NULL_COMPONENTS, ROLES, CausalTest, evidence
from elimtool.engine.defects import Failed, costs_only
from elimtool.engine.reference import ensure_reference
from elimtool.engine.scoring import log_probabilities
from elimtool.files.rows import Rows
from elimtool.model.interventions import Ablate, Component
from elimtool.model.interventions.install import Plan
from elimtool.model.interventions.recording import dtype_name
from elimtool.model.lock import exclusive
from elimtool.model.view import Encoded

if TYPE_CHECKING:
    from elimtool.model.interventions.reference import ReferenceActivations
    from elimtool.model.model import Model
    from elimtool.run import Run


@exclusive
def confirm(
    model: Model,
    run: Run,
    encoded: Sequence[Encoded],
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    failed: Failed | None = None,
) -> Rows:
    """Test the culprits of the pass without interventions; return the rows of ``verdicts`` with the results.

    Args:
        model: The model, without interventions.
        run: A run with ``verdicts`` and ``survival``.
        encoded: The prompts of the run that could be used.
        seed: Seed for drawing the controls.
        progress: Called with (prompts done, prompts in all).
        failed: Called for a prompt whose test fails, whose rows stay untested; without, the error is raised.
    """
    rows: Rows = run.arrow("verdicts").to_pylist()
    survival = run.under(None).arrow("survival").to_pylist()
    tokens = {(row["prompt_id"], row["position"], row["target"]): row["token_id"] for row in survival}
    reference = ensure_reference(model)
    delta = DELTA.get(dtype_name(model.dtype), DELTA_HALF)
    for number, one in enumerate(encoded, start=1):
        own = [row for row in rows if row["prompt_id"] == one.prompt_id and row["intervention"] is None]
        ids = [tokens[one.prompt_id, row["position"], row["target"]] for row in own]
        with costs_only(one, failed):
            _test(model, one, own, ids, reference, seed, delta)
        if progress is not None:
            progress(number, len(encoded))
    return rows


def _test(
    model: Model,
    one: Encoded,
    rows: Rows,
    ids: Sequence[int],
    reference: ReferenceActivations,
    seed: int,
    delta: float,
) -> None:
    """Fill in the columns of one prompt's verdicts; each component is ablated once for all of them."""
    named = {
        role: [None if row[role] is None else Component.parse(row[role]) for row in rows] for role in ROLES
    }
    culprits = sorted({one for some in named.values() for one in some if one is not None}, key=str)
    controls = {one: controls_of(one, model.n_layers, model.n_heads, seed) for one in culprits}
    means = sorted({*culprits, *(other for some in controls.values() for other in some)}, key=str)
    plans: list[Plan] = [()]
    plans += [(Ablate(str(part)),) for part in means]
    plans += [(Ablate(str(part), "resample", seed),) for part in culprits]
    where = [one.positions.index(row["position"]) for row in rows]
    logprobs = log_probabilities(model, [one] * len(plans), plans, reference, where, ids)
    changes = (logprobs[1:] - logprobs[0]).tolist()
    # the first changes are those of mean ablations, the rest those of resample ablations
    by_mean = dict(zip(means, changes, strict=False))
    resampled = dict(zip(culprits, changes[len(means) :], strict=True))
    for index, row in enumerate(rows):
        for role in ROLES:
            part = named[role][index]
            if part is not None:
                others = tuple(by_mean[other][index] for other in controls[part])
                test = CausalTest(by_mean[part][index], resampled[part][index], others)
                row.update(test.columns(role, delta))
        row["evidence"] = evidence(row)


def controls_of(part: Component, n_layers: int, n_heads: int, seed: int) -> list[Component]:
    """Draw random components of the same kind, from the nearest layers that together have enough of them.

    Args:
        part: The culprit, which is never drawn.
        n_layers: Number of layers of the model.
        n_heads: Heads per layer.
        seed: Seed of the draw.

    Returns:
        ``NULL_COMPONENTS`` components, or as many as the model has.
    """
    pool: list[Component] = []
    for distance in range(n_layers):
        layers = {part.layer - distance, part.layer + distance}
        for layer in sorted(layer for layer in layers if 0 <= layer < n_layers):
            heads: Iterable[int | None] = [None] if part.head is None else range(n_heads)
            pool += [found for head in heads if (found := Component(layer, head)) != part]
        if len(pool) >= NULL_COMPONENTS:
            break
    dice = random.Random(f"{seed} {part}")
    return dice.sample(pool, min(NULL_COMPONENTS, len(pool)))

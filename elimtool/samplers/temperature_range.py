"""Find the interval of temperatures at which each target survives a chain.

A chain is split at its temperature stage. The stages before do not depend on T. After it, top-k, min-p,
top-p, top-a, top-n-sigma and greedy choice keep a prefix of the tokens sorted by score, and the prefix grows
with T: over a prefix, softmax at a lower T majorises that at a higher one, so the mass before a token falls
and its ratio to the best rises. A target therefore survives above some T, see ``edges``. Epsilon alone
keeps a token between two temperatures: ``d ln p / dT = (E[l] - l) / T^2`` changes sign once. For other stages
no interval is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from elimtool.numerics.transfer import roomy, sent
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.chain import Chain, step
from elimtool.samplers.dynamic_temperature import DynamicTemperature
from elimtool.samplers.epsilon import Epsilon
from elimtool.samplers.falling import Falling
from elimtool.samplers.grammar import checks
from elimtool.samplers.greedy import Greedy
from elimtool.samplers.history import History
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.logit_bias import LogitBias
from elimtool.samplers.min_p import MinP
from elimtool.samplers.order import FEW
from elimtool.samplers.stage import Context, Stage, level
from elimtool.samplers.temperature import Temperature
from elimtool.samplers.top_a import TopA
from elimtool.samplers.top_k import TopK
from elimtool.samplers.top_n_sigma import TopNSigma
from elimtool.samplers.top_p import TopP

NAN, INF = float("nan"), float("inf")
HELD = 2**20
"""Weights of targets that are held at a time."""
WORDS = ("", "always", "never", "interval", "not determined")
"""What is known about a target, by code."""
Ends = Float64[Tensor, "rows k"]
Alive = Bool[Tensor, "rows k"]


@dataclass(frozen=True, eq=False)
class TemperatureRanges:
    """Temperatures at which each target survives a chain, among those that do not mean greedy choice.

    Attributes:
        t_min: Least T, 0 where it survives every low T; NaN without an interval.
        t_max: Greatest T, infinity without a limit.
        code: Place of the status in ``WORDS``.
    """

    t_min: Ends
    t_max: Ends
    code: Int64[Tensor, "rows k"]

    @property
    def status(self) -> list[list[str]]:
        """What is known, by row and target.

        ``interval``, ``always``, ``never`` or ``not determined`` (no rule is known for the stages after the
        temperature, and no interval is claimed); empty for padding.
        """
        return [[WORDS[one] for one in row] for row in self.code.tolist()]


def temperature_ranges(
    chain: Chain,
    logits: Float[Tensor, "rows vocab"],
    targets: Int[Tensor, "rows k"],
    histories: Sequence[History] | None = None,
    begun: Candidates | None = None,
    ledger: Ledger | None = None,
) -> TemperatureRanges:
    """Find the temperatures at which each target survives ``chain``.

    Args:
        chain: Any chain; without a temperature stage T has no effect.
        logits: Any float dtype, ``-inf`` allowed.
        targets: Token ids, -1 = none.
        histories: One per row; ``None`` = empty.
        begun: ``Candidates.of(logits, targets)``, if there is one already.
        ledger: Ledger of the chain on the same rows, if it has been run already.
    """
    at = _temperature_stage(chain)
    reached = len(chain.stages) if at is None else at
    after = () if at is None else tuple(s for s in chain.stages[at + 1 :] if not s.is_off())
    if any(map(checks, chain.stages)):
        ledger = ledger or chain.run(logits, targets, histories, begun=begun)
        return _mixed(chain, ledger, at, after)
    context = Context(histories if histories is not None else [History()] * logits.shape[0])
    if ledger is not None and chain.precision == "exact":
        c = ledger.before(reached)
    else:
        c = begun or Candidates.of(logits, targets)
        c = c if chain.acts_on_device else c.here
        for stage in chain.stages[:reached]:
            c, _ = step(stage, c, context)
    targets = sent(targets, c.scores.device)
    if not any(_removes(s) for s in after):
        return _answer(~c.gone, c.gone, targets)
    c, left, known = _prepare(c, after, context)
    if not left:
        return _answer(~c.gone, c.gone, targets)
    if not _monotone(left):
        return _answer(known, c.gone, targets)
    low, high = _intervals(c, left, known & ~c.gone)
    never = c.gone | (known & (~(low <= high) | (low == INF)))
    return _answer(known & ~never & (low == 0) & (high == INF), never, targets, (known, low, high))


def _temperature_stage(chain: Chain) -> int | None:
    """Return the index of the stage whose T is varied."""
    plain = [i for i, s in enumerate(chain.stages) if isinstance(s, Temperature)]
    dynamic = [i for i, s in enumerate(chain.stages) if isinstance(s, DynamicTemperature) and s.delta == 0]
    found = plain or dynamic
    return found[0] if found else None


def _mixed(chain: Chain, ledger: Ledger, at: int | None, after: Sequence[Stage]) -> TemperatureRanges:
    """Answer for a chain that runs twice: from its ledger, unless T decides what either pass removes."""
    removing = any(_removes(stage) for stage in after if not checks(stage))
    gone = ledger.end.gone
    if removing or (at is not None and _removes(chain.stages[at])):
        nobody = torch.zeros_like(gone)
        return _answer(nobody, nobody, ledger.targets)
    return _answer(~gone, gone, ledger.targets)


def _removes(stage: Stage) -> bool:
    """Return whether a stage can remove tokens."""
    if isinstance(stage, LogitBias):
        return any(value == -INF for _, value in stage.effective)
    if isinstance(stage, Temperature):
        return stage.effective is None
    if isinstance(stage, DynamicTemperature):
        return stage.temperature <= 0
    return stage.role in ("truncate", "ban", "require", "force") or stage.kind in ("sequence_bias", "dola")


def _prepare(
    c: Candidates, after: Sequence[Stage], context: Context
) -> tuple[Candidates, tuple[Stage, ...], Alive]:
    """Apply the leading stages that T cannot change, and sort; mark the targets whose rest is monotone."""
    # a mass measured before any removal must still see what these stages would remove
    full = any(isinstance(s, TopP) and s.mass_of == "full" for s in after)
    left: list[Stage] = []
    for stage in after:
        fixed = isinstance(stage, TopK | Greedy) or (isinstance(stage, TopNSigma) and not left)
        if fixed and not full and all(isinstance(s, MinP) for s in left):
            c, _ = step(stage, c, context)
        else:
            left.append(stage)
    if not _monotone(left):
        return c, tuple(left), torch.zeros_like(c.gone)
    c = c.sorted() if left else c
    every = torch.ones_like(c.gone)
    if any(isinstance(s, TopP) and s.ties == "torch" for s in left):
        every &= ~_tied(c)
    if any(getattr(s, "flat", "cut") == "kept" for s in left):
        every &= ~level(c)
    return c, tuple(left), every


def _monotone(stages: Sequence[Stage]) -> bool:
    """Return whether a target survives stages between two temperatures."""
    kinds = [type(s) for s in stages]
    if Epsilon in kinds:
        return all(k in (MinP, Epsilon, TopK, Greedy) for k in kinds) and kinds[0] is Epsilon
    return all(k in (MinP, TopP, TopA, TopK, Greedy) for k in kinds)


def _tied(c: Candidates) -> Alive:
    """Return which surviving targets of sorted candidates are tied with another token."""
    beside = [(c.slots + by).clamp(0, c.width - 1) for by in (-1, 1)]
    ties = [(c.scores.gather(1, at) == c.target_scores) & (at != c.slots) for at in beside]
    return (ties[0] | ties[1]) & ~c.gone


def _intervals(c: Candidates, stages: Sequence[Stage], wanted: Alive) -> tuple[Ends, Ends]:
    """Find the ends of the intervals of wanted targets among sorted survivors; infinity for others."""
    low, high = torch.full((2, *wanted.shape), INF, dtype=torch.float64, device=wanted.device)
    shifted = c.scores.double() - c.top.double()
    alone = wanted.is_cpu and c.width >= FEW  # wide rows one by one: each has other survivors
    if wanted.is_cpu:
        row, k = wanted.nonzero(as_tuple=True)
        if not len(row):
            return low, high
    else:  # which are wanted, the host would have to wait for
        place = torch.arange(wanted.numel(), device=wanted.device)
        row, k = place // wanted.shape[1], place % wanted.shape[1]
    each = wanted.sum(-1)
    sizes = each[each > 0].tolist() if alone else max(1, roomy(HELD, wanted.device) // c.width)
    for of, column in zip(torch.split(row, sizes), torch.split(k, sizes), strict=True):
        logits = shifted[of[:1]] if alone else shifted
        found = Falling(
            logits,
            of - of[0] if alone else of,
            c.n[of].clamp(min=1),
            c.slots[of, column].clamp(min=0),
            torch.full(of.shape, INF, dtype=torch.float64, device=of.device),
        )
        low[of, column], high[of, column] = found.interval(stages)
    return low, high


def _answer(
    always: Alive,
    never: Alive,
    targets: Int[Tensor, "rows k"],
    found: tuple[Alive, Ends, Ends] | None = None,
) -> TemperatureRanges:
    """Build the result; ``found``: for which targets an interval is known, and its ends."""
    padding = targets < 0
    shape = targets.shape
    nan = torch.full(shape, NAN, dtype=torch.float64, device=targets.device)
    known, low, high = found or (torch.zeros_like(padding), nan, nan)
    inside = known & ~always & ~never
    t_min = torch.where(always, 0.0, torch.where(inside, low, nan))
    t_max = torch.where(always, INF, torch.where(inside, high, nan))
    code = torch.where(always, 1, torch.where(never, 2, torch.where(inside, 3, 4)))
    return TemperatureRanges(
        t_min.masked_fill(padding, NAN), t_max.masked_fill(padding, NAN), code.masked_fill(padding, 0)
    )

"""Find the interval of temperatures at which each target survives a chain.

A chain is split at its temperature stage. The stages before do not depend on T. After it, top-k, min-p,
top-p, top-a, top-n-sigma and greedy choice keep a prefix of the tokens sorted by score, and the prefix grows
with T: over a prefix, softmax at a lower T majorises that at a higher one, so the mass before a token falls
and its ratio to the best rises. A target therefore survives above some T, found by bisection. Epsilon alone
keeps a token between two temperatures: ``d ln p / dT = (E[l] - l) / T^2`` changes sign once. For other stages
no interval is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.chain import Chain, step
from elimtool.samplers.dynamic_temperature import DynamicTemperature
from elimtool.samplers.epsilon import Epsilon
from elimtool.samplers.grammar import checks
from elimtool.samplers.greedy import Greedy
from elimtool.samplers.history import History
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.logit_bias import LogitBias
from elimtool.samplers.min_p import MinP
from elimtool.samplers.order import dot
from elimtool.samplers.stage import Context, Stage, level
from elimtool.samplers.temperature import Temperature
from elimtool.samplers.top_a import TopA
from elimtool.samplers.top_k import TopK
from elimtool.samplers.top_n_sigma import TopNSigma
from elimtool.samplers.top_p import TopP

NAN, INF = float("nan"), float("inf")
ROOM = 1e-11
"""Relative width of the final bracket around an edge."""
Temperatures = Float64[Tensor, "rows k"]
Alive = Bool[Tensor, "rows k"]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TemperatureRanges:
    """Temperatures at which each target survives a chain, among those that do not mean greedy choice.

    Attributes:
        t_min: Least T, 0 where it survives every low T; NaN without an interval.
        t_max: Greatest T, infinity without a limit.
        status: ``interval``, ``always``, ``never`` or ``not determined`` (no rule is known for the stages
            after the temperature, and no interval is claimed), by row and target; empty for padding.
    """

    t_min: Temperatures
    t_max: Temperatures
    status: list[list[str]]


@dataclass(frozen=True, eq=False)
class _Target:
    """One surviving target at the temperature stage.

    Attributes:
        logits: Falling logits of the survivors, shifted so that the best is 0.
        slot: Index of the target in them.
        stages: Active stages after the temperature that depend on T.
    """

    logits: Scores
    slot: int
    stages: tuple[Stage, ...]

    @property
    def gap(self) -> float:
        """Distance of the target's logit from the best, >= 0."""
        return -float(self.logits[self.slot])

    def first_tied(self) -> int:
        """Return the index of the first token with the target's logit."""
        return int(np.searchsorted(-self.logits, self.gap))


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
        for stage in chain.stages[:reached]:
            c, _ = step(stage, c, context)
    targets = targets.cpu()
    if not any(_removes(s) for s in after):
        return _answer(~c.gone, c.gone, targets)
    c, left, known = _prepare(c, after, context)
    if not left:
        return _answer(~c.gone, c.gone, targets)
    low = torch.full(targets.shape, INF, dtype=torch.float64)
    high = torch.full(targets.shape, INF, dtype=torch.float64)
    for row, column in (known & ~c.gone).nonzero().tolist():
        survivors = (c.scores[row, : int(c.n[row])] - c.top[row]).double()
        target = _Target(survivors.numpy(), int(c.slots[row, column]), left)
        low[row, column], high[row, column] = _interval(target)
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
    c = c.sorted() if left else c
    kinds = [type(s) for s in left]
    known = all(k in (MinP, TopP, TopA, TopK, Greedy, Epsilon) for k in kinds)
    if Epsilon in kinds:
        known = known and all(k in (MinP, Epsilon, TopK, Greedy) for k in kinds) and kinds[0] is Epsilon
    every = torch.full(c.gone.shape, known)
    if any(isinstance(s, TopP) and s.ties == "torch" for s in left):
        every &= ~_tied(c)
    if any(getattr(s, "flat", "cut") == "kept" for s in left):
        every &= ~level(c)
    return c, tuple(left), every


def _tied(c: Candidates) -> Alive:
    """Return which surviving targets are tied with another token."""
    ties = (c.scores[:, None, :] == c.target_scores[:, :, None]).sum(-1) > 1
    return ties & ~c.gone


def _slack(target: _Target, t: float) -> float:
    """Return how far the target is inside the surviving prefix at T = t, >= 0 for survival; grows with t."""
    z, mine = target.logits, -target.gap
    weights = np.exp(z / t)
    length = z.shape[0]
    slack = INF
    for stage in target.stages:
        whole = float(weights[:length].sum()) if isinstance(stage, TopA | TopP) else NAN
        if isinstance(stage, MinP | TopA):
            edge = log(stage.p) if isinstance(stage, MinP) else log(stage.a / whole)
            kept = int(np.searchsorted(-z, -edge * t, side="right"))
            own = mine / t - edge
        elif isinstance(stage, TopP):
            place = target.first_tied() if stage.ties == "all" else target.slot
            total = float(weights.sum()) if stage.mass_of == "full" else whole
            own = stage.p - float(weights[:place].sum()) / total
            kept = (
                int(np.count_nonzero(weights.cumsum() < stage.p * total)) + 1
                if stage is not target.stages[-1]
                else length
            )
        else:
            kept = 1 if isinstance(stage, Greedy) else _reach(stage, z)
            own = INF if target.slot < kept else -INF
        least = max(1, getattr(stage, "min_keep", 0))
        slack = min(slack, own) if target.slot >= least else slack
        length = min(length, max(kept, least))
    return slack


def _reach(stage: Stage, z: Scores) -> int:
    """Return how many tokens a top-k keeps at any T."""
    if not isinstance(stage, TopK):
        raise TypeError(f"{stage.name} is not supported here")
    k = min(max(stage.k, stage.min_keep), z.shape[0])
    return k if stage.ties == "exact" else int(np.count_nonzero(z >= z[k - 1]))


def _interval(target: _Target) -> tuple[float, float]:
    """Return the temperatures between which a target survives: (0, inf) = all, (inf, inf) = none."""
    if not target.stages or not isinstance(target.stages[0], Epsilon):
        return _least(target), INF
    low, high = _epsilon_interval(target, target.stages[0])
    rest = _Target(target.logits, target.slot, target.stages[1:])
    return max(low, _least(rest)), high


def _least(target: _Target) -> float:
    """Return the least T at which a target is in the surviving prefix: 0 = every T, infinity = none."""
    if not target.stages:
        return 0.0
    if all(isinstance(s, MinP) and s.min_keep <= 1 and s.p < 1 for s in target.stages):
        # min-p has a closed form: gap / T <= -ln p
        return max(target.gap / -log(s.p) for s in target.stages if isinstance(s, MinP)) * (1 + ROOM)
    return _edge(lambda t: _slack(target, t), target.gap)


def _edge(slack: Callable[[float], float], gap: float) -> float:
    """Find the least t with ``slack(t) >= 0``, for a slack that grows with t: 0 = every t, infinity = none.

    Doubling finds a bracket, the Illinois method (Dowell & Jarratt 1971) narrows it in ln t, halving where it
    stalls.
    """
    # under gap / 800 the target's weight exp(-gap / t) is 0 in float64
    smallest, largest = max(gap / 800, 1e-12), max(gap * 1e9, 1.0)
    if slack(largest) < 0:
        return INF
    if slack(smallest) >= 0:
        return 0.0
    t = min(max(1.0, smallest), largest)
    value = slack(t)
    while value < 0 and t < largest:
        low, f_low, t = t, value, t * 2
        value = slack(t)
        if value >= 0:
            return _narrow(slack, (low, f_low), (t, value))
    if value < 0:
        return INF
    while t > smallest:
        high, f_high, t = t, value, t / 2
        value = slack(t)
        if value < 0:
            return _narrow(slack, (t, value), (high, f_high))
    return 0.0


def _narrow(slack: Callable[[float], float], dead: tuple[float, float], living: tuple[float, float]) -> float:
    """Narrow a bracket around the edge, and return its surviving end; each end is ``(t, slack)``."""
    low, f_low, high, f_high = log(dead[0]), dead[1], log(living[0]), living[1]
    for turn in range(90):
        if high - low < ROOM:
            break
        # every third turn halves: the secant alone can creep towards an end
        usable = turn % 3 < 2 and isfinite(f_low) and isfinite(f_high) and f_high > f_low
        middle = (low * f_high - high * f_low) / (f_high - f_low) if usable else (low + high) / 2
        middle = min(max(middle, low + ROOM / 4), high - ROOM / 4)
        value = slack(exp(middle))
        if value >= 0:
            high, f_high, f_low = middle, value, f_low / 2  # Illinois: halve the end that stays
        else:
            low, f_low, f_high = middle, value, f_high / 2
    return exp(high)


def _epsilon_interval(target: _Target, stage: Epsilon) -> tuple[float, float]:
    """Return the temperatures between which a target's probability is at least epsilon; (inf, inf) = none.

    The probability rises with T until the mean logit falls to the target's own, then falls towards uniform.
    """
    z, mine = target.logits, -target.gap
    if mine >= float(z[min(stage.min_keep, z.shape[0]) - 1]):
        return 0.0, INF

    def past_peak(t: float) -> float:
        weights = np.exp(z / t)
        return mine - dot(weights, z) / float(weights.sum())

    def slack(t: float) -> float:
        return mine / t - log(np.exp(z / t).sum()) - log(stage.epsilon)

    peak = min(_edge(past_peak, target.gap), max(target.gap * 1e9, 1.0))
    if slack(peak) < 0:
        return INF, INF
    low = _edge(lambda t: slack(min(t, peak)), target.gap)
    beyond = _edge(lambda t: -slack(max(t, peak)) - 1e-300, target.gap)
    return low, beyond * (1 - 4 * ROOM) if beyond < INF else INF


def _answer(
    always: Alive,
    never: Alive,
    targets: Int[Tensor, "rows k"],
    found: tuple[Alive, Temperatures, Temperatures] | None = None,
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
    words = ("", "always", "never", "interval", "not determined")
    status = [[words[value] for value in row] for row in code.masked_fill(padding, 0).tolist()]
    return TemperatureRanges(t_min.masked_fill(padding, NAN), t_max.masked_fill(padding, NAN), status)

"""Compiled loops over vocabularies in double precision: probabilities, entropies and masses of rows.

Called through ``elimtool.numerics.kernels.rows``. All are in one file for the reason given in
``elimtool.numerics.kernels.loops``.
"""

from __future__ import annotations

import math

import numpy as np

from elimtool.numerics.kernels.compiling import as_written, compiled

NUMBERS = 7
WEIGHT, ENTROPY, DEVIATION, LEFT, HELD, SQUARED, LEAST = range(NUMBERS)
"""Indices of the numbers that ``measure`` finds for a row."""

FARTHEST = -700.0
"""Largest distance of a score under the best; exp of less can be subnormal or 0."""

BLOCK = 2048
"""Scores compared with all targets at a time; with their probabilities they fit the innermost cache."""

_LOG2_E = 1 / math.log(2)
# ln(2) in two parts, so that whole numbers times the first are exact: FreeBSD's msun, e_exp.c
_LN_2, _LN_2_REST = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13 = (1 / math.factorial(n) for n in range(2, 14))
_BIAS, _MANTISSA = 1023, 52


@as_written
def _exp(x):
    """Compute exp(x) for FARTHEST <= x <= 0 with relative error 5e-16: Taylor series in four groups."""
    power = np.int32(x * _LOG2_E - 0.5)
    whole = np.float64(power)
    r = x - whole * _LN_2 - whole * _LN_2_REST
    square = r * r
    fourth = square * square
    first = (1.0 + r) + (_E2 + _E3 * r) * square
    second = (_E4 + _E5 * r) + (_E6 + _E7 * r) * square
    third = (_E8 + _E9 * r) + (_E10 + _E11 * r) * square
    y = first + (second + (third + (_E12 + _E13 * r) * fourth) * fourth) * fourth
    # 2^power, by writing the exponent bits of a float64
    return y * np.int64((np.int64(power) + _BIAS) << _MANTISSA).view(np.float64)


@compiled
def _weigh(values, best, weights) -> None:
    """Compute the weights exp(score - best)."""
    for i in range(values.size):
        below = values[i] - best
        weights[i] = _exp(below if below > FARTHEST else FARTHEST)


@compiled
def _sums(values, best, weights):
    """Sum weights, weight times (score - best), and (score - best); count the scores that are too far.

    Blocks are summed first: rounding errors grow with the number of terms added in turn.
    """
    weight = weighted = away = far = 0.0
    for start in range(0, values.size, BLOCK):
        some, own = values[start : start + BLOCK], weights[start : start + BLOCK]
        w = x = a = f = 0.0
        for i in range(some.size):
            below = some[i] - best
            w += own[i]
            x += own[i] * below
            a += below
            f += 0.0 if below >= FARTHEST else 1.0  # a row without tokens gives NaN, which counts too
        weight += w
        weighted += x
        away += a
        far += f
    return weight, weighted, away, far


@as_written
def _sums_of_some(values, best, weights):
    """Do the same for a row with removed or very low scores, whose weights it corrects; count those left."""
    weight = weighted = away = 0.0
    left = 0
    for i in range(values.size):
        below = values[i] - best
        if not below >= FARTHEST:
            weights[i] = math.exp(below)  # NaN for a row without tokens
        if values[i] > -np.inf:
            weight += weights[i]
            weighted += weights[i] * below
            away += below
            left += 1
    return weight if left else math.nan, weighted, away, left


@compiled
def _spread(values, mean):
    """Sum squared distances from a mean."""
    squares = 0.0
    for i in range(values.size):
        away = values[i] - mean if values[i] > -np.inf else 0.0
        squares += away * away
    return squares


@compiled
def _normalise(weights, total):
    """Turn weights into probabilities; return their sum, that of their squares, and the least of them."""
    held = squared = 0.0
    least = 1.0
    for i in range(weights.size):
        prob = weights[i] / total
        weights[i] = prob
        held += prob
        squared += prob * prob
        least = prob if prob < least else least
    return held, squared, least


@compiled
def _ahead(values, probs, bound, middle):
    """Count the scores above a bound; sum their mass, and the mass of scores nearer to ``middle``."""
    larger = mass = nearer = 0.0
    distance = abs(middle - bound)
    for i in range(values.size):
        larger += 1.0 if values[i] > bound else 0.0
        mass += probs[i] if values[i] > bound else 0.0
        nearer += probs[i] if abs(middle - values[i]) < distance else 0.0
    return larger, mass, nearer


@compiled
def measure(scores, best, slots, probs, numbers, larger, above, nearer, start, stop) -> None:
    """Compute numbers and probabilities of some rows, and the mass ahead of their targets."""
    vocab = scores.shape[1]
    for row in range(start, stop):
        values, own, found = scores[row], probs[row], numbers[row]
        _weigh(values, best[row], own)
        weight, weighted, away, far = _sums(values, best[row], own)
        left = vocab
        if far:
            weight, weighted, away, left = _sums_of_some(values, best[row], own)
        found[HELD] = found[SQUARED] = 0.0
        found[LEAST] = 1.0
        for begin in range(0, vocab, BLOCK):
            held, squared, least = _normalise(own[begin : begin + BLOCK], weight)
            found[HELD] += held
            found[SQUARED] += squared
            found[LEAST] = min(found[LEAST], least)
        middle = best[row] + weighted / weight  # the score whose surprise is the entropy
        found[WEIGHT] = weight
        found[ENTROPY] = max(math.log(weight) - weighted / weight, 0.0)
        found[DEVIATION] = math.sqrt(_spread(values, best[row] + away / left) / left)
        found[LEFT] = left
        for begin in range(0, vocab, BLOCK):
            some, theirs = values[begin : begin + BLOCK], own[begin : begin + BLOCK]
            for k in range(slots.shape[1]):
                if slots[row, k] >= 0:
                    n, mass, near = _ahead(some, theirs, values[slots[row, k]], middle)
                    larger[row, k] += int(n)
                    above[row, k] += mass
                    nearer[row, k] += near


@compiled
def hold(probs, mask, held, start, stop) -> None:
    """Sum the probabilities of some rows inside a mask."""
    for row in range(start, stop):
        total = 0.0
        own, inside = probs[row], mask[row]
        for i in range(own.size):
            total += own[i] if inside[i] else 0.0
        held[row] = total

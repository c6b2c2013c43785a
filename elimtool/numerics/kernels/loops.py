"""Compiled loops over vocabularies of float32 scores: sums, ends of nuclei, counts.

Called through ``elimtool.numerics.kernels.rows``. All are in one file because numba, which keeps machine code
for later processes, recompiles a function when its own file has changed, but not when the file of a function
that it calls has.
"""

from __future__ import annotations

import math

import numpy as np

from elimtool.numerics.distributions import LIKELY, NEGLIGIBLE
from elimtool.numerics.kernels.compiling import compiled

BEST, WEIGHT, WEIGHTED, SQUARED, CROSS, MASS, HELD, TOP, SIZE, COMMON = range(10)
"""Indices of the numbers that ``reduce_row`` finds."""

FEW = 512
"""Most likely tokens that are sorted; with more, a histogram finds the end of the nucleus."""

BLOCK = 256
"""Scores per block; the largest of each is kept, so that few blocks are searched for large scores."""

BINS = 64 * 43 + 1
"""Bins of that histogram, 1/64 nat wide, down to the least weight that counts."""

_single, _whole = np.float32, np.int32
_ZERO, _HALF, _ONE, _LEAST = map(_single, (0.0, 0.5, 1.0, NEGLIGIBLE))
_LOG2_E = _single(1 / math.log(2))
_LN_2, _LN_2_REST = _single(0.693359375), _single(-2.12194440e-4)  # whole * first is exact
# (exp(r) - 1 - r) / r^2 for |r| <= ln(2)/2: S. L. Moshier's Cephes library, expf
_E0, _E1, _E2 = map(_single, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3))
_E3, _E4, _E5 = map(_single, (4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1))
_MANTISSA, _BIAS, _SIGN, _REST = map(_whole, (23, 127, 31, 0x7FFFFFFF))
_LOWEST, _INFINITY = _whole(-(2**31)), _whole(0x7F800000)
_REMOVED = _single(-1e30)  # replaces -inf in products, where 0 times -inf would be NaN


@compiled
def _exp(x):
    """Compute exp(x) for NEGLIGIBLE <= x <= 0 with relative error 1e-7."""
    power = _whole(x * _LOG2_E - _HALF)
    whole = _single(power)
    r = x - whole * _LN_2 - whole * _LN_2_REST
    y = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    # 2^power, by writing the exponent bits of a float32
    return (y * r * r + r + _ONE) * _whole(_whole(power + _BIAS) << _MANTISSA).view(_single)


@compiled
def _key(bits):
    """Map the bits of a float to an integer of the same order, or back."""
    return _whole(bits ^ _whole(_whole(bits >> _SIGN) & _REST))


@compiled
def _maxima(values, maxima):
    """Write the largest score of each block to ``maxima``; return the largest of all and its first index.

    The index is -1 where a score is NaN or +inf, or none is finite: the other loops are not defined then.
    Bits are compared as integers of the same order, in which NaN is larger than infinity.
    """
    bits = values.view(_whole)
    size = _whole(0)
    for block in range(maxima.size):
        some = bits[block * BLOCK : (block + 1) * BLOCK]
        largest = _LOWEST
        for i in range(some.size):
            largest = max(largest, _whole(_key(some[i])))
            size = max(size, _whole(some[i] & _REST))
        maxima[block] = _whole(_key(_whole(largest))).view(_single)
    block = maxima.argmax()
    best = maxima[block]
    place = block * BLOCK
    if size > _INFINITY or not math.isfinite(best):
        return best, -1
    while values[place] != best:
        place += 1
    return best, place


@compiled
def _sums(values, best, output, weights):
    """Compute weights exp(score - best); sum them, weight * (score - best), squares, and the cross terms.

    In single precision for 1,024 terms, in double precision for the sums of these.
    """
    weight = weighted = squared = cross = 0.0
    for start in range(0, values.size, 1024):
        stop = start + 1024
        some, theirs, own = values[start:stop], output[start:stop], weights[start:stop]
        w = x = q = c = _ZERO
        for i in range(some.size):
            below = some[i] - best
            counted = max(below, _LEAST)
            p = _exp(counted)
            own[i] = p
            w += p
            x += p * counted
            q += p * p
            c += theirs[i] * max(below, _REMOVED)
        weight += w
        weighted += x
        squared += q
        cross += c
    # a cross sum this low has a removed token (_REMOVED) that the output keeps
    return weight, weighted, squared, cross if cross > -1e10 else -np.inf


@compiled
def _take_output(values, best, weights, output):
    """Store the output's weights, with 0 for those too small to count; return their sum."""
    held = 0.0
    for i in range(values.size):
        output[i] = weights[i] if values[i] - best > _LEAST else _ZERO
        held += output[i]
    return held


@compiled
def _above(values, maxima, bound, found):
    """Write scores above a bound to ``found``; return their number, or its size + 1 if it is too small."""
    n = 0
    for block in range(maxima.size):
        if maxima[block] > bound:
            for i in range(block * BLOCK, min(values.size, (block + 1) * BLOCK)):
                if values[i] > bound:
                    if n == found.size:
                        return n + 1
                    found[n] = values[i]
                    n += 1
    return n


@compiled
def _reach(rising, best, ahead, goal):
    """Return how many of the last scores reach the goal, added to ``ahead``; 0 if all do not."""
    for n in range(1, rising.size + 1):
        ahead += math.exp(float(rising[rising.size - n]) - best)
        if ahead >= goal:
            return n
    return 0


@compiled
def _keep(rising, kept):
    """Copy the last rising scores to the end of ``kept``, no tie split; return their number."""
    n = min(rising.size, kept.size)
    if rising.size > n:
        out = rising[rising.size - n - 1]
        while n and rising[rising.size - n] == out:
            n -= 1
    for i in range(1, n + 1):
        kept[kept.size - i] = rising[rising.size - i]
    return n


@compiled
def _bin(score, best):
    return min(int(min(best - score, _single(43.0)) * _single(64.0)), BINS - 1)


@compiled
def _end_of_few(rising, best, goal):
    """Return the nucleus' size and least score, the scores above and equal to it; size 0: it is larger."""
    size = _reach(rising, best, 0.0, goal)
    score = rising[rising.size - max(size, 1)] if rising.size else best
    better = equal = 0
    for i in range(rising.size):
        better += rising[i] > score
        equal += rising[i] == score
    return size, score, better, equal


@compiled
def _end_of_many(values, best, weights, goal):
    """Do the same by a histogram and a sort of its last bin; also return a score that few exceed."""
    masses, counts = np.zeros(BINS), np.zeros(BINS, dtype=np.int64)
    for i in range(values.size):
        place = _bin(values[i], best)
        masses[place] += weights[i]
        counts[place] += 1
    end, ahead, better = 0, 0.0, 0
    while end < BINS - 1 and ahead + masses[end] < goal:
        ahead += masses[end]
        better += counts[end]
        end += 1
    last = np.empty(counts[end], dtype=_single)
    n = 0
    for i in range(values.size):
        if _bin(values[i], best) == end:
            last[n] = values[i]
            n += 1
    last.sort()
    size = _reach(last, best, ahead, goal)
    size = last.size if size == 0 else size
    score = last[last.size - size]
    beyond = equal = 0
    for i in range(last.size):
        beyond += last[i] > score
        equal += last[i] == score
    low, n = 0, counts[0]
    while low < BINS - 1 and n < 16:
        low += 1
        n += counts[low]
    return better + size, score, better + beyond, equal, _single(best - (low + 1) / 64)


@compiled
def _cut(values, score, tied, equal):
    """Return the last index at which a score equal to the least of a nucleus still belongs to it."""
    if tied == equal:
        return values.size
    place = -1
    while tied:
        place += 1
        tied -= values[place] == score
    return place


@compiled
def reduce_row(logits, row, mass, numbers, leading, n_leading, maxima) -> None:
    """Reduce one row at every layer, the output first: the others are compared with it.

    Stops at a layer with a score that is NaN or +inf, or without a finite one; its ``TOP`` is -1.
    """
    layers, vocab = logits.shape[0], logits.shape[2]
    weights, output = np.empty(vocab, dtype=_single), np.zeros(vocab, dtype=_single)
    few, survivors = np.empty(FEW, dtype=_single), np.empty(vocab, dtype=np.int64)
    n_survivors, held = 0, 0.0
    for layer in range(layers - 1, -1, -1):
        values, kept, blocks = logits[layer, row], leading[layer, row], maxima[layer, row]
        best, top = _maxima(values, blocks)
        numbers[TOP, layer, row] = top
        if top < 0:
            return
        weight, weighted, squared, cross = _sums(values, best, output, weights)
        if layer == layers - 1:
            held = _take_output(values, best, weights, output)
            cross = _sums(values, best, output, weights)[3]
        n = _above(values, blocks, _single(best + math.log(weight * LIKELY)), few)
        rising = np.sort(few[: n if n <= few.size else 0])
        size, score, better, equal = _end_of_few(rising, best, mass * weight)
        if size == 0:
            size, score, better, equal, bound = _end_of_many(values, best, weights, mass * weight)
            n = _above(values, blocks, bound, few)
            rising = np.sort(few[: n if n <= few.size else 0])
        cut = _cut(values, score, size - better, equal)
        if layer == layers - 1:
            for i in range(vocab):
                if values[i] > score or (values[i] == score and i <= cut):
                    survivors[n_survivors] = i
                    n_survivors += 1
        common, shared = 0, 0.0
        for i in survivors[:n_survivors]:
            common += values[i] > score or (values[i] == score and i <= cut)
            shared += weights[i]
        n_leading[layer, row] = _keep(rising, kept)
        found = numbers[:, layer, row]
        found[BEST], found[WEIGHT], found[WEIGHTED], found[SQUARED] = best, weight, weighted, squared
        found[CROSS], found[MASS], found[HELD] = cross, shared, held
        found[SIZE], found[COMMON] = size, common


@compiled
def count(values, bounds, maxima, larger, equal, start, stop) -> None:
    """Count the scores of some rows larger than, and equal to, the bounds of each row.

    Blocks whose largest score is under a bound are skipped.
    """
    for row in range(start, stop):
        for k in range(bounds.shape[1]):
            bound = bounds[row, k]
            for block in range(maxima.shape[1]):
                if maxima[row, block] < bound:
                    continue
                some = values[row, block * BLOCK : (block + 1) * BLOCK]
                more = same = _whole(0)
                for i in range(some.size):  # without casts numba sums in 64 bits, half as many at once
                    more = _whole(more + _whole(some[i] > bound))
                    same = _whole(same + _whole(some[i] == bound))
                larger[row, k] += more
                equal[row, k] += same


@compiled
def normalise(values, found, start, stop) -> None:
    """Compute ln of the sum of exp(score) of some rows."""
    weights = np.empty(values.shape[1], dtype=_single)
    maxima = np.empty((values.shape[1] + BLOCK - 1) // BLOCK, dtype=_single)
    for row in range(start, stop):
        best, top = _maxima(values[row], maxima)
        found[row] = math.nan
        if top >= 0:
            found[row] = best + math.log(_sums(values[row], best, values[row], weights)[0])


@compiled
def lead(values, maxima, tokens, start, stop) -> None:
    """Find the indices of the largest scores of some rows, falling, the lower index first among ties.

    The ``count`` largest block maxima are scores themselves, so nothing under the least of them is needed.
    """
    vocab, count = values.shape[1], tokens.shape[1]
    found, places = np.empty(vocab, dtype=_single), np.empty(vocab, dtype=np.int64)
    for row in range(start, stop):
        rising = np.sort(maxima[row])
        least = rising[rising.size - count] if rising.size >= count else _single(-np.inf)
        n = 0
        for block in range(maxima.shape[1]):
            if maxima[row, block] >= least:
                for i in range(block * BLOCK, min(vocab, (block + 1) * BLOCK)):
                    if values[row, i] >= least:
                        found[n], places[n] = -values[row, i], i
                        n += 1
        order = np.argsort(found[:n], kind="mergesort")  # stable: ties stay in order of index
        for k in range(count):
            tokens[row, k] = places[order[k]]

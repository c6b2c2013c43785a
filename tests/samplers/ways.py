"""Run chains on a device as well as on the host, and compare all that their ledgers say."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from elimtool.samplers import Chain, History, Ledger
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.fetching import LATER, TENSORS, on_host
from tests.accelerator import Away, device


def away(x: torch.Tensor) -> torch.Tensor:
    """A tensor on the device that is made of the processor."""
    device()
    return Away(x)


def as_on_a_device(
    chain: Chain, x: torch.Tensor, targets: torch.Tensor, past: Sequence[History] | None = None
) -> Ledger:
    """Run a chain as on a device, in the processor's own tensors, which is fast."""
    return chain.run(x, targets, past, begun=Candidates.of(x, targets, masked=True))


def both_ways(
    chain: Chain, x: torch.Tensor, targets: torch.Tensor, past: Sequence[History] | None = None
) -> Ledger:
    """Run a chain on the host, and as on a device where it can run there: what it leaves is the same."""
    ledger = chain.run(x, targets, past)
    if chain.acts_on_device:
        there = as_on_a_device(chain, x, targets, past)
        assert torch.equal(there.kept, ledger.kept)
        torch.testing.assert_close(there.probs(), ledger.probs(), rtol=1e-11, atol=1e-13)
    return ledger


def same(found: Ledger, expected: Ledger) -> None:
    """Counts, ranks, fates and remarks are equal, other numbers to the rounding of sums in another order."""
    (found,) = on_host([found])
    for index, (mine, other) in enumerate(zip(found.records, expected.records, strict=True)):
        for name in (*TENSORS, *LATER):
            told = f"{name} of {other.stage}"
            one, two = getattr(mine, name), getattr(other, name)
            if name == "top_token":  # of a row that has none, no number is meant
                one, two = (part.masked_fill(other.n_after == 0, -1) for part in (one, two))
            assert one.dtype == two.dtype and one.device == two.device, told
            torch.testing.assert_close(
                one,
                two,
                rtol=1e-11,
                atol=1e-12,
                equal_nan=True,
                msg=lambda text, told=told: f"{told}: {text}",
            )
        torch.testing.assert_close(found.output_mass(index), expected.output_mass(index), rtol=0, atol=1e-12)
        for row in range(len(other.n_after)):
            assert mine.notes_on(row) == other.notes_on(row), other.stage
            assert list(map(str, mine.rules_on(row, 1))) == list(map(str, other.rules_on(row, 1)))
            for k in range(other.targets.shape[1]):
                assert mine.least(k, row) == other.least(k, row)
                if bool(other.alive_before[row, k] & ~other.alive_after[row, k]):
                    assert mine.why_target(k, row) == other.why_target(k, row)
        if other.combines:
            torch.testing.assert_close(mine.others, other.others, equal_nan=True)

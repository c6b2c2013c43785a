"""What tables say of chains on a device is what they say on the processor, and nothing waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.numerics.transfer import arrays
from elimtool.samplers import Ledger, resolve
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.compare import Ordering, differences
from elimtool.samplers.fetching import condensed, facts, with_facts
from elimtool.samplers.survival import bounds, temperature_ranges
from tests.accelerator import device, waits
from tests.samplers.rows import KINDS, rows

VOCAB = 60
TARGETS = torch.tensor([[0, 7, 31, -1], [3, -1, 59, 12], [5, 6, 7, 8]])
CHAINS = (
    "llama.cpp",
    "temperature=2,top_k=12",
    "typical_p=0.7,temperature=0.8,logit_bias={0: -.inf}",
    "greedy",
    "temperature=1,min_p=0.05,top_p=0.8",
    "hf:top_p=0.8",
    "length_decay=1.1,temperature=0.9,top_p=0.9",  # these two have a stage that looks at numbers
    "length_decay=1.1,top_k=5",
)
QUICK = 4


def given(kind: str) -> Tensor:
    """Rows in float32, as a model gives them."""
    return rows(kind, 3, VOCAB).float()


def ran(logits: Tensor, chains: Sequence[str] = CHAINS) -> tuple[Candidates, list[Ledger]]:
    """Run all chains where the logits are."""
    begun = Candidates.of(logits, TARGETS)
    return begun, [resolve(name).run(logits, TARGETS, begun=begun) for name in chains]


def numbers(logits: Tensor, chains: Sequence[str]) -> dict[Any, Tensor]:
    """All that the tables survival and chain_differences are made of."""
    begun, ledgers = ran(logits, chains)
    by, found = Ordering(logits, ranked=begun.ranked), dict[Any, Tensor](vars(bounds(logits, TARGETS, begun)))
    for index, one in enumerate(differences(ledgers)):
        both = one.first(by, 3)
        sizes = (one.total_variation, one.n_only_left, one.n_only_right)
        found |= {(index, place): value for place, value in enumerate((*sizes, *both))}
    for name, ledger in zip(chains, ledgers, strict=True):
        ranges = temperature_ranges(resolve(name), logits, TARGETS, None, begun, ledger)
        found |= {(name, field): value for field, value in vars(ranges).items()}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_differences_and_ranges_are_those_of_the_processor(kind: str) -> None:
    # the search takes long on such a device: chains that ask for one are tried once, see ``test_falling``
    logits, chains = given(kind), CHAINS if kind == "ties" else CHAINS[:QUICK]
    there = logits.to(device(), non_blocking=True)
    with waits() as counted:
        away = numbers(there, chains)
        # rows that chains of the processor need are fetched once for all of them
        assert sum(counted.values()) == (len(chains) > QUICK)
    expected, found = arrays(numbers(logits, chains)), arrays(away)
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        if one.dtype.kind == "f":
            np.testing.assert_allclose(found[name], one, rtol=1e-10, atol=1e-13, err_msg=str(name))
        else:
            assert found[name].tolist() == one.tolist(), name


def test_condensed_ledgers_say_the_same_and_hold_no_row_of_the_vocabulary() -> None:
    logits = given("normal")
    _, expected = ran(logits)
    for where in (logits, logits.to(device(), non_blocking=True)):
        left = condensed(ran(where)[1])
        assert all(one.numel() < VOCAB for one in held(left))
        brought = arrays(facts(left))
        for ledger, known in zip(expected, with_facts(left, brought), strict=True):
            for one, other in zip(ledger.records, known.records, strict=True):
                assert other.n_after.tolist() == one.n_after.tolist()
                np.testing.assert_allclose(other.collision_after, one.collision_after, rtol=1e-12)
                for row in range(3):
                    assert other.notes_on(row) == one.notes_on(row)
                    assert list(map(str, other.rules_on(row, 1))) == list(map(str, one.rules_on(row, 1)))
                    for k in range(4):
                        assert other.why_target(k, row) == one.why_target(k, row)


def held(value: Any, seen: set[int] | None = None) -> list[Tensor]:
    """List all tensors that can be reached, by the memory that they keep."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, Tensor):
        raw = getattr(value, "raw", value)
        return [torch.empty(raw.untyped_storage().nbytes() // raw.itemsize, device="meta")]
    if isinstance(value, dict):
        return [one for part in value.values() for one in held(part, seen)]
    if isinstance(value, list | tuple):
        return [one for part in value for one in held(part, seen)]
    return held(vars(value), seen) if hasattr(value, "__dict__") else []


def test_a_row_of_nan_is_refused_when_the_numbers_come_back() -> None:
    logits = given("normal")
    logits[1, 4] = torch.nan
    with pytest.raises(ElimError, match="row 1 of the logits") as here:
        ran(logits)
    left = condensed(ran(logits.to(device(), non_blocking=True), CHAINS[:QUICK])[1])
    brought = arrays(facts(left))
    with pytest.raises(ElimError) as there:
        with_facts(left, brought)
    assert str(there.value) == str(here.value)

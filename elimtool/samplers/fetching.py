"""Bring the small numbers of ledgers from a device to the host, all in one transfer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elimtool.numerics.transfer import Array, arrays, own
from elimtool.samplers.candidates import check
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.stage_record import StageRecord

TENSORS = tuple(one.name for one in fields(StageRecord) if str(one.type).startswith(("Bool", "Int", "Float")))
"""Fields of a record that are tensors."""

LATER = ("collision_after", "score_before", "top_prob_before", "target_prob_before")
"""What a record works out from its distributions when it is asked for."""


def facts(ledgers: Sequence[Ledger]) -> dict[tuple[Any, ...], Tensor]:
    """Collect what is read of ledgers: numbers of rows and of targets, none of the whole vocabulary.

    Args:
        ledgers: Ledgers of the same rows; those on the host have nothing to bring.

    Returns:
        Tensors for ``numerics.transfer.arrays``, each once; others may be put beside them under other keys.
    """
    return {_key(one): one for ledger in ledgers for one in _tensors(ledger)}


def with_facts(ledgers: Sequence[Ledger], found: Mapping[tuple[Any, ...], Array]) -> list[Ledger]:
    """Make ledgers with records of the host of what was brought there.

    Args:
        ledgers: The same ledgers.
        found: What ``facts`` collected, on the host.

    Raises:
        ElimError: The rows or targets are such that no chain can run on them: see ``Candidates.of``.
    """
    return [_with_facts(ledger, found) if ledger.end.masked else ledger for ledger in ledgers]


def on_host(ledgers: Sequence[Ledger]) -> list[Ledger]:
    """Bring the records of ledgers to the host in one transfer; distributions stay where they are."""
    return with_facts(ledgers, arrays(facts(ledgers)))


def condensed(ledgers: Sequence[Ledger]) -> list[Ledger]:
    """Let go of distributions, of ledgers of the host too; what ``facts`` collects stays as it was."""
    kept: dict[int, Tensor] = {}

    def small(tensor: Tensor) -> Tensor:  # shared where it was
        return kept.setdefault(id(tensor), own(tensor))

    return [_condensed(ledger, small) for ledger in ledgers]


def _condensed(ledger: Ledger, small: Callable[[Tensor], Tensor]) -> Ledger:
    end = ledger.end
    none = replace(
        end,
        scores=end.scores.new_empty((len(end.scores), 0)),
        tokens=None,
        slots=small(end.slots),
        size=small(end.size),
        total=None,
        wanted=None,
        masked=True,
        ranked=None,
    )
    none.__dict__["unchecked"] = ledger.before(0).unchecked
    records = []
    for record in ledger.records:
        parts: dict[str, Any] = {name: small(one) for name, one in _parts(record).items()}
        if record.combines:
            parts["others"] = (parts.pop("other_rank"), parts.pop("other_logprob"))
        records.append(record.condensed(none).with_tensors(parts, TENSORS))
    fresh = replace(ledger, targets=small(ledger.targets), records=tuple(records), end=none)
    fresh.__dict__["output_masses"] = [small(one) for one in ledger.output_masses]
    return fresh


def _tensors(ledger: Ledger) -> Iterator[Tensor]:
    if not ledger.end.masked:
        return
    yield ledger.targets
    yield from ledger.before(0).unchecked or ()
    for record in ledger.records:
        yield from _parts(record).values()
    yield from ledger.output_masses


def _parts(record: StageRecord) -> dict[str, Tensor]:
    """Return a record's small tensors by name."""
    parts = {name: getattr(record, name) for name in (*TENSORS, *LATER)}
    if record.combines:
        parts["other_rank"], parts["other_logprob"] = record.others
    if record.has_rules:
        parts["first_removed"] = record.first_removed
    return parts


def _with_facts(ledger: Ledger, found: Mapping[tuple[Any, ...], Array]) -> Ledger:
    def here(tensor: Tensor) -> Tensor:
        array = found[_key(tensor)]
        return torch.from_numpy(array if array.flags.writeable else np.array(array))

    if (unchecked := ledger.before(0).unchecked) is not None:
        check(here(unchecked[0]), here(unchecked[1]), ledger.end.vocab)
    records = []
    for record in ledger.records:
        parts: dict[str, Any] = {name: here(one) for name, one in _parts(record).items()}
        if record.combines:
            parts["others"] = (parts.pop("other_rank"), parts.pop("other_logprob"))
        records.append(record.with_parts(parts, TENSORS))
    fresh = replace(ledger, targets=here(ledger.targets), records=tuple(records))
    fresh.__dict__["output_masses"] = [here(one) for one in ledger.output_masses]
    return fresh


def _key(tensor: Tensor) -> tuple[str, int]:
    """Stages that change nothing share their tensors: each is brought once."""
    return ("ledger", id(tensor))

"""What every stage promises, checked by looping over STAGES."""

from __future__ import annotations

import json

import pytest
import torch

from elimtool.errors import ElimError
from elimtool.samplers import STAGES, Chain, History, resolve
from elimtool.samplers.catalogue import preset_infos, stage_info, stage_infos
from tests.samplers.rows import KINDS, alone, example, rows

TARGETS = torch.tensor([[0, 1, 3, -1]])
HISTORY = History((5, 6, 7, 1, 5, 6), (7, 2, 5, 6))


@pytest.mark.parametrize("kind", STAGES)
def test_documented(kind: str) -> None:
    info = stage_info(kind)
    assert info.summary.endswith(".") and info.sources
    assert "Off:" in info.description or "Off:" in info.summary
    for parameter in info.parameters:
        assert parameter.meaning, parameter.name
    if info.role == "truncate":
        assert info.unit and info.margin_unit
    json.dumps([alone(example(kind)).describe(), info.off])


def test_catalogue_covers_everything() -> None:
    assert [i.kind for i in stage_infos()] == list(STAGES)
    assert len(preset_infos()) == 6


@pytest.mark.parametrize("row_kind", KINDS)
@pytest.mark.parametrize("kind", STAGES)
def test_promises(kind: str, row_kind: str) -> None:
    stage = example(kind)
    x = rows(row_kind, 6, 40)
    before = x.clone()
    targets = TARGETS.expand(6, -1)
    histories = [HISTORY] * 6
    ledger = alone(stage).run(x, targets, histories)
    again = alone(stage).run(x, targets, histories)
    assert torch.equal(x, before), "input edited"
    assert torch.equal(ledger.final, again.final)
    entry = ledger.records[0]
    for row in range(6):
        single = alone(stage).run(x[row : row + 1], TARGETS, [HISTORY])
        assert torch.equal(single.kept, ledger.kept[row : row + 1])
        own = single.records[0]
        assert torch.allclose(own.margin[0], entry.margin[row], equal_nan=True, rtol=1e-9, atol=1e-12)
        assert int(own.n_after) == int(entry.n_after[row])
        assert own.threshold.allclose(entry.threshold[row], equal_nan=True)
    assert bool((entry.n_after >= 1).all())
    kept = torch.softmax(x, -1).where(ledger.kept, 0.0).sum(-1)
    assert torch.allclose(kept + entry.mass_pruned, torch.ones_like(kept), atol=1e-9)
    check_targets(entry, stage.role)


def check_targets(entry, role: str) -> None:
    """Fates, ranks and margins agree with each other."""
    padding = TARGETS.expand(6, -1) < 0
    assert not bool(entry.alive_before[padding].any()) and bool(entry.margin[padding].isnan().all())
    assert bool((entry.rank_before[~entry.alive_before] == 0).all())
    assert bool((entry.rank_before[entry.alive_before] > 0).all())
    dead = ~entry.alive_before & ~padding
    died = entry.alive_before & ~entry.alive_after
    if role == "truncate":
        assert bool((entry.margin[dead] == -torch.inf).all())
        assert bool((entry.margin[entry.alive_after] >= 0).all())
        assert bool((entry.margin[died] <= 0).all())
    for row, column in died.nonzero().tolist():
        token = int(TARGETS[0, column])
        assert token in entry.removed(row).tolist()
        assert entry.removed_mask[row, token] and not entry.kept_mask[row, token]
        assert "kept" not in entry.why(token, row)


@pytest.mark.parametrize("kind", [k for k, s in STAGES.items() if s.off is not None])
def test_off_is_the_identity(kind: str) -> None:
    stage = STAGES[kind](**STAGES[kind].off)
    assert stage.is_off()
    for row_kind in KINDS:
        x = rows(row_kind, 3, 20)
        ledger = alone(stage).run(x, TARGETS.expand(3, -1), [HISTORY] * 3)
        assert torch.equal(ledger.final, x)
        entry = ledger.records[0]
        assert not bool(entry.active.any()) and bool((entry.mass_pruned == 0).all())
        assert bool(entry.margin.isnan().all())


@pytest.mark.parametrize("kind", [k for k, s in STAGES.items() if s.main])
def test_values_of_the_wrong_type_are_refused(kind: str) -> None:
    with pytest.raises(ElimError, match=f"{kind}: {STAGES[kind].main} must be an? .*, got 'many'"):
        resolve(f"{kind}=many")


def test_chain_of_all_stages_records_all() -> None:
    chain = Chain("all", "test", "", tuple(example(k) for k in STAGES))
    x = rows("normal", 2, 100)
    ledger = chain.run(x, TARGETS.expand(2, -1), [HISTORY] * 2)
    assert [r.stage for r in ledger.records] == list(STAGES)
    for earlier, later in zip(ledger.records, ledger.records[1:], strict=False):
        assert torch.equal(earlier.n_after, later.n_before)
        assert torch.allclose(earlier.prob_after, later.prob_before, equal_nan=True)
        assert torch.equal(earlier.alive_after, later.alive_before)
    assert int(ledger.kept.sum()) == 2

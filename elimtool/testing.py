"""Check that a sampler stage keeps what every stage promises: for the tests of packages that add one."""

from __future__ import annotations

import json

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.samplers import Chain, History, Stage, StageRecord

__all__ = ["KINDS", "check_stage", "rows"]

KINDS = ("normal", "ties", "flat", "holes", "peaked", "holes and ties", "nearly flat")
"""Kinds of rows of logits that are hard in different ways."""

_TARGETS = torch.tensor([[0, 1, 3, -1]])
_HISTORY = History((5, 6, 7, 1, 5, 6), (7, 2, 5, 6))


def rows(kind: str, n: int, vocab: int, seed: int = 0) -> Float64[Tensor, "n vocab"]:
    """Make rows of logits of one of ``KINDS``; in those with holes many tokens are removed already."""
    draw = torch.Generator().manual_seed(seed)
    normal = torch.randn(n, vocab, generator=draw, dtype=torch.float64)
    uniform = torch.rand(n, vocab, generator=draw)
    if kind == "normal":
        return normal * (0.2 + 6 * uniform[:, :1])
    if kind == "ties":
        return (normal * 3).round()
    if kind == "flat":
        return torch.full((n, vocab), 1.5, dtype=torch.float64)
    if kind == "peaked":
        normal[:, 3] += 12
        return normal
    if kind == "nearly flat":
        return normal * 1e-3
    x = (normal * 2).round() if kind == "holes and ties" else normal * 3
    x[uniform < 0.5] = -torch.inf
    x[:, 1] = 2.0
    return x


def check_stage(stage: Stage) -> None:
    """Check what every stage promises, on rows of every kind.

    It does not edit its input, gives the same twice, treats each row as if it were alone, keeps a token,
    and its fates, ranks and margins agree; where it is off it changes nothing. What its formula should be,
    no such check can know: test it against something that does not come from the same head.

    Raises:
        AssertionError: A promise is broken; the message says which, and on which kind of rows.
    """
    json.dumps(Chain("alone", stages=(stage,)).describe())
    for kind in KINDS:
        _promises(stage, kind)
    if stage.off is not None:
        off = type(stage)(**stage.off)
        assert off.is_off(), f"{stage.kind} is on with the parameters of `off`"
        for kind in KINDS:
            x = rows(kind, 3, 20)
            ledger = Chain("alone", stages=(off,)).run(x, _TARGETS.expand(3, -1), [_HISTORY] * 3)
            assert torch.equal(ledger.final, x), f"{stage.kind} changes logits where it is off"
            entry = ledger.records[0]
            acts = bool(entry.active.any()) or not bool((entry.mass_pruned == 0).all())
            assert not acts and bool(entry.margin.isnan().all()), f"{stage.kind} acts where it is off"


def _promises(stage: Stage, kind: str) -> None:
    where = f"{stage.kind}, rows '{kind}'"
    chain = Chain("alone", stages=(stage,))
    x = rows(kind, 6, 40)
    before = x.clone()
    targets, histories = _TARGETS.expand(6, -1), [_HISTORY] * 6
    ledger = chain.run(x, targets, histories)
    assert torch.equal(x, before), f"{where}: the input is edited"
    assert torch.equal(ledger.final, chain.run(x, targets, histories).final), (
        f"{where}: differs when repeated"
    )
    entry = ledger.records[0]
    for row in range(6):
        single = chain.run(x[row : row + 1], _TARGETS, [_HISTORY])
        own = single.records[0]
        close = torch.allclose(own.margin[0], entry.margin[row], equal_nan=True, rtol=1e-9, atol=1e-12)
        same = torch.equal(single.kept, ledger.kept[row : row + 1])
        same = same and int(own.n_after) == int(entry.n_after[row])
        same = same and own.threshold.allclose(entry.threshold[row], equal_nan=True)
        assert close and same, f"{where}: row {row} is treated otherwise alone than among others"
    assert bool((entry.n_after >= 1).all()), f"{where}: no token is left"
    kept = torch.softmax(x, -1).where(ledger.kept, 0.0).sum(-1)
    assert torch.allclose(kept + entry.mass_pruned, torch.ones_like(kept), atol=1e-9), (
        f"{where}: mass is lost"
    )
    _fates(entry, stage.role, where)


def _fates(entry: StageRecord, role: str, where: str) -> None:
    """Check that fates, ranks and margins agree with each other."""
    padding = _TARGETS.expand(6, -1) < 0
    assert not bool(entry.alive_before[padding].any()), f"{where}: padding is alive"
    assert bool(entry.margin[padding].isnan().all()), f"{where}: padding has a margin"
    assert bool((entry.rank_before[~entry.alive_before] == 0).all()), f"{where}: a removed token has a rank"
    assert bool((entry.rank_before[entry.alive_before] > 0).all()), f"{where}: a token has no rank"
    died = entry.alive_before & ~entry.alive_after
    if role == "truncate":
        dead = entry.margin[~entry.alive_before & ~padding]
        assert bool(dead.isnan().all()), f"{where}: a token that was removed before has a margin"
        kept, cut = entry.margin[entry.alive_after], entry.margin[died]
        assert not bool((kept < 0).any()), f"{where}: a surviving token has a negative margin"
        assert not bool((cut > 0).any()), f"{where}: a removed token has a positive margin"
    for row, column in died.nonzero().tolist():
        token = int(_TARGETS[0, column])
        assert entry.removed_mask[row, token], f"{where}: a removed token is among the survivors"
        assert "kept" not in entry.why(token, row), f"{where}: a removed token is said to be kept"

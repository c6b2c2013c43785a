"""Check that stages, metrics and lenses keep what each promises: for the tests of packages that add some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError
from elimtool.files.plugins import given
from elimtool.lenses.brought import BroughtLens
from elimtool.metrics.metric import Metric
from elimtool.model.model import Model
from elimtool.model.small import small_model
from elimtool.samplers import Chain, History, Stage, StageRecord
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.fetching import on_host
from elimtool.tasks.trace import trace

__all__ = ["KINDS", "PROMPTS", "check_lens", "check_metric", "check_stage", "rows", "small_model"]

KINDS = ("normal", "ties", "flat", "holes", "peaked", "holes and ties", "nearly flat")
"""Kinds of rows of logits that are hard in different ways."""

PROMPTS = ("The capital of France is", "A token", "What no layer keeps is eliminated: where?")
"""Prompts of different lengths."""

_TARGETS = torch.tensor([[0, 1, 3, -1]])


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


def history(vocab: int) -> History:
    """Make a history with repetitions, and with other rows of logits for stages that combine some."""
    draw = torch.Generator().manual_seed(vocab)
    other = torch.randn(5, vocab, generator=draw, dtype=torch.float64)
    return History(
        (5, 6, 7, 1, 5, 6), (7, 2, 5, 6), {"against": other[0], "amateur": other[0], "layers": other[1:]}
    )


def check_stage(stage: Stage) -> None:
    """Check what every stage promises, on rows of every kind.

    It does not edit its input, gives the same twice, treats each row as if it were alone, keeps a token
    unless it bans some, and its fates, ranks and margins agree; on a device it gives the same, if it says
    that it can act there; where it is off it changes nothing. What its formula should be, no such check can
    know: test it against something that does not come from the same head.

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
            ledger = Chain("alone", stages=(off,)).run(x, _TARGETS.expand(3, -1), [history(20)] * 3)
            assert torch.equal(ledger.final, x), f"{stage.kind} changes logits where it is off"
            entry = ledger.records[0]
            acts = bool(entry.active.any()) or not bool((entry.mass_pruned == 0).all())
            assert not acts and bool(entry.margin.isnan().all()), f"{stage.kind} acts where it is off"


def _promises(stage: Stage, kind: str) -> None:
    where = f"{stage.kind}, rows '{kind}'"
    chain = Chain("alone", stages=(stage,))
    x = rows(kind, 6, 40)
    before = x.clone()
    targets, histories = _TARGETS.expand(6, -1), [history(40)] * 6
    ledger = chain.run(x, targets, histories)
    assert torch.equal(x, before), f"{where}: the input is edited"
    assert torch.equal(ledger.final, chain.run(x, targets, histories).final), (
        f"{where}: differs when repeated"
    )
    entry = ledger.records[0]
    for row in range(6):
        single = chain.run(x[row : row + 1], _TARGETS, [history(40)])
        own = single.records[0]
        close = torch.allclose(own.margin[0], entry.margin[row], equal_nan=True, rtol=1e-9, atol=1e-12)
        same = torch.equal(single.kept, ledger.kept[row : row + 1])
        same = same and int(own.n_after) == int(entry.n_after[row])
        same = same and own.threshold.allclose(entry.threshold[row], equal_nan=True)
        assert close and same, f"{where}: row {row} is treated otherwise alone than among others"
    may_empty = stage.role in ("ban", "require")
    assert may_empty or bool((entry.n_after >= 1).all()), f"{where}: no token is left"
    assert stage.revives or bool((entry.n_after <= entry.n_before).all()), f"{where}: a removed token is back"
    assert bool((entry.n_drawable <= entry.n_after).all()), f"{where}: a removed token can be drawn"
    kept = torch.softmax(x, -1).where(ledger.kept, 0.0).sum(-1)
    assert torch.allclose(kept + entry.mass_pruned, torch.ones_like(kept), atol=1e-9), (
        f"{where}: mass is lost"
    )
    _fates(entry, stage.role, where)
    if stage.acts_on_device():
        begun = Candidates.of(x, targets, masked=True)
        there = on_host([chain.run(x, targets, histories, begun=begun)])[0].records[0]
        for name in ("active", "n_after", "rank_before", "alive_after", "mass_pruned", "threshold", "margin"):
            one, other = (getattr(found, name).double() for found in (there, entry))
            assert torch.allclose(one, other, equal_nan=True, atol=1e-12), (
                f"{where}: {name} is another on a device"
            )


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


def check_metric(metric: type[Metric], model: Model | None = None, prompts: Sequence[str] = PROMPTS) -> None:
    """Check what every metric promises, on a small random model or a given one.

    Its tables are as it defines them: columns, types, nulls and ranges. It does not edit what it is shown,
    gives the same twice, and treats each prompt as if it were alone, to rounding. Whether its numbers mean
    what they say, no such check can know.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    model = model or small_model()
    found = _measured(_watched(metric), model, prompts)
    assert any(len(rows) for rows in found.values()), f"{metric.__name__} fills no row"
    again = _measured(metric, model, prompts)
    for name, rows in found.items():
        assert rows.equals(again[name]), f"{name}: it differs when repeated, or edits what it is shown"
    single = _measured(metric, model, prompts, batch_size=1)
    for name, rows in found.items():
        _assert_close(rows, single[name], f"{name}: a prompt gives other numbers alone than among others")


def _measured(
    metric: type[Metric], model: Model, prompts: Sequence[str], batch_size: int = 8
) -> dict[str, Any]:
    """Run a metric at every position, and return its tables as DataFrames."""
    try:
        options = TraceOptions(
            plugins=(metric,), tables=tuple(metric.tables), position="all", batch_size=batch_size, samplers=()
        )
        run = trace(model, prompts, options=options)
    except ElimError as error:
        raise AssertionError(error.message) from error
    return {name: run.table(name) for name in metric.tables if name in run.tables}


def _watched(metric: type[Metric]) -> type[Metric]:
    """Return a metric that is checked, call by call, for edits of the tensors that it is shown."""

    class Watched(metric):  # type: ignore[misc, valid-type]
        def observe(self, view: Any) -> None:
            _unedited(
                super().observe, view, ("residual", "attention", "context", "typical", "scores", "visible")
            )

        if metric.read is not Metric.read:

            def read(self, view: Any) -> None:
                _unedited(super().read, view, ("logits", "output"))

    Watched.__name__, Watched.__module__, Watched.__qualname__ = (
        metric.__name__,
        metric.__module__,
        metric.__qualname__,
    )
    return Watched


def _unedited(call: Any, view: Any, names: Sequence[str]) -> None:
    shown = {name: getattr(view, name) for name in names if getattr(view, name) is not None}
    before = {name: tensor.clone() for name, tensor in shown.items()}
    call(view)
    for name, tensor in shown.items():
        same = torch.equal(tensor.nan_to_num(), before[name].nan_to_num())
        assert same, f"{call.__qualname__} edits {name}"


def _assert_close(left: Any, right: Any, said: str) -> None:
    assert list(left.columns) == list(right.columns) and len(left) == len(right), said
    for column in left.columns:
        one, other = left[column], right[column]
        if one.dtype.kind == "f":
            close = np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
        else:
            close = one.astype(str).equals(other.astype(str))
        assert close, f"{said} (column {column})"


def check_lens(lens: Any, model: Model | None = None) -> None:
    """Check what every lens promises, for a small random model or a given one, at every layer below the last.

    It keeps shape, type and device, and gives finite numbers; it does not edit its input, gives the same
    twice, and treats each row as if it were alone, to rounding.

    Args:
        lens: A lens, or a class that takes a model.
        model: The model.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    model = model or small_model()
    made = lens(model) if isinstance(lens, type) else lens
    held = BroughtLens(made, given(str(made.name), lens))
    draw = torch.Generator().manual_seed(0)
    residual = torch.randn(6, model.width, generator=draw).to(model.device, model.dtype)
    for layer in range(-1, model.n_layers - 1):
        try:
            found = held.to_final(residual, layer)
        except ElimError as error:
            raise AssertionError(error.message) from error
        shown = residual.clone()
        assert torch.equal(found, made.to_final(shown, layer)), (
            f"{made.name}: differs when repeated, layer {layer}"
        )
        assert torch.equal(shown, residual), f"{made.name}: the input is edited, layer {layer}"
        for row in range(len(residual)):
            alone = made.to_final(residual[row : row + 1].clone(), layer)[0]
            close = torch.allclose(alone.float(), found[row].float(), rtol=1e-4, atol=1e-5)
            assert close, f"{made.name}: row {row} is mapped otherwise alone than among others, layer {layer}"

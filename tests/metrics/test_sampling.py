"""The sampler ledger's columns: the same alone and in company, and the work that they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from elimtool.engine.options import DEFAULT_SAMPLERS
from elimtool.metrics.metric import Followed, ReadoutView, Settings
from elimtool.metrics.sampling import SHOWN, SamplerLedger
from elimtool.model.view import Batch, Target
from elimtool.numerics.shapes import shapes
from elimtool.samplers import order, resolve
from tests.metrics.views import encoded
from tests.samplers.rows import rows

VOCAB = 9_001
"""Rows of an odd number of columns begin at odd addresses."""
MORE = (
    "hf:top_k=0,top_p=0.95,min_p=0.01",
    "llama.cpp:dynatemp_range=0.5",
    "temperature=0.7,eta=0.01",
)


def view_of(logits: Tensor, targets: Tensor, names: range) -> ReadoutView:
    """Rows read out at one layer, one prompt each."""
    batch = Batch.of([encoded(4, (3,), {}, (), name=f"p{i}") for i in names])
    return ReadoutView(
        batch=batch,
        rows=batch.rows,
        lens="raw",
        logits=logits[None],
        shapes=shapes(logits[None]),
        output=torch.log_softmax(logits, -1),
        followed=Followed(
            ids=targets,
            is_foil=torch.zeros_like(targets, dtype=torch.bool),
            ambiguous=torch.zeros_like(targets, dtype=torch.bool),
            targets=[[Target.single(str(token), token) for token in row] for row in targets.tolist()],
            logprob=torch.zeros(targets.shape),
        ),
        spell=str,
    )


def tables(view: ReadoutView, chains: tuple[str, ...] = DEFAULT_SAMPLERS) -> dict[str, dict[str, Any]]:
    """Every table as lists."""
    ledger = SamplerLedger(view.batch, Settings(tuple(map(resolve, chains))))
    ledger.read(view)
    return {
        name: {
            key: one.tolist() if isinstance(one, np.ndarray) else list(one) for key, one in columns.items()
        }
        for name, columns in ledger.finish().items()
    }


def case(kind: str) -> tuple[Tensor, Tensor]:
    logits = rows(kind, 4, VOCAB).float()
    targets = logits.topk(60, -1).indices[:, [0, 1, 37, 45, 55, 59]]
    targets[:, 4] = torch.tensor([-1, 5, 6, VOCAB - 1])
    return logits, targets


@pytest.mark.parametrize("kind", ["normal", "holes and ties"])
def test_company_and_repetition_change_no_bit(kind: str) -> None:
    logits, targets = case(kind)
    chains = (*DEFAULT_SAMPLERS, *MORE)
    together = tables(view_of(logits, targets, range(4)), chains)
    assert repr(tables(view_of(logits, targets, range(4)), chains)) == repr(together)
    singles = [view_of(logits[i : i + 1], targets[i : i + 1], range(i, i + 1)) for i in range(4)]
    apart = [tables(view, chains) for view in singles]
    for name, columns in together.items():
        for key, values in columns.items():
            assert repr(values) == repr([value for one in apart for value in one[name][key]]), (name, key)


def test_the_likeliest_of_the_tokens_that_one_chain_keeps_alone() -> None:
    logits, targets = case("normal")
    found = tables(view_of(logits, targets, range(4)))["chain_differences"]
    for row, (left, right) in enumerate([("llama.cpp", "hf"), ("llama.cpp", "vllm"), ("hf", "vllm")] * 4):
        x, at = logits[row // 3 : row // 3 + 1].double(), [found["chain"].index(left)]
        kept = [resolve(name).run(x, targets[:1, :0]).kept[0] for name in (left, right)]
        for ids, number, mask in (
            (found["only"], found["n_only"], kept[0] & ~kept[1]),
            (found["only_other"], found["n_only_other"], kept[1] & ~kept[0]),
        ):
            likely = torch.where(mask, x[0], -torch.inf).sort(descending=True, stable=True).indices
            assert number[row] == int(mask.sum()), at
            assert ids[row] == [str(token) for token in likely[: min(SHOWN, number[row])].tolist()]


def test_a_target_of_no_probability_ranks_after_all_others() -> None:
    logits = torch.tensor([[1.0, -torch.inf, 3.0, -torch.inf]])
    found = tables(view_of(logits, torch.tensor([[1, 0]]), range(1)))["survival"]
    assert found["rank"] == [3, 2] and found["prob"][0] == 0 and found["min_top_k"] == [0, 2]


def test_every_row_says_kind_and_margin_unit_of_its_stage() -> None:
    chains = ("koboldcpp", "dry=0.8,mirostat_v2=3,greedy")
    found = tables(view_of(*case("normal"), range(4)), chains)
    stages = {
        (chain.name, i): stage for chain in map(resolve, chains) for i, stage in enumerate(chain.stages)
    }
    assert ("prefilter", "top_k") in {(stage.name, stage.kind) for stage in stages.values()}
    for table in (found["sampling"], found["sampling_targets"]):
        columns = (table[name] for name in ("chain", "stage_index", "stage", "kind", "margin_unit"))
        for chain, index, name, kind, unit in zip(*columns, strict=True):
            stage = stages[chain, index]
            assert (name, kind, unit) == (stage.name, stage.kind, stage.margin_unit or None)


class Work(TorchDispatchMode):
    """Counts the operations of torch on values of a width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wide = [a for a in args if isinstance(a, Tensor) and a.is_floating_point() and a.dim()]
        if any(a.shape[-1] == self.width for a in wide):
            self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def counted(real: Callable[..., Any], width: int, seen: list[int]) -> Callable[..., Any]:
    """A function that notes when its first argument has rows of a width."""

    def noted(values: Any, *args: Any, **kwargs: Any) -> Any:
        if values.shape[-1] == width:
            seen.append(width)
        return real(values, *args, **kwargs)

    return noted


def test_default_chains_never_sort_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost in operations, not seconds: one softmax of the rows and one of their logarithm, and no sort."""
    logits, targets = case("normal")
    view = view_of(logits, targets, range(4))
    ledger = SamplerLedger(view.batch, Settings(tuple(map(resolve, DEFAULT_SAMPLERS))))
    sorts: list[int] = []
    with monkeypatch.context() as patch, Work(VOCAB) as work:
        for place, name in ((np, "sort"), (np, "argsort"), (np, "partition"), (order, "rising")):
            patch.setattr(place, name, counted(getattr(place, name), VOCAB, sorts))
        ledger.read(view)
    assert not sorts
    assert not {"sort", "topk", "argsort", "cumsum", "bmm", "where"} & set(work.seen), work.seen
    assert work.seen["_softmax"] == 1 and work.seen["_log_softmax"] == 1

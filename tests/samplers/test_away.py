"""Chains on a device give the host's ledgers, and never wait for it."""

from __future__ import annotations

from random import Random

import pytest
import torch

from elimtool.errors import ElimError
from elimtool.samplers import STAGES, Chain, preset_names, resolve
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.fetching import on_host
from elimtool.samplers.order import FEW
from elimtool.testing import history
from tests.accelerator import waits
from tests.samplers.rows import KINDS, alone, example, rows
from tests.samplers.ways import as_on_a_device, away, same

HERE = ("dola", "grammar", "infill", "length_decay", "prefix_allowed", "synthid")
"""Stages that run on the host alone."""
THERE = tuple(sorted(set(STAGES) - set(HERE)))


def targets(vocab: int) -> torch.Tensor:
    """A likely and an unlikely token, padding, the last token, and one that bans remove."""
    return torch.tensor([[0, 7, -1, vocab - 1, 3]])


def compared(chain: Chain, kind: str, vocab: int, seed: int = 0, there: bool = False) -> None:
    x, past = rows(kind, 3, vocab, seed), [history(vocab)] * 3
    ids = targets(vocab).expand(3, -1)
    expected = chain.run(x, ids, past)
    if not there:
        return same(as_on_a_device(chain, x, ids, past), expected)
    with waits() as counted:
        found = chain.run(away(x), ids, past, begun=Candidates.of(away(x), ids))
    assert not counted
    assert all(one.scores.device.type == "pretend" for one in (found.before(0), found.end))
    return same(found, expected)


@pytest.mark.parametrize("kind", THERE)
def test_every_stage(kind: str) -> None:
    stage = example(kind)
    assert stage.acts_on_device()
    compared(alone(stage), "holes and ties", 40, there=True)
    compared(alone(stage), "holes", 40)  # what other rows give, ``check_stage`` compares
    compared(alone(stage), "normal", FEW + 100)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset(name: str) -> None:
    for spec in (name, f"{name}:temperature=0.7,top_k=9,min_p=0.05"):
        chain = resolve(spec)
        assert chain.acts_on_device
        for shape in ("normal", "holes and ties"):
            compared(chain, shape, 120)
    compared(resolve(f"{name}:top_k=9"), "ties", 60, there=True)


def test_ties_at_the_edge_fall_as_torch_sorts_there() -> None:
    """What stands for a device here sorts as the processor does; hf and vllm cut nuclei so."""
    for chain in (resolve("hf:top_p=0.5"), resolve("vllm:top_k=20,top_p=0.6")):
        assert chain.acts_on_device
        compared(chain, "ties", 60, there=True)
        for seed in range(5):
            compared(chain, "ties", 130, seed)


def test_stages_behind_each_other() -> None:
    draw = Random(4)
    for seed in range(30):
        # of equal scores top-h keeps those that torch finds first, which other columns decide
        some = tuple(map(example, draw.sample([one for one in THERE if one != "top_h"], draw.randint(2, 5))))
        compared(Chain("some", "test", "", some), draw.choice(KINDS), draw.choice([8, 40, 130]), seed)
        if seed % 10 == 0:
            compared(Chain("some", "test", "", some), "holes and ties", 30, seed, there=True)


def test_rows_without_a_token() -> None:
    everything = STAGES["suppress"](tokens=tuple(range(40)))
    for kind in ("penalties", "dry", "top_k", "top_p", "typical", "temperature", "force", "greedy"):
        compared(Chain("some", "test", "", (everything, example(kind), STAGES["min_p"](p=0.1))), "normal", 40)


@pytest.mark.parametrize("kind", HERE)
def test_stages_of_the_host_fetch_the_rows_once(kind: str) -> None:
    vocab = 256
    x, past, ids = rows("normal", 3, vocab), [history(vocab)] * 3, targets(vocab).expand(3, -1)
    chains = [alone(example(kind)), resolve("top_k=5"), Chain("more", "test", "", (example(kind),) * 2)]
    begun = Candidates.of(away(x), ids)
    with waits() as counted:
        found = [chain.run(away(x), ids, past, begun=begun) for chain in chains]
    assert dict(counted) == {next(iter(counted)): 1}
    assert [one.end.scores.is_cpu for one in found] == [True, False, True]
    for chain, one in zip(chains, found, strict=True):
        same(one, chain.run(x, ids, past))


def test_chains_that_compute_as_an_engine_does_run_on_the_host() -> None:
    chain = resolve("top_p=0.9,temperature=0.7")
    rounded = Chain("some", stages=chain.stages, precision="float32", accumulation="sequential")
    x, ids = rows("normal", 3, 50).float(), targets(50).expand(3, -1)
    found = rounded.run(away(x), ids, begun=Candidates.of(away(x), ids))
    assert not rounded.acts_on_device and torch.equal(found.final, rounded.run(x, ids).final)
    assert resolve("hf:typical=0.9").acts_on_device


def test_without_a_beginning_a_chain_runs_on_the_host() -> None:
    x, ids = rows("normal", 3, 50), targets(50).expand(3, -1)
    chain = resolve("llama.cpp")
    assert torch.equal(chain.run(away(x), ids).final, chain.run(x, ids).final)


@pytest.mark.parametrize("there", [False, True])
def test_what_no_chain_can_run_on_is_refused_when_results_come_back(there: bool) -> None:
    x, ids = rows("normal", 3, 50), targets(50).expand(3, -1)
    for value in (float("nan"), float("inf")):
        worse = x.clone()
        worse[1, 4] = value
        with pytest.raises(ElimError, match="row 1 of the logits holds NaN"):
            Candidates.of(worse, ids)
        ledger = resolve("hf").run(away(worse), ids, begun=Candidates.of(away(worse), ids))
        with pytest.raises(ElimError, match="row 1 of the logits holds NaN"):
            on_host([ledger])
    lost = ids.clone()
    lost[2, 0] = 50
    asked = away(lost) if there else lost
    with pytest.raises(ElimError, match="ids from 0 to 49"):
        on_host([resolve("hf").run(away(x), asked, begun=Candidates.of(away(x), asked))])


def test_a_row_does_not_depend_on_the_others() -> None:
    x, ids = rows("holes and ties", 3, 60), targets(60).expand(3, -1)
    chain = resolve("penalties=1.2,top_k=20,top_p=0.9,xtc=0.5,min_p=0.01")
    (together,) = on_host([as_on_a_device(chain, x, ids)])
    for row in range(3):
        (single,) = on_host([as_on_a_device(chain, x[row : row + 1], ids[:1])])
        for mine, other in zip(single.records, together.records, strict=True):
            assert torch.equal(mine.margin[0], other.margin[row]) or bool(mine.margin[0].isnan().any())
            assert torch.equal(mine.alive_after[0], other.alive_after[row])


def test_the_tokens_are_sorted_once_for_chains_that_leave_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sorts: list[object] = []
    sort = torch.Tensor.argsort
    monkeypatch.setattr(torch.Tensor, "argsort", lambda *args, **kw: (sorts.append(0), sort(*args, **kw))[1])
    x, ids = rows("normal", 3, 60), targets(60).expand(3, -1)
    begun = Candidates.of(x, ids, masked=True)
    for spec in (
        "top_p=0.9",
        "temperature=0.7,top_p=0.8",
        "min_p=0.1,top_p=0.9",
        "sglang:top_p=0.9,min_p=0.1",
    ):
        resolve(spec).run(x, ids, begun=begun)
    assert len(sorts) == 1


def test_a_ledger_sent_to_a_device_is_compared_there() -> None:
    x, ids = rows("normal", 3, 60), targets(60).expand(3, -1)
    end = resolve("top_k=7").run(x, ids).end
    there = end.on(away(x).device)
    with waits() as counted:
        assert there.on(away(x).device) is there and there.wide().shape == x.shape
        assert not counted
    for name in ("n", "ranks", "exact", "target_probs"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(end, name))

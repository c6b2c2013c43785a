"""What a ledger sums after each stage, against the whole distributions."""

from __future__ import annotations

import pytest
import torch

from elimtool.samplers import resolve
from elimtool.samplers.candidates import Candidates

CHAINS = ["llama.cpp", "hf", "temperature=2,top_k=7,min_p=0.1,top_p=0.6", "top_p=0.5,xtc=0.5"]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("spec", CHAINS)
def test_collision_and_output_mass(spec: str, compiled: bool) -> None:
    logits = 3 * torch.randn(5, 300, generator=torch.Generator().manual_seed(7))
    targets = torch.full((5, 1), -1)
    chain = resolve(spec)
    begun = Candidates.of(logits, targets, compiled=compiled)
    ledger = chain.run(logits, targets, begun=begun)
    output = logits.double().softmax(-1)
    for stage, record in enumerate(ledger.records):
        wide = ledger.before(stage + 1).wide().double()
        probs = wide.softmax(-1)
        torch.testing.assert_close(record.collision_after, (probs**2).sum(-1))
        expected = torch.where(wide > -torch.inf, output, 0.0).sum(-1)
        torch.testing.assert_close(ledger.output_mass(stage), expected)
    ends = [float(ledger.output_mass(stage).mean()) for stage in range(len(ledger.records))]
    assert ends == sorted(ends, reverse=True) and ends[-1] < 1


def test_margins_that_float32_could_undo_are_called_within_rounding() -> None:
    x = torch.tensor([[0.0, -2.0, -2.0 + 1e-7, -1.0]], dtype=torch.float64)
    edge = f"min_p={float(torch.tensor(-2.0, dtype=torch.float64).exp()):.17g}"
    entry = resolve(edge).run(x, torch.tensor([[0, 1, 2, 3]])).records[0]
    assert entry.within_rounding[0].tolist() == [False, True, True, False]
    counted = resolve("mirostat_v1=1").run(x, torch.tensor([[0, 1, 2, 3]])).records[0]
    assert counted.margin_unit == "tokens" and not bool(counted.within_rounding.any())

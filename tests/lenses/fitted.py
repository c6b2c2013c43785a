"""A ridge lens of random maps and frequencies, for tests that need the tables of a fitted one."""

from __future__ import annotations

from typing import Any

import torch

from elimtool.lenses.regime import WINDOW, ReferenceStatistics
from elimtool.lenses.ridge import Facts, RidgeLens


def random_lens_for(model: Any, windows: int = 3) -> RidgeLens:
    """Make one for a model; with so few windows regimes abstain."""
    generator = torch.Generator().manual_seed(0)
    prior = torch.log_softmax(torch.randn(model.vocab, generator=generator), -1)
    reference = ReferenceStatistics(torch.ones(windows), torch.ones(windows, WINDOW), prior, 0.05)
    facts = Facts(model.name, model.hashes()["weights_sha256"], "b" * 64, 100, 99, 34, "none", 0.05, "0")
    maps = torch.randn(model.n_layers, model.width, model.width, generator=generator)
    return RidgeLens(
        maps, torch.zeros(model.n_layers, model.width), torch.ones(model.n_layers), reference, facts
    )

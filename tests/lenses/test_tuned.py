"""Tuned lenses as the tuned-lens package saves them: translators added to the residual."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from elimtool.errors import ElimError
from elimtool.lenses.tuned import load_tuned


def saved(folder: Path, layers: int = 2, width: int = 3, bias: bool = True, **config: Any) -> nn.ModuleList:
    """Write a folder the way the package does: the state of a list of linear layers, and a config."""
    torch.manual_seed(0)
    translators = nn.ModuleList([nn.Linear(width, width, bias=bias) for _ in range(layers)])
    torch.save(translators.state_dict(), folder / "params.pt")
    given = {"base_model_name_or_path": "org/m", "d_model": width, "num_hidden_layers": layers, "bias": bias}
    (folder / "config.json").write_text(json.dumps({**given, **config}))
    return translators


@pytest.mark.parametrize("bias", [True, False])
def test_translators_are_added_to_the_residual(tmp_path: Path, bias: bool) -> None:
    translators = saved(tmp_path, bias=bias, lens_type="linear_tuned_lens", unembed_hash="x")
    lens = load_tuned(tmp_path, 2, 3)
    assert lens.name == tmp_path.name
    x = torch.randn(5, 3)
    with torch.no_grad():
        for index, translator in enumerate(translators):
            torch.testing.assert_close(lens.to_final(x, index - 1), x + translator(x))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ElimError, match=r"config\.json"):
        load_tuned(tmp_path, 2, 3)
    saved(tmp_path)
    with pytest.raises(ElimError, match="org/m with 2 layers of width 3, but the model has 4 of width 3"):
        load_tuned(tmp_path, 4, 3)
    (tmp_path / "params.pt").write_bytes(b"no pickle")
    with pytest.raises(ElimError, match=r"params\.pt"):
        load_tuned(tmp_path, 2, 3)
    torch.save({"0.weight": torch.zeros(3, 3)}, tmp_path / "params.pt")
    with pytest.raises(ElimError, match="no usable translator"):
        load_tuned(tmp_path, 2, 3)
    saved(tmp_path, lens_type="mlp")
    with pytest.raises(ElimError, match="linear tuned lens"):
        load_tuned(tmp_path, 2, 3)


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    saved(tmp_path)
    torch.save({"0.weight": Path("code")}, tmp_path / "params.pt")
    with pytest.raises(ElimError, match=r"params\.pt"):
        load_tuned(tmp_path, 2, 3)

"""Read tuned lenses in the format of the tuned-lens package: a folder with ``config.json`` and ``params.pt``.

``params.pt`` holds one linear translator per layer, ``i.weight`` and ``i.bias``. Translator i reads the
residual that enters block i (here: the one after layer i - 1), and its output is added to that residual.
Source: Belrose et al. 2023 (arXiv 2303.08112) and github.com/AlignmentResearch/tuned-lens,
tuned_lens/nn/lenses.py.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.lenses.affine import AffineLens

CONFIG = "config.json"
PARAMETERS = "params.pt"


def load_tuned(folder: Path, n_layers: int, width: int) -> AffineLens:
    """Read a tuned lens and check that its size is the model's.

    That its weights are the model's cannot be checked: the folder names only the model it was trained for.

    Args:
        folder: Holds ``config.json`` and ``params.pt``.
        n_layers: Blocks of the model.
        width: Size of its residual stream.

    Raises:
        ElimError: The lens is missing, damaged, of another kind, or of another size than the model.
    """
    config = _config(folder / CONFIG)
    size = (config.get("num_hidden_layers"), config.get("d_model"))
    if size != (n_layers, width):
        raise ElimError(
            f"the tuned lens {folder} is for {config.get('base_model_name_or_path')} with {size[0]} layers of"
            f" width {size[1]}, but the model has {n_layers} of width {width}",
            "give a lens that was trained for this model",
        )
    state = _parameters(folder / PARAMETERS)
    identity = torch.eye(width)  # a translator gives what to add to the residual
    try:
        weight = [identity + state[f"{i}.weight"].float() for i in range(n_layers)]
        bias = [state.get(f"{i}.bias", torch.zeros(width)).float() for i in range(n_layers)]
        return AffineLens(folder.name, torch.stack(weight), torch.stack(bias))
    except (KeyError, RuntimeError, AttributeError) as error:
        raise ElimError(f"the tuned lens {folder} has no usable translator: {error}") from error


def _config(path: Path) -> dict[str, Any]:
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ElimError(f"cannot read the tuned lens's {path}: {error}") from error
    kind = config.get("lens_type", "linear_tuned_lens") if isinstance(config, dict) else None
    if kind != "linear_tuned_lens":
        raise ElimError(f"{path} does not describe a linear tuned lens (lens_type {kind!r})")
    return dict(config)


def _parameters(path: Path) -> dict[str, Tensor]:
    try:  # weights_only: a pickle must not run code
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ElimError(f"cannot read the tuned lens's {path}: {first}") from error
    if not isinstance(state, dict):
        raise ElimError(f"{path} holds no translators")
    return state

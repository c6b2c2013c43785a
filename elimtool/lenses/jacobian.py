"""Read Jacobian lenses in the format of TransformerLens (4.3, ``tools/analysis/jacobian_lens.py``).

A file holds ``J``, a mapping of layers 0 .. L - 2 to matrices: the mean over prompts and positions t of the
sum over positions t' >= t of the derivative of the last block's output at t' by block l's output at t.
Nothing trains it to predict the output: what it reads is what a residual does to the last one to first
order, on average. Only whole lenses are read, not checkpoints of a fit.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.lenses.affine import AffineLens

SCHEME = "jacobian:"
"""What stands before the file's name where a lens is chosen."""
NAME = "jacobian"


def load_jacobian(path: Path, n_layers: int, width: int, revision: str = "") -> AffineLens:
    """Read a Jacobian lens and check that its layers and width, and what it says of itself, are the model's.

    The embedding, for which such a lens has no map, is read as it is.

    Args:
        path: The file.
        n_layers: Blocks of the model.
        width: Size of its residual stream.
        revision: Commit of the model, if it is known.

    Raises:
        ElimError: The file is missing, damaged, of another kind, or of another model.
    """
    payload = _payload(path)
    maps, about = payload["J"], payload.get("metadata") or {}
    if not isinstance(maps, dict) or not isinstance(about, dict):
        raise ElimError(f"{path} holds no Jacobian lens: J and metadata must be mappings")
    model = f" ({about['model_name']})" if about.get("model_name") else ""
    _check(path, about, n_layers, revision)
    wanted = set(range(n_layers - 1))
    if set(maps) != wanted:
        raise ElimError(
            f"the Jacobian lens {path}{model} has maps for {len(maps):,} layers, and the model needs them for"
            f" the layers 0 to {n_layers - 2}",
            "fit it for this model, with all source layers",
        )
    try:
        weight = torch.stack([torch.eye(width), *(maps[layer].float() for layer in sorted(wanted))])
    except (RuntimeError, AttributeError) as error:
        raise ElimError(
            f"the Jacobian lens {path}{model} has other maps than {width} by {width}, the model's width",
            "give a lens that was fitted for this model",
        ) from error
    if not bool(weight.isfinite().all()):
        raise ElimError(f"the Jacobian lens {path} holds numbers that are not finite", "fit it again")
    return AffineLens(NAME, weight, torch.zeros(n_layers, width))


def _check(path: Path, about: dict[str, Any], n_layers: int, revision: str) -> None:
    """Refuse a lens that says it is of other weights, or maps elsewhere than to the last block's output."""
    fitted = about.get("model_revision")
    if revision and isinstance(fitted, str) and fitted != revision:
        raise ElimError(
            f"the Jacobian lens {path} was fitted on revision {fitted}, and the model is {revision}",
            "give a lens of this revision",
        )
    basis = about.get("processing")
    if isinstance(basis, dict) and (
        basis.get("compatibility_mode") or basis.get("weight_basis") not in (None, "raw_huggingface")
    ):
        raise ElimError(
            f"the Jacobian lens {path} was fitted on processed weights, and these are the raw ones",
            "fit it on a bridge without compatibility mode",
        )
    target = about.get("target_layer")
    if target not in (None, n_layers - 1):
        raise ElimError(
            f"the Jacobian lens {path} maps to layer {target}, not to the last one, {n_layers - 1}",
            "fit it without a target layer",
        )


def _payload(path: Path) -> dict[str, Any]:
    try:  # weights_only: a pickle must not run code
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ElimError(f"cannot read the Jacobian lens {path}: {first}") from error
    if not isinstance(payload, dict) or "J" not in payload:
        raise ElimError(
            f"{path} holds no Jacobian lens of TransformerLens: it has no J",
            "give what JacobianLens.save wrote; a checkpoint of a fit is not read",
        )
    if isinstance(payload["J"], dict) and not all(isinstance(one, Tensor) for one in payload["J"].values()):
        raise ElimError(f"{path} holds no Jacobian lens: its maps are not tensors")
    return payload

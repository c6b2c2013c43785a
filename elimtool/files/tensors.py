"""Write named tensors and facts about them to a safetensors file; equal contents give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.destination import write_file
from elimtool.files.parse import parse_json
from elimtool.files.yaml import unreadable

KEY = "elimtool"
"""Key of the only metadata entry: safetensors writes several in no fixed order."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write tensors to a file that a user named, whole or not at all.

    Args:
        path: The file; a missing folder is made.
        tensors: Tensors by name, on any device.
        facts: JSON to store with them.
        overwrite: Replace a file that is there.

    Raises:
        ElimError: The file is there, or cannot be written.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_file(path, save(plain, {KEY: json.dumps(dict(facts), sort_keys=True)}), overwrite)


def read_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and facts; a safetensors file that ``write_tensors`` did not write has no facts.

    Raises:
        ElimError: The file is missing, or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    if why := unreadable(path):  # safetensors takes a file without permission for one that is not there
        raise ElimError(f"cannot read {path}: {why}", "check the name and its permissions")
    try:
        with safe_open(path, "pt") as file:
            facts = parse_json((file.metadata() or {}).get(KEY, "{}"))
            return {name: file.get_tensor(name).to(device) for name in list(file.keys())}, facts
    except OSError as error:
        raise ElimError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise ElimError(f"{path} is damaged, or not a safetensors file: {error}") from error

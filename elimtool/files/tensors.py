"""Write named tensors and facts about them to a safetensors file; equal contents give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.writing import make_directory, write_whole
from elimtool.files.yaml import unreadable

KEY = "elimtool"
"""Key of the only metadata entry: safetensors writes several in no fixed order."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], what: str = ""
) -> None:
    """Write tensors to a file, whole or not at all.

    Args:
        path: The file; a missing folder is made.
        tensors: Tensors by name, on any device.
        facts: JSON to store with them.
        what: Name of the file's kind in error messages, such as ``the lens``.

    Raises:
        ElimError: The file cannot be written.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(plain, {KEY: json.dumps(dict(facts), sort_keys=True)})
    try:
        make_directory(path.parent)
        write_whole(path, lambda file: file.write(content))
    except OSError as error:
        named = f"{what} {path}" if what else path
        raise ElimError(f"cannot write {named}: {error.strerror or error}") from error


def read_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and facts; a safetensors file that ``write_tensors`` did not write has no facts.

    Raises:
        ElimError: The file is missing, or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    if why := unreadable(path):  # safetensors takes a file without permission for one that is not there
        raise ElimError(f"cannot read {path}: {why}", "check the name and its permissions")
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            facts = json.loads((file.metadata() or {}).get(KEY, "{}"))
            return {name: file.get_tensor(name) for name in list(file.keys())}, facts
    except OSError as error:
        raise ElimError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise ElimError(f"{path} is damaged, or not a safetensors file: {error}") from error

"""Named tensors and facts about them to one safetensors file and back; equal contents give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elimtool.errors import ElimError

KEY = "elimtool"
"""The one metadata entry: safetensors writes several in no fixed order."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], what: str = ""
) -> None:
    """Write a file, whole or not at all.

    Args:
        path: The file; its folder must be there.
        tensors: What to write, from any device.
        facts: JSON to go with it.
        what: What the message calls the file, such as ``the lens``.

    Raises:
        ElimError: It cannot be written.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(plain, {KEY: json.dumps(dict(facts), sort_keys=True)})
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise unwritable(path, error, what) from error


def unwritable(path: Path, error: OSError, what: str = "") -> ElimError:
    """The error of a file that cannot be written."""
    return ElimError(f"cannot write {f'{what} ' if what else ''}{path}: {error.strerror or error}")


def read_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote; a safetensors file of another kind has no facts.

    Raises:
        ElimError: No such file, or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt", device=str(device)) as file:
            facts = json.loads((file.metadata() or {}).get(KEY, "{}"))
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, facts
    except OSError as error:
        raise ElimError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise ElimError(f"{path} is damaged, or not a safetensors file: {error}") from error

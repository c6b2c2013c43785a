"""Name PEFT adapters (LoRA and its kin), find their base model, and tell them apart by digests."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.model.store import ADAPTER, ADAPTER_WEIGHTS, combined_sha256

WEIGHTS = (f"{ADAPTER_WEIGHTS}.safetensors", f"{ADAPTER_WEIGHTS}.bin")

_SCALED = re.compile("^(?P<name>.+)@(?P<scale>[^@/]+)$")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that was merged.

    Attributes:
        name: The user's name for it.
        scale: Factor of its change.
        kind: Kind in words, such as ``LORA``, ``LORA with DoRA``.
        sha256: Digest of its configuration and weights.
        directory: Where it is.
    """

    name: str
    directory: Path
    scale: float
    kind: str
    sha256: str

    @staticmethod
    def of(name: str, directory: Path, scale: float) -> Adapter:
        """Describe an adapter by its files.

        Raises:
            ElimError: Its configuration cannot be read.
        """
        kind = _kind(config_of(directory))
        return Adapter(name, directory, scale, kind, _digest(directory))

    def plain(self) -> dict[str, Any]:
        """Return the facts for ``run.json``."""
        return {"name": self.name, "scale": self.scale, "kind": self.kind, "sha256": self.sha256}


def parse_adapter(argument: str) -> tuple[str, float]:
    """Read ``DIR`` or ``DIR@SCALE``.

    Raises:
        ElimError: The scale is not a finite number.
    """
    found = _SCALED.match(argument)
    if found is None:
        return argument, 1.0
    try:
        scale = float(found["scale"])
    except ValueError:
        return argument, 1.0  # an @ of the name
    if not -1e6 < scale < 1e6:
        raise ElimError(f"the scale of an adapter must be finite, got '{argument}'", "such as DIR@0.5")
    return found["name"], scale


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter, alone or beside a model."""
    return (directory / ADAPTER).is_file()


def base_of(directory: Path) -> str:
    """Name the model that an adapter was made for.

    Raises:
        ElimError: Its configuration cannot be read or names none.
    """
    base = config_of(directory).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ElimError(f"{directory / ADAPTER} names no base model", "name it with `base`")
    beside = directory / base  # a relative path is from where it was trained, or from the adapter
    return str(beside) if not Path(base).exists() and beside.is_dir() else base


def config_of(directory: Path) -> dict[str, Any]:
    """Read an adapter's configuration.

    Raises:
        ElimError: It cannot be read, or is not a JSON object.
    """
    try:
        found = json.loads((directory / ADAPTER).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ElimError(f"{directory / ADAPTER} cannot be read: {error}", "save the adapter again") from error
    if not isinstance(found, dict):
        raise ElimError(f"{directory / ADAPTER} is not a JSON object", "save the adapter again")
    return found


def with_adapters(weights_sha256: str, adapters: Sequence[Adapter]) -> str:
    """Return the digest of weights with what was merged into them: digests and scales, in order."""
    if not adapters:
        return weights_sha256
    lines = [weights_sha256, *(f"{one.sha256} {one.scale!r}" for one in adapters)]
    return sha256("\n".join(lines).encode()).hexdigest()


def _kind(config: dict[str, Any]) -> str:
    more = [word for key, word in (("use_dora", "DoRA"), ("use_rslora", "rsLoRA")) if config.get(key)]
    return " with ".join([str(config.get("peft_type")), *[" and ".join(more)][: len(more)]])


def _digest(directory: Path) -> str:
    files = [directory / ADAPTER, *(directory / one for one in WEIGHTS if (directory / one).is_file())]
    return combined_sha256(files[:2])

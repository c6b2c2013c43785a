"""Say where a model's weights go and how they are stored: devices, offload, quantisation; read them back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from elimtool.errors import ElimError, nearest

MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Ways in which accelerate spreads a model by itself."""

QUANTISED = ("8bit", "4bit")
"""Number types that weights can be quantised to while they load."""

_FOLDERS: list[TemporaryDirectory[str]] = []
"""For weights that cannot be read from the checkpoint: offloaded or merged; removed at the end."""

_DEVICE = "cpu|mps|cuda(:[0-9]{1,3})?"
_TARGET = re.compile("cpu|disk|cuda(:[0-9]{1,3})?|[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's weights go.

    Attributes:
        device: The one device, where ``spread`` is empty.
        spread: A name of ``MAPS``, or the device of each module: ``cuda:N``, ``cpu``, ``disk``.
        memory: Bytes to use of each GPU; empty for all that is free.
        quantize: A number type of ``QUANTISED``, or empty.
    """

    device: str = "cpu"
    spread: str | Mapping[str, str | int] = ""
    memory: Mapping[int, int] = field(default_factory=dict)
    quantize: str = ""

    def check(self, hf: Any) -> None:
        """Refuse a map that leaves out some of the model.

        Raises:
            ValueError: With the name of a weight.
        """
        if isinstance(self.spread, Mapping) and "" not in self.spread:
            for name, _ in hf.named_parameters():
                if not any(f"{name}.".startswith(f"{module}.") for module in self.spread):
                    raise ValueError(f"`device_map` does not give any device for {name}")

    @property
    def placed(self) -> bool:
        """Whether the weights go to their devices while they load, rather than afterwards."""
        return bool(self.spread or self.quantize)

    @staticmethod
    def folder(what: str) -> str:
        """Make a folder that is there until the process ends."""
        _FOLDERS.append(TemporaryDirectory(prefix=f"elimtool-{what}-"))
        return _FOLDERS[-1].name

    def options(self, quantised: bool) -> dict[str, Any]:
        """Return the arguments of transformers' ``from_pretrained``.

        Args:
            quantised: The checkpoint is quantised already: such weights are not moved afterwards.
        """
        given: dict[str, Any] = {}
        if self.placed or quantised:
            given["device_map"] = self.spread or {"": self.device}
        if self.spread:
            given["offload_folder"] = self.folder("offload")
        if memory := self.memory or self._without_apple():
            given["max_memory"] = dict(memory)
        if self.quantize:
            from transformers import BitsAndBytesConfig

            given["quantization_config"] = BitsAndBytesConfig(
                load_in_8bit=self.quantize == "8bit",
                load_in_4bit=self.quantize == "4bit",
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=torch.float32,
            )
        return given

    def _without_apple(self) -> Mapping[int | str, int]:
        """Return the memory to spread over where accelerate would take Apple's GPU; empty elsewhere."""
        if not isinstance(self.spread, str) or not self.spread:
            return {}
        from accelerate.utils import get_max_memory

        found = get_max_memory()
        return {"cpu": found["mps"]} if "mps" in found else {}


PROCESSOR = Placement()
"""Everything in the processor's memory."""


def place(
    device: str = "auto",
    device_map: str | None = None,
    n_devices: int | None = None,
    quantize: str | None = None,
) -> Placement:
    """Check how a model is to be placed; see ``load_model`` for the arguments.

    Raises:
        ElimError: There is no such device, map or number type here, or two of them exclude each other.
    """
    if quantize is not None and quantize not in QUANTISED:
        raise ElimError(f"`quantize` '{quantize}' is not valid", nearest(quantize, QUANTISED))
    if quantize is not None:
        _need_bitsandbytes()
    spread = device_map is not None or n_devices not in (None, 1)
    if spread and device != "auto":
        raise ElimError(
            f"`device` {device} and `{'device_map' if device_map else 'n_devices'}` exclude each other",
            "leave `device` out: the map says where the weights go",
        )
    if device_map is not None and n_devices is not None:
        raise ElimError("`device_map` and `n_devices` exclude each other", "give one of them")
    if n_devices is not None:
        return _several(n_devices, quantize or "", device)
    found: str | Mapping[str, str | int] = ""
    if device_map is not None:
        found = device_map if device_map in MAPS else _read(device_map)
    return Placement(_one(device), found, quantize=quantize or "")


def _several(n: int, quantize: str, device: str) -> Placement:
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if n < 1 or n > max(there, 1):
        raise ElimError(
            f"`n_devices` {n}: this machine has {there} CUDA device{'' if there == 1 else 's'}",
            "use `device_map='auto'` to use the processor's memory too" if n > 0 else "give 1 or more",
        )
    if n == 1:
        return Placement(_one(device), quantize=quantize)
    memory = {index: int(torch.cuda.mem_get_info(index)[0] * 0.9) for index in range(n)}
    return Placement("cuda:0", "balanced", memory, quantize)


def _read(name: str) -> dict[str, str | int]:
    """Read a map of modules to devices from a JSON file."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise ElimError(
            f"`device_map` '{name}' is unknown, and there is no such file",
            f"{nearest(name, MAPS)}, or a JSON file of modules and devices",
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ElimError(
            f"{path} is not valid JSON: {error}", "write modules and their devices there"
        ) from error
    if not isinstance(found, dict) or not found:
        raise ElimError(f"{path} is not a JSON object of modules and devices", _EXAMPLE)
    if "" in found and len(found) > 1:
        raise ElimError(f"{path}: the name '' stands for the whole model, so it must stand alone", _EXAMPLE)
    for module, device in found.items():
        if isinstance(device, bool) or not _TARGET.fullmatch(str(device)):
            raise ElimError(
                f"{path}: the device {device!r} of '{module}' is not valid", "use cuda:N, cpu or disk"
            )
        target = str(device)
        if target.isdigit() or target.startswith("cuda"):
            _one(f"cuda:{target}" if target.isdigit() else target)
    return found


_EXAMPLE = (
    'name every module, such as {"model.embed_tokens": "cpu", "model.layers": "disk", "lm_head": "cpu"}'
)


def _one(device: str) -> str:
    """Choose the device for ``auto``; refuse a device that this machine lacks."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if not re.fullmatch(_DEVICE, device):
        raise ElimError(f"`device` '{device}' is not valid", nearest(device, ("auto", "cpu", "cuda")))
    if kind == "mps":
        raise ElimError(
            f"`device` {device}: Apple's GPU has no float64, in which distributions are measured",
            "use `device='cpu'`",
        )
    there = kind == "cpu" or torch.cuda.is_available()
    if not there or (kind == "cuda" and index and int(index) >= torch.cuda.device_count()):
        raise ElimError(f"`device` {device}: there is no such device on this machine", "use `device='cpu'`")
    return device


def _need_bitsandbytes() -> None:
    from transformers.utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise ElimError("`quantize` needs the package bitsandbytes", "install it: pip install bitsandbytes")


def settle(hf: Any) -> None:
    """Let quantised layers compute in the number type asked for, from weights that stay as they are.

    On processors with AVX512-BF16 bitsandbytes would put 4-bit weights into another order in the first pass,
    where ``weight_of`` could not read them, and compute in bfloat16.
    """
    getLogger("bitsandbytes").setLevel("ERROR")  # it says of every 8-bit layer that it casts what it reads
    for module in hf.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def device_of(module: nn.Module, otherwise: torch.device) -> torch.device:
    """Return the device that a module computes on, wherever its weights rest."""
    for one in module.modules():
        hook = getattr(one, "_hf_hook", None)
        if (executing := getattr(hook, "execution_device", None)) is not None:
            return torch.device("cuda", executing) if isinstance(executing, int) else torch.device(executing)
    parameter = next(module.parameters(), None)
    return otherwise if parameter is None or parameter.device.type == "meta" else parameter.device


def weight_of(layer: Any, name: str = "weight") -> Tensor | None:
    """Return a layer's tensor: from where it is offloaded to, and dequantised; ``None`` if it has none."""
    tensor = getattr(layer, name, None)
    if not isinstance(tensor, Tensor):
        return None
    if tensor.device.type == "meta":
        kept = getattr(getattr(layer, "_hf_hook", None), "weights_map", None)
        return None if kept is None else kept[name].to(tensor.dtype)
    if type(tensor).__name__ in ("Params4bit", "Int8Params"):
        from transformers.integrations.bitsandbytes import dequantize_bnb_weight

        plain: Tensor = dequantize_bnb_weight(tensor, getattr(layer, "state", None))
        return plain
    return tensor


def facts(hf: Any) -> dict[str, Any]:
    """Say how a loaded model is placed, for ``run.json``: ``device_map`` and ``quantization``, or nothing."""
    spread = getattr(hf, "hf_device_map", None)
    found: dict[str, Any] = {}
    if spread and set(spread) != {""}:
        found["device_map"] = {module: str(device) for module, device in spread.items()}
    elif spread and "disk" in spread.values():
        found["device_map"] = {"": "disk"}
    if (stored := getattr(getattr(hf, "config", None), "quantization_config", None)) is not None:
        given = stored if isinstance(stored, dict) else stored.to_dict()
        found["quantization"] = {key: value for key, value in given.items() if not key.startswith("_")}
    return found

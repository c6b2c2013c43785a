"""Declare the options that say which model is loaded, and how."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from elimtool.cli.options import MODEL, option, switch
from elimtool.model import DEFAULT_MODEL
from elimtool.model.source import ModelSource

Revision = Annotated[
    str | None,
    option(
        "--revision",
        help="Branch, tag or commit of a Hugging Face id; of a local directory, a folder in it.",
        panel=MODEL,
        env="REVISION",
    ),
]
Dtype = Annotated[
    str,
    option(
        "--dtype",
        help="float32, bfloat16, float16, float64, or auto for the checkpoint's own.",
        metavar="TYPE",
        panel=MODEL,
        env="DTYPE",
    ),
]
Device = Annotated[
    str,
    option(
        "--device",
        help="auto (CUDA if there is one), cpu, cuda or cuda:N.",
        metavar="NAME",
        panel=MODEL,
        env="DEVICE",
    ),
]
DeviceMap = Annotated[
    str | None,
    option(
        "--device-map",
        help="Spread the weights over GPUs, memory and disk: auto, balanced, or a JSON file of devices.",
        metavar="MAP",
        panel=MODEL,
        env="DEVICE_MAP",
    ),
]
NDevices = Annotated[
    int | None,
    option("--n-devices", help="Spread the weights evenly over N GPUs.", metavar="N", panel=MODEL),
]
Quantize = Annotated[
    str | None,
    option(
        "--quantize",
        help="Quantise while loading: 8bit or 4bit (bitsandbytes).",
        metavar="TYPE",
        panel=MODEL,
        env="QUANTIZE",
    ),
]
TrustRemoteCode = Annotated[
    bool, switch("--trust-remote-code", help="Run Python code that comes with the checkpoint.", panel=MODEL)
]
Base = Annotated[
    str | None,
    option(
        "--base",
        metavar="NAME",
        help="Base model of an adapter given as -m. Without: the one that the adapter names.",
        panel=MODEL,
    ),
]


@dataclass(frozen=True)
class NamedModel:
    """Which model to load."""

    model: Annotated[
        str,
        option(
            "-m",
            "--model",
            help="Catalogue name, Hugging Face id, local directory, .gguf file or PEFT adapter.",
            metavar="NAME",
            panel=MODEL,
            env="MODEL",
        ),
    ] = DEFAULT_MODEL
    revision: Revision = None
    dtype: Dtype = "float32"
    device: Device = "auto"


@dataclass(frozen=True)
class BothOptions:
    """How any model is loaded; where a command loads two, these hold for both."""

    device_map: DeviceMap = None
    n_devices: NDevices = None
    trust_remote_code: TrustRemoteCode = False
    adapter: Annotated[
        list[str] | None,
        option(
            "--adapter",
            metavar="DIR[@SCALE]",
            help="PEFT adapter to merge into the model, such as lora or lora@0.5; repeatable, in order.",
            panel=MODEL,
        ),
    ] = None
    base: Base = None

    @property
    def loading(self) -> dict[str, Any]:
        """The fields of ``ModelSource`` that were given."""
        named = {one.name for one in fields(self)} - {one.name for one in fields(NamedModel)}
        given = {name: getattr(self, name) for name in named}
        given["adapters"] = tuple(given.pop("adapter") or ()) or None
        return {name: value for name, value in given.items() if value is not None and value is not False}


@dataclass(frozen=True)
class LoadOptions(BothOptions):
    """How the model of a command that loads one is loaded."""

    quantize: Quantize = None


@dataclass(frozen=True)
class ModelOptions(LoadOptions, NamedModel):
    """The model to load, and how."""

    @property
    def source(self) -> ModelSource:
        """The options as one value for the library."""
        return ModelSource(self.model, self.revision, self.dtype, self.device, **self.loading)

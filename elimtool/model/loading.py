"""Load a model by name: from the catalogue, the hub, a local directory or a .gguf file."""

from __future__ import annotations

from collections.abc import Sequence

from elimtool.model import DEFAULT_MODEL
from elimtool.model.adapters import is_adapter
from elimtool.model.atomic import Progress
from elimtool.model.bridging import bridge_of
from elimtool.model.checkpoint import load_hugging_face, load_tokenizer
from elimtool.model.dtypes import DTYPES, check_dtype
from elimtool.model.memory import collecting_later
from elimtool.model.merging import load_merged
from elimtool.model.model import Model
from elimtool.model.parts import find_parts, locate
from elimtool.model.placement import place

__all__ = ["DTYPES", "load_hugging_face", "load_model", "locate"]


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    device_map: str | None = None,
    n_devices: int | None = None,
    quantize: str | None = None,
    trust_remote_code: bool = False,
    adapters: Sequence[str] = (),
    base: str | None = None,
    progress: Progress | None = None,
) -> Model:
    """Load a causal language model with its raw weights under TransformerLens' hooks.

    Args:
        name: A catalogue name (``smollm2``), a Hugging Face id (``org/model``), a local directory in
            Hugging Face format, a ``.gguf`` file (converted once, then cached), or a PEFT adapter (directory
            or id), which is merged into its base model.
        revision: Branch, tag or commit of a hub id; of a local directory, a folder in it.
        dtype: ``float32`` (default), ``bfloat16``, ``float16``, ``float64``, or ``auto`` for the
            checkpoint's own.
        device: ``auto`` (CUDA if there is one, else CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        device_map: Spread the weights over devices, the processor's memory and the disk: ``auto``,
            ``balanced``, ``balanced_low_0``, ``sequential``, or a JSON file that gives each module's
            device (``cuda:N``, ``cpu`` or ``disk``). Instead of ``device``.
        n_devices: Spread the weights evenly over so many CUDA devices.
        quantize: ``8bit`` or ``4bit`` (NF4): quantise linear layers while loading, with bitsandbytes.
        trust_remote_code: Run Python code that comes with the checkpoint.
        adapters: Directories or ids of PEFT adapters to merge, in order, each with a scale if it is not 1:
            ``DIR@0.5``. They are merged in float32 (float64 for a float64 model), then converted.
        base: The base model of an adapter given as ``name``; ``None`` for the one that it names.
        progress: Called with a line of text when something slow begins.

    Raises:
        ElimError: The model cannot be found, fetched, read or run.
    """
    say = progress or (lambda _line: None)
    placement = place(device, device_map, n_devices, quantize)
    check_dtype(dtype)
    parts = find_parts(name, revision, adapters, base, trust_remote_code, say)
    say(f"loading {name}")
    with (
        collecting_later()
    ):  # loading makes millions of objects and no garbage: this saves a tenth of its time
        hf, merged = load_merged(name, parts.directory, dtype, trust_remote_code, parts.adapters, placement)
        n_ids = getattr(hf.config.get_text_config(), "vocab_size", None) or None
        tokenizer = load_tokenizer(name, parts.tokenizer, trust_remote_code, n_ids)
        hf.requires_grad_(False)
        bridge = bridge_of(name, hf)
    return Model(
        bridge=bridge,
        tokenizer=tokenizer,
        name=name,
        revision=parts.commit,
        revision_name=revision or "",
        directory=parts.directory,
        tokenizer_directory=parts.tokenizer,
        placement=placement,
        adapters=merged if parts.adapters or is_adapter(parts.directory) else None,
    )

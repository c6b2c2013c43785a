"""Convert a GGUF file to a Hugging Face directory: float32 weights, config, tokenizer, chat template."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.model import atomic, store
from elimtool.model.atomic import Progress, in_tenths
from elimtool.model.gguf_rope import ONE, scaled
from elimtool.model.gguf_tokenizer import field, save_tokenizer
from elimtool.model.quiet import quiet
from elimtool.version import __version__

CONVERTER = 1
"""Raised whenever the result of every conversion changes; part of the name of converted directories."""

REVISION = 2
"""Raised when that of some files changes, but not that of the catalogue's models."""

_DAMAGED = "download or copy it again; a GGUF file is read whole"
_DIRECTORY_HINT = "convert the original with its authors' tools and pass the Hugging Face directory"


def gguf_directory(path: Path, progress: Progress | None = None) -> Path:
    """Return the converted directory of a GGUF file, converting into the cache on first use.

    Args:
        path: The file, identified by its SHA-256 (cached by path, size and modification time).
        progress: Called with what is being done.

    Raises:
        ElimError: The file is missing, not GGUF, damaged or not supported, or the cache cannot be written.
    """
    _check_magic(path)
    digest = store.sha256_file(path, progress)
    target = store.cache_dir() / "models" / f"gguf-{digest[:16]}-v{CONVERTER}.{REVISION}"
    if store.is_intact(target):
        return target
    with atomic.locked(target, progress):
        if not store.is_intact(target):
            if target.exists():
                atomic.warn_damaged(target)
            convert(path, target, source={"file": path.name, "sha256": digest}, progress=progress)
    return target


def convert(
    path: Path, out_dir: Path, *, source: dict[str, str] | None = None, progress: Progress | None = None
) -> None:
    """Convert a GGUF file of any architecture that transformers reads, all or nothing.

    Weights become float32. What is lost is warned about and noted in the record.

    Args:
        path: The GGUF file.
        out_dir: The directory to write; replaced if it exists.
        source: Where the file came from, for the record.
        progress: Called with the share of tensors done.

    Raises:
        ElimError: The file is not GGUF, damaged, incomplete or not supported, or the disk is full.
    """
    if progress:
        progress(f"reading {path.name}")
    reader = open_gguf(path)
    needed = sum(int(tensor.n_elements) for tensor in reader.tensors) * 4
    atomic.ensure_directory(out_dir.parent)
    atomic.require_space(out_dir.parent, needed)
    with atomic.built_aside(out_dir, needed) as aside:
        notes = _save_weights(path, reader, aside, needed, progress)
        notes += _complete_config(aside / "config.json", reader)
        notes += save_tokenizer(path, reader, aside)
        store.write_record(aside, _facts(reader, source or {"file": path.name}, notes))
    for note in notes:
        warnings.warn(f"{path.name}: {note}", UserWarning, stacklevel=2)


def open_gguf(path: Path) -> Any:
    """Open a GGUF file as a ``gguf.GGUFReader`` and check that it is complete.

    Raises:
        ElimError: The file is missing, not GGUF, truncated, or one part of several.
    """
    from gguf import GGUFReader

    _check_magic(path)
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ElimError(f"{path} is a damaged or truncated GGUF file", _DAMAGED) from error
    if (parts := field(reader, "split.count", 1)) > 1:
        raise ElimError(
            f"{path} is one of {parts} parts", "join them first: llama-gguf-split merges FIRST into OUT"
        )
    if not reader.tensors or field(reader, "general.architecture") is None:
        raise ElimError(f"{path} holds no model: it has no tensors or names no architecture", _DAMAGED)
    return reader


def _check_magic(path: Path) -> None:
    if not path.is_file():
        raise ElimError(f"no such file: {path}", "pass a .gguf file, a directory, or a model name")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except PermissionError as error:
        raise ElimError(f"{path} cannot be read: {error.strerror}", "check who may read it") from error
    if magic != b"GGUF":
        raise ElimError(f"{path} is not a GGUF file: it starts with {magic!r}, not b'GGUF'", _DAMAGED)


def _save_weights(
    path: Path, reader: Any, out_dir: Path, needed: int, progress: Progress | None
) -> list[str]:
    """Write config and weights; return notes on what was lost."""
    from safetensors import SafetensorError

    model, missing = _load(path, reader, progress)
    if missing:
        shown = ", ".join(sorted(missing)[:3])
        raise ElimError(
            f"{path} lacks weights of its own model: {shown}", "the file is incomplete; get another"
        )
    model.hf_quantizer = None  # save_pretrained refuses a quantised model; these weights are float32 by now
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    if progress:
        progress("writing weights")
    try:
        with quiet():
            model.save_pretrained(out_dir)
    except SafetensorError as error:
        if "os error 28" in str(error) or "No space left" in str(error):
            raise atomic.disk_full(out_dir.parent, needed) from error
        raise
    return _lost(reader, model)


def _load(path: Path, reader: Any, progress: Progress | None) -> tuple[Any, set[str]]:
    """Load the file with transformers; return the model and the names of weights that the file lacks."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with quiet(), _reporting(progress):
            model, info = AutoModelForCausalLM.from_pretrained(
                str(path.parent), gguf_file=path.name, dtype=torch.float32, output_loading_info=True
            )
    except (ValueError, KeyError, NotImplementedError) as error:
        # transformers and gguf have no errors of their own for an unknown architecture, missing metadata or
        # a quantisation that they cannot undo; of our own code only `progress` runs here
        architecture = field(reader, "general.architecture")
        raise ElimError(
            f"{path}: architecture '{architecture}' cannot be converted: {_first_line(error)}",
            _DIRECTORY_HINT,
        ) from error
    missing = set(info["missing_keys"])
    return model, missing - {"lm_head.weight"} if model.config.tie_word_embeddings else missing


def _lost(reader: Any, model: Any) -> list[str]:
    """List what the file holds and the converted model does not."""
    notes = []
    in_file = sum(int(tensor.n_elements) for tensor in reader.tensors if not tensor.name.startswith("rope_"))
    # by address, so that tied weights count once
    in_model = sum({weight.data_ptr(): weight.numel() for weight in model.state_dict().values()}.values())
    if in_file > in_model:
        notes.append(f"{in_file - in_model} of its {in_file} weights have no place in the converted model")
    return notes


@contextmanager
def _reporting(progress: Progress | None) -> Iterator[None]:
    """Report the tensors of transformers' loader to ``progress`` instead of its own bar."""
    from transformers import modeling_gguf_pytorch_utils as loader

    def reported(items: Iterable[Any], **_: Any) -> Iterator[Any]:
        known, tell = list(items), in_tenths(progress, "converting weights")
        for done, item in enumerate(known):
            tell(done / len(known))
            yield item

    tqdm, loader.tqdm = loader.tqdm, reported
    try:
        yield
    finally:
        loader.tqdm = tqdm


def _complete_config(path: Path, reader: Any) -> list[str]:
    """Undo the rounding of decimals to float32 (9.99e-06 for 1e-05); drop the author's local model name.

    The file's scaling of rotary frequencies is put in; if it cannot be, the note that is returned says so.
    """
    config = _shortest(json.loads(path.read_text(encoding="utf-8")))
    if (rope := scaled(reader, config)) is not None:
        config["rope_parameters"] = rope
    for key in ("_name_or_path", "_model_name_or_path"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    kind = field(reader, f"{field(reader, 'general.architecture')}.rope.scaling.type", "none")
    asked = kind not in ("none", "") or any(tensor.name == ONE for tensor in reader.tensors)
    if asked and (config.get("rope_parameters") or {}).get("rope_type", "default") == "default":
        return ["its scaling of rotary frequencies is not carried over, so results differ from the original"]
    return []


def _shortest(value: Any) -> Any:
    """Replace floats that are exact in float32 by the shortest decimal with the same float32."""
    import numpy as np

    if isinstance(value, dict):
        return {key: _shortest(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortest(item) for item in value]
    if isinstance(value, float) and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    return value


def _facts(reader: Any, source: dict[str, str], notes: list[str]) -> dict[str, Any]:
    return {
        "source": source,
        "architecture": field(reader, "general.architecture"),
        "tensor_types": sorted({tensor.tensor_type.name for tensor in reader.tensors}),
        "pre_tokenizer": field(reader, "tokenizer.ggml.pre"),
        "sampling": _sampling(reader),
        "notes": notes,
        "converter": CONVERTER,
        "versions": {
            "elimtool": __version__,
            **{name: version(name) for name in ("transformers", "tokenizers", "torch", "gguf")},
        },
    }


def _sampling(reader: Any) -> dict[str, Any]:
    """Read the sampler settings of the file, by their last word: ``general.sampling.*`` and tokens to ban."""
    prefixes = ("general.sampling.", "tokenizer.ggml.suppress_")
    names = [name for name in reader.fields if name.startswith(prefixes)]
    return {name[name.rindex(".") + 1 :]: _shortest(field(reader, name)) for name in names}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

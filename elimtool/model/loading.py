"""Load a model by name: from the catalogue, the hub, a local directory or a .gguf file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.model import DEFAULT_MODEL
from elimtool.model.adapters import base_of, is_adapter, parse_adapter
from elimtool.model.atomic import Progress
from elimtool.model.bridging import bridge_of
from elimtool.model.checkpoint import load_hugging_face, load_tokenizer
from elimtool.model.memory import collecting_later
from elimtool.model.merging import load_merged
from elimtool.model.model import Model
from elimtool.model.placement import place
from elimtool.model.store import ADAPTER

__all__ = ["DTYPES", "load_hugging_face", "load_model", "locate"]

DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")


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
        revision: Branch, tag or commit of a hub id.
        dtype: ``float32`` (default), ``bfloat16``, ``float16``, ``float64``, or ``auto`` for the
            checkpoint's own.
        device: ``auto`` (CUDA if there is one, else CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
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
    if dtype not in DTYPES:
        raise ElimError(f"`dtype` '{dtype}' is not valid", nearest(dtype, DTYPES))
    parts = _parts(name, revision, adapters, base, trust_remote_code, say)
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
        directory=parts.directory,
        tokenizer_directory=parts.tokenizer,
        placement=placement,
        adapters=merged if parts.adapters or is_adapter(parts.directory) else None,
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Where the parts of a model are.

    Attributes:
        directory: Weights.
        commit: Their hub commit, or ``""``.
        tokenizer: The tokenizer: an adapter may bring its own.
        adapters: Name, directory and scale of the adapters to merge, in order.
    """

    directory: Path
    commit: str
    tokenizer: Path
    adapters: tuple[tuple[str, Path, float], ...] = ()


def _parts(
    name: str, revision: str | None, adapters: Sequence[str], base: str | None, trust: bool, say: Progress
) -> _Parts:
    """Find a model, its adapters, and where the model is itself an adapter its base."""
    known: dict[str, Any] = {"trust_remote_code": trust, "progress": say}
    directory, commit = locate(name, revision=revision, **known)
    wanted = []
    for one, scale in map(parse_adapter, adapters):
        place, _ = locate(one, revision=None, **known)
        if not is_adapter(place):
            raise ElimError(
                f"{one} is not an adapter: it has no {ADAPTER}", "give a directory that PEFT saved"
            )
        wanted.append((one, place, scale))
    if (directory / "config.json").is_file():
        if base is not None:
            raise ElimError(f"`base` is for adapters, and {name} is a whole model", "leave `base` out")
        return _Parts(directory, commit, directory, tuple(wanted))
    own = base or base_of(directory)
    try:
        under, commit = locate(own, revision=None, **known)
    except ElimError as error:
        hint = "" if base else "; name the base model with `base`, such as a local directory"
        raise ElimError(
            f"{name} is an adapter, and its base: {error.message}", f"{error.hint}{hint}"
        ) from error
    if not (under / "config.json").is_file():
        raise ElimError(f"{own} is an adapter too", "name a whole model with `base`")
    tokenizer = directory if (directory / "tokenizer.json").is_file() else under
    return _Parts(under, commit, tokenizer, ((name, directory, 1.0), *wanted))


def locate(
    name: str, *, revision: str | None, trust_remote_code: bool = False, progress: Progress
) -> tuple[Path, str]:
    """Return a model's local directory, fetched and converted if needed, and its hub commit or ``""``.

    Raises:
        ElimError: There is no such model, or it cannot be fetched or converted.
    """
    from elimtool.model.catalogue import CATALOGUE, materialise
    from elimtool.model.hub import snapshot

    path = Path(name).expanduser()
    kind = _kind(path) if name.strip() else ""
    if revision is not None and (name in CATALOGUE or kind):
        raise ElimError(f"`revision` {revision} is for hub ids; '{name}' is not one", "leave `revision` out")
    if name in CATALOGUE:
        return materialise(CATALOGUE[name], progress=progress), ""
    if kind == "directory":
        return _check_directory(path), ""
    if kind == "file":
        if path.suffix != ".gguf":
            raise ElimError(
                f"the model {name} is a file, but not a .gguf", "give the directory that holds config.json"
            )
        from elimtool.model.gguf import gguf_directory

        progress(f"converting {path.name}")
        return gguf_directory(path, progress), ""
    if name.startswith((".", "/", "~")) or name.endswith(".gguf") or name.count("/") > 1 or not name.strip():
        raise ElimError(
            f"the model '{name}' does not exist: there is no such file or directory", "check the path"
        )
    hint = f"{nearest(name, tuple(CATALOGUE))}; hub ids, local directories and .gguf files work too"
    return snapshot(name, revision, trust_remote_code, hint)


def _kind(path: Path) -> str:
    try:
        return "directory" if path.is_dir() else "file" if path.is_file() else ""
    except OSError:  # not a possible file name
        return ""


def _check_directory(path: Path) -> Path:
    if not (path / "config.json").is_file() and not is_adapter(path):
        raise ElimError(
            f"{path} has no config.json, so it is not a Hugging Face model directory",
            "export one with save_pretrained, or give a .gguf file",
        )
    if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        raise ElimError(f"{path} has no weights (*.safetensors or *.bin)", "export it with save_pretrained")
    return path.resolve()

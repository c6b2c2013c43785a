"""Manage the cache directory: its place, digests of files, and the record of each converted model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.model.atomic import CACHE_VARIABLE, Progress, in_tenths, write_json

if TYPE_CHECKING:
    from torch import nn

RECORD = "elimtool.json"
"""File in a converted directory that says where it came from, with the digests of its files."""

ADAPTER = "adapter_config.json"
"""File by which a directory is known to hold a PEFT adapter."""
ADAPTER_WEIGHTS = "adapter_model"
"""Name of the weights of an adapter, which are not the model's."""

MOST_DIGESTS = 1000
"""About how many digests are remembered: the file that has them is read for each."""

_CHUNK = 1 << 22
_VOCABULARY_FILES = (
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "added_tokens.json",
)


def cache_dir() -> Path:
    """Return ``ELIMTOOL_CACHE`` if set, else the user's cache directory; it need not exist yet."""
    if override := os.environ.get(CACHE_VARIABLE):
        return Path(override).expanduser().absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("elimtool", appauthor=False))


def sha256_file(path: Path, progress: Progress | None = None) -> str:
    """Return a file's SHA-256 (hexadecimal), reading it only if path, size or modification time is new.

    Args:
        path: The file.
        progress: Called with the share read.
    """
    resolved = path.resolve()
    stat = resolved.stat()
    stamp = [stat.st_size, stat.st_mtime_ns]
    known = read_json(cache_dir() / "hashes.json")
    entry = known.get(str(resolved))
    if isinstance(entry, list) and entry[:2] == stamp and len(entry) == 3:
        return str(entry[2])
    digest = digest_file(resolved, progress)
    known = _worth_keeping(known) | {str(resolved): [*stamp, digest]}
    with suppress(OSError):  # a cache that cannot be written costs time, not correctness
        cache_dir().mkdir(parents=True, exist_ok=True)
        write_json(cache_dir() / "hashes.json", known)  # two processes at once: one loses its entry
    return digest


def _worth_keeping(known: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of files that are still there; of too many, those that took longest to read."""
    whole = {
        name: one
        for name, one in known.items()
        if isinstance(one, list) and len(one) == 3 and isinstance(one[0], int)
    }
    there = [name for name in whole if Path(name).is_file()]
    return {name: whole[name] for name in sorted(there, key=lambda name: -whole[name][0])[:MOST_DIGESTS]}


def digest_file(path: Path, progress: Progress | None = None) -> str:
    """Return a file's SHA-256 (hexadecimal), reading it in any case."""
    total, done = path.stat().st_size, 0
    digest, tell = hashlib.sha256(), in_tenths(progress, f"checking {path.name}")
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            tell(done / total)
    return digest.hexdigest()


def weights_sha256(model_dir: Path) -> str:
    """Return one SHA-256 over names and SHA-256 of a model directory's weight files, by name.

    Digests in the directory's record are used while size and modification time match.

    Raises:
        ElimError: The directory holds no weights.
    """
    return _combined(model_dir, weight_files(model_dir))


def combined_sha256(files: Iterable[Path]) -> str:
    """Return one SHA-256 over names and SHA-256 of some files, by name."""
    return _digest_of((path.name, sha256_file(path)) for path in files)


def names_adapter(name: str) -> bool:
    """Whether a model's name is a directory that holds an adapter and no model of its own."""
    found = Path(name).expanduser()
    try:
        return (found / ADAPTER).is_file() and not (found / "config.json").is_file()
    except OSError:  # not a possible file name
        return False


def state_sha256(module: nn.Module) -> str:
    """Return one SHA-256 over names and bytes of a model's tensors, by name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weight_files(model_dir: Path) -> list[Path]:
    """List a model directory's ``*.safetensors``, else its ``*.bin``, by name; an adapter's are left out.

    Raises:
        ElimError: There are none.
    """
    for pattern in ("*.safetensors", "*.bin"):
        if found := sorted(path for path in model_dir.glob(pattern) if path.stem != ADAPTER_WEIGHTS):
            return found
    raise ElimError(
        f"no weights in {model_dir}: neither *.safetensors nor *.bin",
        "pass a directory as saved by save_pretrained, a .gguf file, or a model name",
    )


def tokenizer_sha256(model_dir: Path) -> str:
    """Return the SHA-256 of a model directory's ``tokenizer.json``, else of its vocabulary files together.

    Raises:
        ElimError: The directory holds no tokenizer.
    """
    whole = model_dir / "tokenizer.json"
    if whole.is_file():
        return sha256_file(whole)
    names = [model_dir / name for name in _VOCABULARY_FILES]
    files = sorted([*(path for path in names if path.is_file()), *model_dir.glob("*.tiktoken")])
    if not files:
        raise ElimError(
            f"no tokenizer in {model_dir}", "save the tokenizer there too: tokenizer.save_pretrained(DIR)"
        )
    return _combined(model_dir, files)


def write_record(model_dir: Path, facts: dict[str, Any]) -> None:
    """Write the record of a converted directory: ``facts``, and size, time and digest of its files.

    Those of the weights are ``files``, those of configuration and tokenizer ``beside``.
    """
    weights = weight_files(model_dir)
    files = {path.name: _stamped(path) for path in weights}
    others = {path for path in model_dir.iterdir() if path.is_file()} - {*weights, model_dir / RECORD}
    record = {
        **facts,
        "files": files,
        "beside": {path.name: _stamped(path) for path in sorted(others)},
        "weights_sha256": _digest_of((name, files[name][2]) for name in files),
    }
    write_json(model_dir / RECORD, record)


def _stamped(path: Path) -> tuple[int, int, str]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, digest_file(path)


def read_record(model_dir: Path) -> dict[str, Any]:
    """Read the record of a converted directory; empty if there is none or it cannot be read."""
    return read_json(model_dir / RECORD)


def is_intact(model_dir: Path) -> bool:
    """Check that a converted directory is whole: every file has the recorded size and content.

    Costs one ``stat`` per file; a file is read only if its modification time changed (a copied cache).
    """
    record = read_record(model_dir)
    files, beside = record.get("files"), record.get("beside")
    if not isinstance(files, dict) or not files:
        return False
    needed = {name: model_dir / name for name in ("config.json", "tokenizer.json")}
    if not isinstance(beside, dict):  # of an earlier elimtool
        beside = {}
        if not all(read_json(path) for path in needed.values()):
            return False
    for name, (size, mtime, digest) in {**files, **beside}.items():
        path = model_dir / name
        if not path.is_file() or path.stat().st_size != size:
            return False
        if path.stat().st_mtime_ns != mtime and sha256_file(path) != digest:
            return False
    return all(path.is_file() for path in needed.values())


def _combined(model_dir: Path, files: list[Path]) -> str:
    recorded = read_record(model_dir).get("files")
    known = recorded if isinstance(recorded, dict) else {}
    pairs = []
    for path in files:
        stat = path.stat()
        size, mtime, digest = known.get(path.name, (None, None, ""))
        same = (size, mtime) == (stat.st_size, stat.st_mtime_ns)
        pairs.append((path.name, digest if same else sha256_file(path)))
    return _digest_of(pairs)


def _digest_of(pairs: Iterable[tuple[str, str]]) -> str:
    lines = sorted(f"{name}\0{digest}\n" for name, digest in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; empty if it cannot be read or holds another value."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

"""Find where the parts of a model are: its weights, its tokenizer, its adapters; without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError, nearest
from elimtool.model.adapters import base_of, is_adapter, parse_adapter
from elimtool.model.atomic import Progress
from elimtool.model.store import ADAPTER, tokenizer_sha256

if TYPE_CHECKING:
    from elimtool.model.source import ModelSource
    from elimtool.model.tokens import Tokenizer


def open_tokenizer(source: ModelSource, sha256: str | None, say: Progress) -> Tokenizer:
    """Open the tokenizer that a finished run was measured with.

    Args:
        source: The model as the run names it.
        sha256: Digest of the tokenizer in the run; ``None`` where it is not known.
        say: Called with a line of text when something slow begins.

    Raises:
        ElimError: The tokenizer is not found, or it is another one.
    """
    from elimtool.model.checkpoint import load_tokenizer

    trust = source.trust_remote_code
    parts = find_parts(source.name, source.revision, source.adapters, source.base, trust, say)
    if sha256 is not None and tokenizer_sha256(parts.tokenizer) != sha256:
        raise ElimError(
            f"{source.name} has another tokenizer now than the run was measured with",
            "name the model of the run, or measure it again",
        )
    return load_tokenizer(source.name, parts.tokenizer, trust, None)


@dataclass(frozen=True, slots=True)
class Parts:
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


def find_parts(
    name: str, revision: str | None, adapters: Sequence[str], base: str | None, trust: bool, say: Progress
) -> Parts:
    """Find a model, its adapters, and where the model is itself an adapter its base.

    Args:
        name: As for ``load_model``, like the others.
        revision: Branch, tag or commit of a hub id.
        adapters: Adapters to merge.
        base: Base model of an adapter.
        trust: Whether Python code that comes with the checkpoint may be run.
        say: Called with a line of text when something slow begins.

    Raises:
        ElimError: A part cannot be found or fetched.
    """
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
        return Parts(directory, commit, directory, tuple(wanted))
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
    return Parts(under, commit, tokenizer, ((name, directory, 1.0), *wanted))


def locate(
    name: str, *, revision: str | None, trust_remote_code: bool = False, progress: Progress
) -> tuple[Path, str]:
    """Return a model's local directory, fetched and converted if needed, and its revision.

    That is the commit of a hub model. Of a local directory a revision is a folder in it, such as the
    ``checkpoint-500`` of a trainer; without one it is ``""``, as for all others.

    Raises:
        ElimError: There is no such model, or it cannot be fetched or converted.
    """
    from elimtool.model.catalogue import CATALOGUE, materialise
    from elimtool.model.hub import snapshot

    path = Path(name).expanduser()
    kind = _kind(path) if name.strip() else ""
    if revision is not None and (name in CATALOGUE or kind == "file"):
        hint = "leave `revision` out"
        raise ElimError(f"`revision` '{revision}' is for hub ids and directories; '{name}' is neither", hint)
    if name in CATALOGUE:
        return materialise(CATALOGUE[name], progress=progress), ""
    if kind == "directory" and revision is not None:
        return _check_directory(_folder(path, revision)), revision
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
    if _not_a_hub_id(name):
        raise ElimError(
            f"the model '{name}' does not exist: there is no such file or directory", "check the path"
        )
    return snapshot(name, revision, trust_remote_code, _names(name))


def check_revisions(name: str, revisions: Iterable[str]) -> None:
    """Refuse revisions that a model does not have, without fetching or converting any.

    Raises:
        ElimError: A revision is not a folder with a model, the hub does not have it, it is not cached where
            the hub cannot be reached, or the model has no revisions.
    """
    from elimtool.model.catalogue import CATALOGUE
    from elimtool.model.hub import check_snapshot

    here = name in CATALOGUE or not name.strip() or bool(_kind(Path(name).expanduser()))
    for one in revisions:
        if here or _not_a_hub_id(name):  # with a revision, nothing is fetched or converted
            locate(name, revision=one, progress=lambda _: None)
        else:
            check_snapshot(name, one, _names(name))


def _not_a_hub_id(name: str) -> bool:
    return (
        name.startswith((".", "/", "~")) or name.endswith(".gguf") or name.count("/") > 1 or not name.strip()
    )


def _names(name: str) -> str:
    """Hint at what else the name of a model can be."""
    from elimtool.model.catalogue import CATALOGUE

    return f"{nearest(name, tuple(CATALOGUE))}; hub ids, local directories and .gguf files work too"


def _kind(path: Path) -> str:
    try:
        return "directory" if path.is_dir() else "file" if path.is_file() else ""
    except OSError:  # not a possible file name
        return ""


def _folder(path: Path, revision: str) -> Path:
    """Find the folder of a model's directory that a revision is."""
    found = tuple(sorted(one.name for one in path.iterdir() if (one / "config.json").is_file()))
    if revision in found:
        return path / revision
    here = nearest(revision, found) if found else "it has no folder with a config.json"
    raise ElimError(f"`revision` '{revision}' is no folder of {path} that holds a model", here)


def _check_directory(path: Path) -> Path:
    if not (path / "config.json").is_file() and not is_adapter(path):
        raise ElimError(
            f"{path} has no config.json, so it is not a Hugging Face model directory",
            "export one with save_pretrained, or give a .gguf file",
        )
    if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        raise ElimError(f"{path} has no weights (*.safetensors or *.bin)", "export it with save_pretrained")
    return path.resolve()

"""Find the lens of a run: raw, the model's fitted lens in the cache, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from elimtool.errors import ElimError, nearest
from elimtool.lenses.brought import CHOICES, LENSES, BroughtLens
from elimtool.lenses.corpus import Document, shipped
from elimtool.lenses.fit import fit_lens
from elimtool.lenses.jacobian import SCHEME, load_jacobian
from elimtool.lenses.lens import Lens
from elimtool.lenses.raw import RawLens
from elimtool.lenses.ridge import RidgeLens
from elimtool.lenses.tuned import PARAMETERS, load_tuned
from elimtool.model import atomic, store
from elimtool.model.atomic import Progress
from elimtool.model.lock import exclusive
from elimtool.model.model import Model

FIT_VERSION = 2
"""Raised when the shipped text or the fit changes, so that older cached lenses are not used."""


def check_choice(choice: str) -> None:
    """Refuse a lens that is neither a known name nor on disk, before a model is loaded.

    Raises:
        ElimError: The lens is unknown; the hint lists the valid names.
    """
    if choice.startswith(SCHEME):
        if not _exists(choice.removeprefix(SCHEME)):
            raise ElimError(
                f"`lens` '{choice}': there is no such file",
                "give what TransformerLens' JacobianLens.save wrote",
            )
        return
    if choice not in CHOICES and choice not in LENSES and not _exists(choice):
        raise ElimError(
            f"`lens` '{choice}' is unknown, and there is no such file",
            f"{nearest(choice, (*CHOICES, *LENSES.everything()))}, or a file that elimtool lens fit wrote",
        )


def cached_lens(weights_sha256: str) -> Path:
    """Name the cache file of the lens of these weights."""
    return store.cache_dir() / "lenses" / f"{weights_sha256[:32]}-v{FIT_VERSION}.safetensors"


def has_lens(directory: Path) -> bool:
    """Tell whether the cache has the lens of a model directory, whole, without loading the model."""
    try:
        RidgeLens.load(cached_lens(store.weights_sha256(directory)))
    except ElimError:
        return False
    return True


def open_lens(choice: str, model: Model) -> tuple[Lens, str | dict[str, str]]:
    """Open a lens.

    Args:
        choice: ``auto`` (the fitted lens of this model if there is one, else raw), ``raw``, ``ridge``, the
            name of a plugin's, a file of ``elimtool lens fit``, a folder of the tuned-lens package, or
            ``jacobian:FILE``, a file of TransformerLens.
        model: The model to read.

    Returns:
        The lens, and its entry in ``run.json``: ``raw``, or its name and the SHA-256 of its file, or plugin.

    Raises:
        ElimError: There is no such lens, or it was fitted on another model.
    """
    check_choice(choice)
    if choice.startswith(SCHEME):
        path = Path(choice.removeprefix(SCHEME)).expanduser()
        jacobian = load_jacobian(path, model.n_layers, model.width, model.revision)
        return jacobian, {"name": jacobian.name, "sha256": store.sha256_file(path)}
    if choice not in CHOICES and choice in LENSES:
        brought = BroughtLens.open(choice, model)
        return brought, {"name": choice, "plugin": brought.plugin.distribution}
    fitted = cached_lens(model.hashes()["weights_sha256"]) if choice in ("auto", "ridge") else None
    if choice == "raw" or (choice == "auto" and fitted is not None and not fitted.is_file()):
        return RawLens(), "raw"
    if fitted is not None:
        if fitted.is_file():  # which is fitted anew if it is damaged
            ensure_lens(model)
        return _ridge(fitted, "ridge", model)
    path = Path(choice).expanduser()
    if path.is_dir():
        tuned = load_tuned(path, model.n_layers, model.width)
        return tuned, {"name": tuned.name, "sha256": store.sha256_file(path / PARAMETERS)}
    return _ridge(path, path.stem, model)


def fitted_lens(model: Model) -> Lens | None:
    """Open the model's fitted lens in the cache; ``None`` if there is none."""
    path = cached_lens(model.hashes()["weights_sha256"])
    return open_lens("ridge", model)[0] if path.is_file() else None


@exclusive
def ensure_lens(
    model: Model, progress: Progress | None = None, documents: Sequence[Document] | None = None
) -> Path:
    """Fit the model's lens, unless the cache has it.

    As ``elimtool.model.atomic.kept`` does: once, and anew if the file is damaged.

    Args:
        model: The model.
        progress: Called with what is being done.
        documents: Text to fit on; by default the package's own.
    """
    path = cached_lens(model.hashes()["weights_sha256"])

    def fit() -> None:
        text = shipped("fit") if documents is None else documents
        fit_lens(model, text, progress=progress).save(path, overwrite=True)

    atomic.kept(path, _opened, fit, progress)
    return path


def _ridge(path: Path, name: str, model: Model) -> tuple[RidgeLens, dict[str, str]]:
    if not path.is_file():
        raise ElimError(
            f"there is no fitted lens for {model.name} in {path.parent}",
            f"fit one: elimtool lens fit -m {model.name}",
        )
    lens, digest = _opened(path, name)
    lens.check(model.name, model.hashes()["weights_sha256"])
    return lens, {"name": name, "sha256": digest}


def _opened(path: Path, name: str = "ridge") -> tuple[RidgeLens, str]:
    """Open a lens file and name its SHA-256; the last one is kept, for the next trace of a process."""
    stat = path.stat()
    return _read(path, name, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path, name: str, _size: int, _mtime: int) -> tuple[RidgeLens, str]:
    return RidgeLens.load(path, name), store.sha256_file(path)


def _exists(choice: str) -> bool:
    try:
        return Path(choice).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # not a possible file name, or no home directory
        return False

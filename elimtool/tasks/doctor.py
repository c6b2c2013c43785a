"""Look at what elimtool depends on here: packages, devices, caches, models; and say what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.model.catalogue import ModelStatus, models_status
from elimtool.model.machine import DeviceInfo, devices
from elimtool.model.store import cache_dir
from elimtool.version import __version__

DEVELOPERS = ("dev", "docs")
"""Extras that only contributors need."""
PROGRAMS = ("chromium", "chromedriver")
"""What the tests of the HTML page drive."""


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """A package that elimtool uses.

    Attributes:
        name: Its name on the index.
        version: The version that is installed; null where none is.
        wanted: The versions that elimtool works with, such as ``>=2.6``; empty: any.
        extra: The extra that installs it; null for what elimtool cannot do without.
        ok: Whether it is there in such a version.
        fix: What to type where it is not; empty where it is.
    """

    name: str
    version: str | None
    wanted: str
    extra: str | None
    ok: bool
    fix: str


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """A directory that files are kept in.

    Attributes:
        what: Whose it is.
        path: The directory.
        variable: Environment variable that names another one.
        size: Bytes in it; 0 where it does not exist.
        free: Bytes free on its disk.
        writable: Whether it can be written, or made.
    """

    what: str
    path: str
    variable: str
    size: int
    free: int
    writable: bool


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of the catalogue.

    Attributes:
        name: Its name.
        ready: Whether it is fetched and whole.
        lens: Whether its calibrated lens is fitted.
        path: Its directory.
        size: Bytes.
    """

    name: str
    ready: bool
    lens: bool
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that elimtool lacks here.

    Attributes:
        what: What is wrong, and what does not work then.
        fix: What to type or to do.
        needed: Whether no trace works without it.
    """

    what: str
    fix: str
    needed: bool


@dataclass(frozen=True, slots=True)
class Examination:
    """What ``elimtool doctor`` found.

    Attributes:
        elimtool: Version of elimtool.
        python: Version of Python.
        system: Operating system and processor.
        packages: What elimtool uses, first what it cannot do without.
        devices: Where models can run, first the one that ``auto`` takes.
        caches: Directories that models and converted files are kept in.
        models: The models of the catalogue.
        programs: Path of each program that tests of the HTML page drive; null where there is none.
        variables: Environment variables that change what elimtool or the Hugging Face hub do.
        problems: What is missing, first what no trace works without.
    """

    elimtool: str
    python: str
    system: str
    packages: tuple[PackageInfo, ...]
    devices: tuple[DeviceInfo, ...]
    caches: tuple[CacheInfo, ...]
    models: tuple[ModelInfo, ...]
    programs: Mapping[str, str | None]
    variables: Mapping[str, str]
    problems: tuple[Problem, ...]

    @property
    def fit(self) -> bool:
        """Whether nothing is missing that a trace needs."""
        return not any(one.needed for one in self.problems)


def examine(requirements: Sequence[str] | None = None) -> Examination:
    """Look at this environment and machine; imports torch, and loads no model.

    Args:
        requirements: What elimtool declares that it needs. Without: as it is installed.
    """
    problems: list[Problem] = []
    packages = tuple(_packages(requirements, problems))
    there: tuple[DeviceInfo, ...] = ()
    try:
        there = devices()
    except (ImportError, OSError, RuntimeError) as error:  # a PyTorch that does not fit the machine
        problems.append(
            Problem(f"torch cannot be imported: {error}", "pip uninstall torch; pip install torch", True)
        )
    caches = _caches()
    for cache in caches:
        if not cache.writable:
            what = f"{cache.path} cannot be written: models cannot be fetched or converted"
            problems.append(Problem(what, f"set {cache.variable} to a directory that can", False))
    models = tuple(map(_model, models_status()))
    for model in models:
        if not model.ready:
            what = f"{model.name} is not fetched: the first trace of it fetches and converts it"
            problems.append(Problem(what, f"elimtool models pull {model.name}", False))
        elif not model.lens:
            what = f"{model.name} has no fitted lens: its layers are read through the raw one"
            problems.append(Problem(what, f"elimtool lens fit -m {model.name}", False))
    prefixes = ("ELIMTOOL_", "HF_HUB_", "HF_HOME", "TRANSFORMERS_OFFLINE", "CUDA_VISIBLE_DEVICES")
    secret = ("TOKEN", "KEY", "SECRET")
    return Examination(
        elimtool=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        packages=packages,
        devices=there,
        caches=caches,
        models=models,
        programs={name: shutil.which(name) for name in PROGRAMS},
        variables={
            name: "(set)" if any(word in name for word in secret) else value
            for name, value in sorted(os.environ.items())
            if name.startswith(prefixes)
        },
        problems=tuple(sorted(problems, key=lambda one: not one.needed)),
    )


def _packages(requirements: Sequence[str] | None, problems: list[Problem]) -> Iterator[PackageInfo]:
    """Describe what elimtool declares, and note what is missing of it."""
    from packaging.requirements import Requirement

    try:
        declared = requires("elimtool") or [] if requirements is None else list(requirements)
    except PackageNotFoundError:
        problems.append(
            Problem("elimtool is not installed, but run from its folder", "pip install -e .", False)
        )
        return
    seen: set[str] = set()
    for one in map(Requirement, declared):
        extra = _extra(one.marker)
        if extra in DEVELOPERS or one.name == "elimtool" or one.name in seen:
            continue
        seen.add(one.name)
        found = _version(one.name)
        ok = found is not None and one.specifier.contains(found, prereleases=True)
        what = f"{one.name}{one.specifier}" if one.specifier else one.name
        fix = "" if ok else f"pip install 'elimtool[{extra}]'" if extra else f"pip install '{what}'"
        if not ok:
            state = "is not installed" if found is None else f"is {found}, and has to be {one.specifier}"
            purpose = f" (extra {extra})" if extra else ""
            problems.append(Problem(f"{one.name} {state}{purpose}", fix, extra is None))
        yield PackageInfo(one.name, found, str(one.specifier), extra, ok, fix)


def _extra(marker: object) -> str | None:
    """The extra in a marker such as ``extra == 'plot'``; None where a package is always needed."""
    _, found, rest = str(marker or "").partition("extra == ")
    return rest.split(rest[0])[1] if found else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _caches() -> tuple[CacheInfo, ...]:
    from huggingface_hub.constants import HF_HUB_CACHE

    places = (("elimtool", cache_dir(), "ELIMTOOL_CACHE"), ("Hugging Face", Path(HF_HUB_CACHE), "HF_HOME"))
    return tuple(_cache(*place) for place in places)


def _cache(what: str, path: Path, variable: str) -> CacheInfo:
    size = 0
    for folder, _, names in os.walk(path):  # links count where they lead to
        size += sum(entry.stat().st_size for name in names if not (entry := Path(folder, name)).is_symlink())
    there = next(one for one in (path, *path.parents) if one.is_dir())
    return CacheInfo(
        what, str(path), variable, size, shutil.disk_usage(there).free, os.access(there, os.W_OK)
    )


def _model(one: ModelStatus) -> ModelInfo:
    ready = one.state == "ready"
    return ModelInfo(one.name, ready, ready and _has_lens(one.path), str(one.path), one.size)


def _has_lens(directory: Path) -> bool:
    from elimtool.lenses.find import has_lens

    try:
        return has_lens(directory)
    except (ElimError, ImportError):  # without torch
        return False

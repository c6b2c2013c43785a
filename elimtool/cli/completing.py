"""Complete what a shell asks for: models, chains, tables and other names, found without importing torch."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import typer

from elimtool.files.package import PACKAGE, shipped_configs
from elimtool.files.parse import parse_json
from elimtool.files.plugins import installed

Completer = Callable[..., list[str]]


def models(incomplete: str) -> list[str]:
    """Models of the catalogue, and those that the Hugging Face cache holds."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from elimtool.model.catalogue import CATALOGUE

    cached: list[str] = []
    with suppress(OSError):
        found = sorted(entry.name for entry in os.scandir(HF_HUB_CACHE))
        cached = [name.removeprefix("models--").replace("--", "/") for name in found if "models--" in name]
    return _of([*CATALOGUE, *cached], incomplete)


def chains(incomplete: str) -> list[str]:
    """Engines whose chains ship; after a comma, or where no engine fits, the stages of an inline chain."""
    engines = [] if "," in incomplete else engine_names()
    stages = [f"{stage}=" for stage in (*stage_names(), *installed("elimtool.samplers"))]
    return [*_of(engines, incomplete), *_listed(stages, incomplete)]


def samplers(incomplete: str) -> list[str]:
    """Engines and stages: what ``samplers show`` describes."""
    return _of([*engine_names(), *stage_names(), *installed("elimtool.samplers")], incomplete)


def tables(incomplete: str) -> list[str]:
    """Tables of a run, in a list with commas."""
    from elimtool.run.schema import TABLES

    return _listed([*TABLES, *installed("elimtool.metrics")], incomplete)


def lenses(incomplete: str) -> list[str]:
    """Lenses by name."""
    return _of(["auto", "raw", "ridge", *installed("elimtool.lenses")], incomplete)


def metrics(incomplete: str) -> list[str]:
    """Metrics of checks and of ``query``: short names, and every ``table.column`` once a table is begun."""
    from elimtool.analysis.check.metrics import SHORT, columns

    return _of([*SHORT, *(columns() if "." in incomplete else ())], incomplete)


def tables_of_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tables that the run of the argument before holds."""
    from elimtool.run.analysis import analysis_path
    from elimtool.run.schema import TABLES
    from elimtool.run.tables.findings import COMMAND_OF

    directory = Path(ctx.params.get("directory") or ".")
    known = {name: directory / name for name in TABLES}
    known |= {name: directory / name for name in _counted(directory)}
    known |= {name: analysis_path(directory, command) / name for name, command in COMMAND_OF.items()}
    return _of((name for name, path in known.items() if path.is_dir()), incomplete)


def _counted(directory: Path) -> list[str]:
    """Tables that a finished run counts, those of plugins among them."""
    with suppress(OSError, ValueError, AttributeError, KeyError):
        return list(parse_json((directory / "run.json").read_bytes())["counts"])
    return []


def engine_names() -> list[str]:
    """Names of the chains that ship, as ``samplers.preset_names``, which would import torch."""
    return sorted(path.stem for path in shipped_configs("samplers").glob("*.yaml"))


def stage_names() -> list[str]:
    """The keys of ``STAGES``, read from its source: importing the stages imports torch, which is slow."""
    source = (PACKAGE / "samplers" / "stages.py").read_text(encoding="utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Dict):
            return [key.value for key in statement.value.keys if isinstance(key, ast.Constant)]  # type: ignore[misc]
    return []


def _names(*names: str) -> Completer:
    def complete(incomplete: str) -> list[str]:
        return _of(names, incomplete)

    return complete


def _of(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _listed(names: Iterable[str], incomplete: str) -> list[str]:
    """Complete the last name of a list with commas by one that it does not have yet."""
    before, comma, last = incomplete.rpartition(",")
    given = {f"{one.partition('=')[0]}{'=' * ('=' in one)}" for one in before.split(",")}
    return [f"{before}{comma}{name}" for name in _of(names, last) if name not in given]


BY_FLAG: dict[str, Completer] = {
    "--model": models,
    "--base": models,
    "--samplers": chains,
    "--chain": chains,
    "--tables": tables,
    "--metric": metrics,
    "--dtype": _names("auto", "bfloat16", "float16", "float32", "float64"),
    "--device": _names("auto", "cpu", "cuda"),
    "--device-map": _names("auto", "balanced"),
    "--quantize": _names("4bit", "8bit"),
    "--lens": lenses,
    "--position": _names("all", "last", "written"),
    "--sinks": _names("auto", "none"),
    "--over": _names("label", "revision", "started"),
    "--target-space": _names("auto", "exact"),
}
"""What completes the value of an option, by its flag, in whichever command it is."""


def by_flag(flags: Iterable[str]) -> Completer | None:
    """Find what completes an option that is written in one of these ways; None for files and free text."""
    return next((BY_FLAG[flag] for flag in flags if flag in BY_FLAG), None)

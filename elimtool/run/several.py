"""Read what was found in several runs: a folder with an ``analysis``, and no run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.run import layout
from elimtool.run.analysis import AnalysisManifest
from elimtool.run.manifest import Manifest
from elimtool.run.reader import Run, open_run
from elimtool.run.tables.findings import FINDINGS


def in_common(runs: Sequence[Manifest]) -> Manifest:
    """Return what runs have in common: a text in which they differ lists all, anything else is null.

    Args:
        runs: One or more.
    """
    every = [one.without_times().model_dump() for one in runs]
    facts = {key: _joined([one[key] for one in every]) for key in every[0]}
    # the oldest meaning of a column counts, and a label is of one run
    oldest = min(one.schema_version for one in runs)
    return Manifest.model_validate({**facts, "schema_version": oldest, "label": None, "counts": {}})


def _joined(values: Sequence[Any]) -> Any:
    if all(one == values[0] for one in values):
        return values[0]
    texts = list(dict.fromkeys(one for one in values if isinstance(one, str)))
    return ", ".join(texts) or None


def is_several(directory: Path) -> bool:
    """Return whether a directory is no run, but holds what a command found in several."""
    return not (directory / layout.MANIFEST).is_file() and bool(_manifests(directory))


def open_found(directory: str | Path) -> Run:
    """Open a run, or what was found in several: a run without tables of its own, whose findings can be read.

    Args:
        directory: What ``-o`` named.

    Raises:
        ElimError: As ``open_run``; or the findings are damaged, or some are of other runs than others.
    """
    path = Path(directory)
    if not path.is_dir() or not is_several(path):
        return open_run(path)
    known: dict[str, Manifest] = {}
    for file in _manifests(path):
        try:
            found = AnalysisManifest.from_json(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise ElimError(f"cannot read {file}: {error}", "make it again") from error
        if not isinstance(found.together, dict):
            raise ElimError(f"{path} has lost the run that {file.parent.name} was of", "give its run")
        facts = {key: value for key, value in found.together.items() if key != "fingerprint"}
        known.setdefault(found.run, Manifest.model_validate(facts))
    if len(known) > 1:
        raise ElimError(f"{path} has findings of different runs", "keep each in a folder of its own")
    return Run(next(iter(known.values())), path)


def _manifests(directory: Path) -> list[Path]:
    files = (directory / layout.ANALYSIS / command / layout.ANALYSIS_FILE for command in FINDINGS)
    return [one for one in files if one.is_file()]

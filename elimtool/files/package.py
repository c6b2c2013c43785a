"""Find the package on disk and the example files that ship with it, and start Python from there alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
"""The folder ``elimtool``, installed or in a checkout."""


def shipped_configs(kind: str) -> Path:
    """Return the folder ``configs/KIND``: inside an installed package, beside the package in a checkout."""
    inside = PACKAGE / "configs" / kind
    return inside if inside.is_dir() else PACKAGE.parent / "configs" / kind


_RUN = "import runpy, sys; sys.path.append(sys.argv.pop(1))\n"
_RUN += "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"


def python_command(module: str, *arguments: str) -> list[str]:
    """Make the command that runs a module in a new process, without code of the working directory.

    ``python -m`` would look for modules in the working directory first, so that a file ``torch.py`` or a
    folder ``elimtool`` there would be run. This package is found wherever it lies.
    """
    return [sys.executable, "-P", "-c", _RUN, str(PACKAGE.parent), module, *arguments]


def child_environment(**changes: str) -> Mapping[str, str]:
    """Return the environment of a new process, whose own Python processes take no code from there either."""
    return {**os.environ, "PYTHONSAFEPATH": "1", **changes}

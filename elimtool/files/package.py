"""Find the package on disk, and the example files that ship with it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
"""The folder ``elimtool``, installed or in a checkout."""


def shipped_configs(kind: str) -> Path:
    """Return the folder ``configs/KIND``: inside an installed package, beside the package in a checkout."""
    inside = PACKAGE / "configs" / kind
    return inside if inside.is_dir() else PACKAGE.parent / "configs" / kind

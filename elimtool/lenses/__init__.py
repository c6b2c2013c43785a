"""How a residual stream before the last layer is read out: raw, by ridge maps, by tuned-lens translators."""

from __future__ import annotations

from elimtool.lenses.raw import RawLens

LENSES: dict[str, type[RawLens]] = {"raw": RawLens}
"""Lenses that need no file."""

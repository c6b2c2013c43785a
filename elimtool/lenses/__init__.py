"""The lenses by name: how a residual stream before the last layer is read out."""

from __future__ import annotations

from elimtool.lenses.raw import RawLens

LENSES: dict[str, type[RawLens]] = {"raw": RawLens}

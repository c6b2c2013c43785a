"""Measure the noise floor of checks: how far harmless changes move their values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from elimtool.analysis.check.baseline import encoded
from elimtool.analysis.check.values import CheckedValue
from elimtool.errors import ElimError
from elimtool.files.destination import write_file
from elimtool.files.parse import parse_json

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Floor:
    """How far the values of one check drift under harmless changes.

    Attributes:
        floor: Largest absolute difference from the reference, in the metric's unit; for tokens, the largest
            share of the first ones that were replaced.
        prompt: The prompt where it was seen; ``None`` for one value of all prompts.
        variation: The change under which it was seen.
        unstable: Number of values without a distance (truth values, texts, null) that changed.
    """

    floor: float
    prompt: str | None
    variation: str
    unstable: int


@dataclass(frozen=True, slots=True)
class Noise:
    """The measured floors of a check file.

    Attributes:
        identity: Identity of the model that they were measured on.
        variations: What was changed.
        floors: By check.
    """

    identity: Mapping[str, Any]
    variations: tuple[str, ...]
    floors: Mapping[str, Floor]

    def to_json(self) -> str:
        """Write sorted keys, one value per line."""
        checks = {name: asdict(floor) for name, floor in self.floors.items()}
        content = {
            "elimtool_noise": FORMAT,
            "identity": self.identity,
            "variations": self.variations,
            "checks": checks,
        }
        return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def floor_of(
    reference: Sequence[CheckedValue], variants: Iterable[tuple[str, Sequence[CheckedValue]]]
) -> Floor:
    """Measure the drift of one check.

    Args:
        reference: Its readings on the reference run.
        variants: Name of each change and the readings under it, in the order of the reference's.
    """
    worst, unstable = Floor(0.0, None, "", 0), 0
    for name, readings in variants:
        for before, after in zip(reference, readings, strict=True):
            drift = _drift(before, after)
            if drift is None:
                unstable += 1
            elif drift > worst.floor:
                worst = Floor(drift, before.prompt, name, 0)
    return Floor(worst.floor, worst.prompt, worst.variation, unstable)


def _drift(before: CheckedValue, after: CheckedValue) -> float | None:
    """Compute the distance of two values; ``None`` if they differ but have none."""
    one, two = before.value, after.value
    if isinstance(one, tuple) and isinstance(two, tuple):
        near = {token for row in after.rows for token in row["near"]}
        return 1 - len(set(one) & near) / len(one)
    if one == two:
        return 0.0
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (one, two)):
        return None
    distance = abs(float(one) - float(two))  # type: ignore[arg-type]
    return distance if isfinite(distance) else None


def noise_path(baseline: Path) -> Path:
    """Name the file of the noise floor next to a baseline."""
    return baseline.with_name(f"{baseline.stem}.noise.json")


def write_noise(path: Path, noise: Noise) -> None:
    """Write the floors next to the baseline.

    Raises:
        ElimError: The file system refuses.
    """
    write_file(path, encoded(noise.to_json()), overwrite=True)


def read_noise(path: Path) -> Noise | None:
    """Read the floors in a file; ``None`` if there is no such file.

    Raises:
        ElimError: The file is damaged.
    """
    if not path.exists():
        return None
    from elimtool.files.yaml import read_text

    try:
        content = parse_json(read_text(path))
        floors = {
            str(name): Floor(**{**one, "floor": float(one["floor"])})
            for name, one in content["checks"].items()
        }
        return Noise(dict(content["identity"]), tuple(content["variations"]), floors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ElimError(
            f"{path} is damaged: {error}", "measure it again with `noise` of elimtool check"
        ) from error

"""Ask each prompt several times, each time with the next seed for what the model writes after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from elimtool.errors import ElimError
from elimtool.prompts.prompt import Prompt
from elimtool.suites.suite import Fields


def seeded(prompt: Prompt, seeds: int) -> list[Prompt]:
    """Repeat a prompt with the seeds from 0; arguments and errors as in ``with_seeds``."""
    _check(seeds)
    name = prompt.id or "prompt"
    return [
        replace(prompt, id=f"{name}/seed {seed}", design=replace(prompt.design, seed=seed))
        for seed in range(seeds)
    ]


def _check(seeds: int) -> None:
    if seeds < 2:
        raise ElimError(f"`seeds` must be 2 or more, got {seeds}", "texts of one prompt are compared")


def with_seeds(records: Iterable[Mapping[str, Any]], seeds: int) -> Iterator[Fields]:
    """Repeat each record with the seeds from 0; texts that are scored stay alone.

    Args:
        records: Fields of records.
        seeds: How many, two or more.

    Raises:
        ElimError: There are fewer, or a record has a seed of its own.
    """
    _check(seeds)
    for number, one in enumerate(records, 1):
        if one.get("scored"):
            yield dict(one)
            continue
        name = one.get("id", number)
        if one.get("seed") is not None:
            raise ElimError(f"record '{name}' has a seed of its own", "leave `seeds` out")
        for seed in range(seeds):
            yield {**one, "id": f"{name}/seed {seed}", "seed": seed}

"""Ask of prompts how probable it is that what follows says that it is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.package import shipped_configs
from elimtool.files.yaml import read_text
from elimtool.prompts.design import ABSTAIN
from elimtool.suites.suite import Fields

SHIPPED = "shipped"
"""Name of the phrases that ship."""
ASKING = ("targets", "foils", "answers")
"""Fields that say what is right."""


def phrases(given: str) -> tuple[str, ...]:
    """Read phrases of abstention, one a line.

    Args:
        given: A file, or ``shipped``.

    Raises:
        ElimError: It cannot be read, or holds no phrase.
    """
    path = shipped_configs("phrases") / "abstain.txt" if given == SHIPPED else Path(given)
    found = tuple(dict.fromkeys(line.strip() for line in read_text(path).splitlines() if line.strip()))
    if not found:
        raise ElimError(f"{given} holds no phrase", f"give one a line, or `abstain='{SHIPPED}'`")
    return found


def with_abstention(records: Iterable[Mapping[str, Any]], targets: tuple[str, ...]) -> Iterator[Fields]:
    """Add to each prompt a record that asks for phrases of abstention after it.

    Texts that are scored, wrong sides and neutral wordings stay alone. A prompt that asks for nothing else is
    replaced: nothing of it but the phrases is of interest.

    Args:
        records: Fields of records.
        targets: The phrases.
    """
    for number, one in enumerate(records, 1):
        alone = one.get("scored") or one.get("role")
        asks = any(one.get(name) for name in ASKING)
        if alone or asks:
            yield dict(one)
        if not alone:
            left = {name: value for name, value in one.items() if name not in ASKING}
            name = f"{one.get('id', number)}/{ABSTAIN}"
            yield {**left, "id": name, "targets": list(targets), "role": ABSTAIN}

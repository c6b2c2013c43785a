"""Define a suite: the records that templates or pairs stand for, and what is doubtful about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning"]
Fields = dict[str, Any]
"""Fields of one record of a prompt file."""


@dataclass(frozen=True, slots=True)
class SuiteCheck:
    """Something wrong or doubtful in a suite.

    Attributes:
        level: ``error`` where the template or pair was left out, else ``warning``.
        check: Short name of what was looked for, such as ``slot-missing``.
        template: Template or pair that it is about; ``None`` for the whole suite.
        message: What is wrong, and what to do.
    """

    level: Level
    check: str
    template: str | None
    message: str

    def __str__(self) -> str:
        left = " (left out)" if self.level == "error" else ""
        where = f"'{self.template}': " if self.template else ""
        return f"{self.check}{left}: {where}{self.message}"


def in_words(checks: Sequence[SuiteCheck]) -> list[str]:
    """Tell what is wrong or doubtful, the first of each kind and how many more there are."""
    kinds: dict[tuple[str, str], list[SuiteCheck]] = {}
    for one in checks:
        kinds.setdefault((one.level, one.check), []).append(one)
    more = {key: f" (and {len(some) - 1:,} more)" if len(some) > 1 else "" for key, some in kinds.items()}
    return [f"{some[0]}{more[key]}" for key, some in kinds.items()]


@dataclass(frozen=True, slots=True)
class Suite:
    """Records that a suite stands for.

    Attributes:
        records: Fields of each record, in order, with ids of their own.
        checks: What is wrong or doubtful.
        n_duplicates: Records that equal others, and were left out.
    """

    records: tuple[Fields, ...]
    checks: tuple[SuiteCheck, ...]
    n_duplicates: int = 0


def merged(records: Iterable[Fields], checks: Iterable[SuiteCheck]) -> Suite:
    """Make a suite of records, those that ask the same of the same group taken as one.

    Sides of a pair, whose records name no words, are not: two pairs may share a sentence. Nor are neutral
    wordings, which belong to their template.
    """
    found: dict[str, Fields] = {}
    copies = 0
    for record in records:
        of_role = {"good": ("tuple",), "bad": ("tuple",), "neutral": ("template", "slots")}
        of_pair = () if record.get("filler") else ("tuple",)
        own = [record.get(name) for name in of_role.get(record.get("role") or "", of_pair)]
        asked = [
            own,
            *(record.get(name) for name in ("prompt", "group", "targets", "foils", "role", "scored")),
        ]
        copies += str(asked) in found
        found.setdefault(str(asked), record)
    doubts = [*checks]
    if copies:
        what = f"{copies:,} records equal others in text, group and targets, and count once"
        doubts.append(SuiteCheck("warning", "duplicates", None, what))
    return Suite(tuple(found.values()), tuple(doubts), copies)

"""Divide prompts by the group's word, and put the records of a tuple together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elimtool.analysis.populations.audit.outcomes import SPAN
from elimtool.analysis.populations.records import NEUTRAL, Population, PopulationRecord
from elimtool.files.rows import Row
from elimtool.prompts.prompt import SINK

Tuples = Mapping[str, Sequence[PopulationRecord]]
"""Name of each tuple -> its records."""


@dataclass(frozen=True, slots=True)
class Around:
    """A prompt divided by the group's word: its tokens before, within and after.

    ``log_prior`` is the word's log-frequency in nats: that of its tokens, summed; ``None`` where the run does
    not know it.
    """

    before: str
    word: tuple[str, ...]
    after: str
    in_sink: bool
    log_prior: float | None

    @classmethod
    def of(cls, record: PopulationRecord) -> Around | None:
        """Divide a record's prompt; ``None`` where no word of the group is marked in it."""
        spans = {one["span"]: one["tokens"] for one in record.row["spans"] or ()}
        places = spans.get(SPAN)
        if not places:
            return None
        tokens = record.row["tokens"]
        first, last = places[0], places[-1]
        n_own = len(tokens) - (record.row["n_appended"] or 0)
        priors = record.row["token_priors"]
        return cls(
            "".join(tokens[:first]).rstrip(),  # a space may be a token's of the word or of what is around it
            tuple(tokens[first : last + 1]),
            "".join(tokens[last + 1 : n_own]).lstrip(),
            bool(set(places) & set(spans.get(SINK, ()))),
            None if priors is None else sum(priors[first : last + 1]),
        )


def tuples_of(population: Population) -> dict[str, list[PopulationRecord]]:
    """Put the records of each tuple together, neutral wordings left out."""
    found: dict[str, list[PopulationRecord]] = {}
    for one in population.records:
        if one.tuple is not None and one.group is not None and one.role != NEUTRAL:
            found.setdefault(one.tuple, []).append(one)
    return found


def check_row(level: str, check: str, template: str | None, of_tuple: str | None, message: str) -> Row:
    """Make a row of ``audit_checks``."""
    return {"level": level, "check": check, "template": template, "tuple": of_tuple, "message": message}

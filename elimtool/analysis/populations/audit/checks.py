"""Check that records of a tuple differ in the group alone, and say what else may look like a difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from elimtool.analysis.populations.audit.outcomes import SPAN
from elimtool.analysis.populations.records import NEUTRAL, Population, PopulationRecord
from elimtool.files.rows import Row, Rows
from elimtool.prompts.prompt import SINK


@dataclass(frozen=True, slots=True)
class Around:
    """A prompt divided by the group's word: its tokens before, within and after."""

    before: str
    word: tuple[str, ...]
    after: str
    in_sink: bool

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
        return cls(
            "".join(tokens[:first]),
            tuple(tokens[first : last + 1]),
            "".join(tokens[last + 1 : n_own]),
            bool(set(places) & set(spans.get(SINK, ()))),
        )


def checked(population: Population) -> tuple[Population, Rows]:
    """Leave out templates that compare more than the group, and list all that is wrong or doubtful.

    Args:
        population: The records.

    Returns:
        The records of the templates that can be used, and rows of ``audit_checks``.
    """
    rows = [
        {**{name: one.get(name) for name in ("level", "check", "template", "message")}, "tuple": None}
        for one in population.suite or ()
    ]
    around = {one.prompt_id: Around.of(one) for one in population.records}
    tuples: dict[str, list[PopulationRecord]] = {}
    for one in population.records:
        if one.tuple is not None and one.group is not None and one.role != NEUTRAL:
            tuples.setdefault(one.tuple, []).append(one)
    errors = list(_errors(tuples, around))
    refused = {row["template"] for row in errors}
    kept = tuple(one for one in population.records if one.template not in refused)
    found = replace(population, records=kept)
    usable = {name: members for name, members in tuples.items() if members[0].template not in refused}
    rows += [*_once(errors, "template"), *_doubts(usable, around, population.suite is None)]
    return found, rows


def _errors(tuples: dict[str, list[PopulationRecord]], around: dict[str, Around | None]) -> Iterator[Row]:
    for name, members in tuples.items():
        parts = [around[one.prompt_id] for one in members]
        known = [one for one in parts if one is not None]
        if len(known) < len(parts) or len(parts) < 2:
            continue
        if any(one.in_sink for one in known):
            message = (
                "the group's word stands first without a BOS: it is the attention sink; put words before it"
            )
            yield _row("error", "sink", members[0].template, name, message)
        if len({(one.before, one.after) for one in known}) > 1:
            message = "records of one tuple differ outside the group's word; let them differ in it alone"
            yield _row("error", "differ-outside", members[0].template, name, message)


def _doubts(
    tuples: dict[str, list[PopulationRecord]], around: dict[str, Around | None], look_elsewhere: bool
) -> Iterator[Row]:
    lengths: dict[str, set[int]] = {}
    for name, members in tuples.items():
        filler = members[0].filler
        parts = [around[one.prompt_id] for one in members]
        for part in parts:
            if part is not None and filler is not None and "|" in filler:
                lengths.setdefault(filler, set()).add(len(part.word))
        if look_elsewhere:
            yield from _elsewhere(name, members, parts)
    for filler, some in lengths.items():
        if len(some) > 1:
            told = " and ".join(map(str, sorted(some)))
            yield _row("warning", "length", None, filler, f"its words have {told} tokens")
    alike = [name for name in lengths if len(set(name.split("|"))) == 1]
    if alike and len(alike) == len(lengths):
        yield _row("warning", "identical", None, None, "all groups have the same words: nothing can be found")


def _elsewhere(name: str, members: list[PopulationRecord], parts: list[Around | None]) -> Iterator[Row]:
    """Find targets and foils in the rest of a prompt; of a suite its reader has looked."""
    for one, part in zip(members, parts, strict=True):
        rest = one.row["text"] if part is None else f"{part.before} {part.after}"
        words = rest.casefold().split()
        for text in [*(one.row["targets"] or ()), *(one.row["foils"] or ())]:
            if text.strip() and text.strip().casefold() in words:
                message = f"'{text.strip()}' stands in the rest of the prompt too"
                yield _row("warning", "word-elsewhere", one.template, name, message)
                return


def _once(rows: Rows, key: str) -> Rows:
    """Keep the first row of each template and check."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row["check"], row[key]), row)
    return list(first.values())


def _row(level: str, check: str, template: str | None, of_tuple: str | None, message: str) -> Row:
    return {"level": level, "check": check, "template": template, "tuple": of_tuple, "message": message}

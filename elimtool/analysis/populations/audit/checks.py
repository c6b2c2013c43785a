"""Check that records of a tuple differ in the group alone, and say what else may look like a difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from elimtool.analysis.populations.audit.outcomes import SPAN
from elimtool.analysis.populations.records import NEUTRAL, Population, PopulationRecord
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.prompts.prompt import SINK

FAR = 1.0
"""Difference in log-frequency (nats) past which two words are unlike."""


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


@dataclass(frozen=True)
class Checked:
    """Records that can be compared, and what to mind of them.

    Attributes:
        population: The records of templates that compare the group alone, of words alike in frequency.
        rows: Rows of ``audit_checks``.
        flags: What to mind of each pair of words.
        notes: What was left out, a sentence each, and how unlike in frequency the words are.
    """

    population: Population
    rows: Rows
    flags: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def of_all(self) -> tuple[str, ...]:
        """What to mind of all differences."""
        return tuple(sorted({one for some in self.flags.values() for one in some}))


def checked(population: Population, match: float | None = None) -> Checked:
    """Leave out what compares more than the group, and list all that is wrong or doubtful.

    Args:
        population: The records.
        match: Largest difference of the words of a pair in log-frequency, in nats; ``None`` to keep all.

    Raises:
        ElimError: ``match`` is given and the run does not know how frequent words are.
    """
    rows = [
        {**{name: one.get(name) for name in ("level", "check", "template", "message")}, "tuple": None}
        for one in population.suite or ()
    ]
    around = {one.prompt_id: Around.of(one) for one in population.records}
    tuples = _tuples(population)
    errors = list(_sinks(tuples, around))
    if population.suite is None:  # a suite's records are made to differ in the word alone
        errors += _differ_outside(tuples, around)
    refused = {row["template"] for row in errors}
    usable = {name: members for name, members in tuples.items() if members[0].template not in refused}
    gaps = frequency_gaps(usable.values(), around)
    unlike, notes = _matched(gaps, match)
    kept = [one for one in population.records if one.template not in refused and one.filler not in unlike]
    usable = {name: members for name, members in usable.items() if members[0].filler not in unlike}
    lengths = _lengths(usable.values(), around)
    rows += [*_once(errors, "template"), *_doubts(lengths, {} if match is not None else gaps)]
    if population.suite is None:
        rows += [row for name, members in usable.items() for row in _elsewhere(name, members, around)]
    flags = {
        filler: (
            *(("frequency",) if gaps.get(filler, 0) > FAR else ()),
            *(("length",) if len(some) > 1 else ()),
        )
        for filler, some in lengths.items()
    }
    return Checked(replace(population, records=tuple(kept)), rows, flags, notes)


def frequency_gaps(
    tuples: Iterable[Sequence[PopulationRecord]], around: Mapping[str, Around | None]
) -> dict[str, float]:
    """Compute how far apart the words of each filler are in log-frequency, in nats, mean over templates."""
    found: dict[str, list[float]] = {}
    for members in tuples:
        parts = [around[one.prompt_id] for one in members]
        priors = [one.log_prior for one in parts if one is not None and one.log_prior is not None]
        if len(priors) == len(members) > 1 and members[0].filler is not None:
            found.setdefault(members[0].filler, []).append(max(priors) - min(priors))
    return {filler: sum(some) / len(some) for filler, some in found.items()}


def _tuples(population: Population) -> dict[str, list[PopulationRecord]]:
    found: dict[str, list[PopulationRecord]] = {}
    for one in population.records:
        if one.tuple is not None and one.group is not None and one.role != NEUTRAL:
            found.setdefault(one.tuple, []).append(one)
    return found


def _matched(gaps: Mapping[str, float], match: float | None) -> tuple[set[str], tuple[str, ...]]:
    """Choose the pairs of words that are too unlike in frequency, and say how unlike the others are."""
    if match is not None and not gaps:
        raise ElimError(
            "`match`: the run does not know how frequent words are",
            "fit a lens for the model (elimtool lens fit), measure the suite again, or leave `match` out",
        )
    unlike = {filler for filler, gap in gaps.items() if match is not None and gap > match}
    left = [gap for filler, gap in gaps.items() if filler not in unlike]
    notes = []
    if unlike:
        of_all = f"{len(unlike)} of {len(gaps)} pairs of words"
        notes.append(f"{of_all} differ by more than {match:g} nats in log-frequency and were left out.")
    if left:
        mean = f"{sum(left) / len(left):.2f} nats in log-frequency on average, at most {max(left):.2f}"
        notes.append(f"The words of a pair differ by {mean}.")
    return unlike, tuple(notes)


def _sinks(
    tuples: Mapping[str, Sequence[PopulationRecord]], around: Mapping[str, Around | None]
) -> Iterator[Row]:
    message = "the group's word stands first without a BOS: it is the attention sink; put words before it"
    for name, members in tuples.items():
        parts = [around[one.prompt_id] for one in members]
        if any(one is not None and one.in_sink for one in parts):
            yield _row("error", "sink", members[0].template, name, message)


def _differ_outside(
    tuples: Mapping[str, Sequence[PopulationRecord]], around: Mapping[str, Around | None]
) -> Iterator[Row]:
    message = "records of one tuple differ outside the group's word; let them differ in it alone"
    for name, members in tuples.items():
        parts = [around[one.prompt_id] for one in members]
        if len({(one.before, one.after) for one in parts if one is not None}) > 1:
            yield _row("error", "differ-outside", members[0].template, name, message)


def _lengths(
    tuples: Iterable[Sequence[PopulationRecord]], around: Mapping[str, Around | None]
) -> dict[str, set[int]]:
    """Count the tokens of the words of each filler."""
    found: dict[str, set[int]] = {}
    for members in tuples:
        filler = members[0].filler
        for part in (around[one.prompt_id] for one in members):
            if part is not None and filler is not None and "|" in filler:
                found.setdefault(filler, set()).add(len(part.word))
    return found


def _doubts(lengths: Mapping[str, set[int]], gaps: Mapping[str, float]) -> Iterator[Row]:
    for filler, some in lengths.items():
        if len(some) > 1:
            told = " and ".join(map(str, sorted(some)))
            yield _row("warning", "length", None, filler, f"its words have {told} tokens")
    for filler, gap in gaps.items():
        if gap > FAR:
            message = (
                f"its words differ by {gap:.1f} nats in log-frequency; `match` keeps pairs that are alike"
            )
            yield _row("warning", "frequency", None, filler, message)
    alike = [name for name in lengths if len(set(name.split("|"))) == 1]
    if alike and len(alike) == len(lengths):
        yield _row("warning", "identical", None, None, "all groups have the same words: nothing can be found")


def _elsewhere(
    name: str, members: Sequence[PopulationRecord], around: Mapping[str, Around | None]
) -> Iterator[Row]:
    """Find targets and foils in the rest of a prompt; of a suite its reader has looked."""
    for one in members:
        part = around[one.prompt_id]
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

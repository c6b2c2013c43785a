"""Check that records of a tuple differ in the group alone, and say what else may look like a difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from elimtool.analysis.populations.audit.around import Around, Tuples, check_row, tuples_of
from elimtool.analysis.populations.audit.doubts import (
    FAR,
    after_words,
    elsewhere,
    identical,
    lengths_of,
    odd_texts,
    unlike_words,
)
from elimtool.analysis.populations.records import Population, PopulationRecord
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.run.reader import Run

UNKNOWN = "How frequent the words are is not known: that needs a fitted lens (elimtool lens fit)."
UNSEEN = "Odd sentences were not looked for: the run has no table span_surprisal."


@dataclass(frozen=True)
class Checked:
    """Records that can be compared, and what to mind of them.

    Attributes:
        population: The records of templates that compare the group alone, of words alike in frequency.
        rows: Rows of ``audit_checks``.
        flags: What to mind of each tuple.
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


def checked(run: Run, population: Population, match: float | None = None) -> Checked:
    """Leave out what compares more than the group, and list all that is wrong or doubtful.

    Args:
        run: The run of the records; ``span_surprisal`` is read where it has it.
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
    tuples = tuples_of(population)
    errors = list(_sinks(tuples, around))
    if population.suite is None:  # a suite's records are made to differ in the word alone
        errors += _differ_outside(tuples, around)
    refused = {row["template"] for row in errors}
    usable = {name: members for name, members in tuples.items() if members[0].template not in refused}
    gaps = frequency_gaps(usable.values(), around)
    unlike, notes = _matched(gaps, match)
    kept = [one for one in population.records if one.template not in refused and one.filler not in unlike]
    usable = {name: members for name, members in usable.items() if members[0].filler not in unlike}
    lengths = lengths_of(usable.values(), around)
    alike = {filler: gap for filler, gap in gaps.items() if filler not in unlike}
    rows += [*_once(errors, "template"), *unlike_words(lengths, alike)]
    if population.suite is None:
        rows += elsewhere(usable, around)
    after = after_words(run)
    odd = list(odd_texts(usable, around, after or {}))
    if any(around.values()):
        notes = (
            *notes,
            *([] if gaps or not lengths else [UNKNOWN]),
            *([] if after is not None else [UNSEEN]),
        )
    minded = {
        "identical": set(usable) if identical(lengths) else set(),
        "frequency": {name for name, some in usable.items() if gaps.get(some[0].filler or "", 0) > FAR},
        "length": {name for name, some in usable.items() if len(lengths.get(some[0].filler or "", ())) > 1},
        "odd": {row["tuple"] for row in odd},
    }
    flags = {name: tuple(flag for flag, those in minded.items() if name in those) for name in usable}
    return Checked(replace(population, records=tuple(kept)), [*rows, *odd], flags, notes)


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
        of_all = f"{len(unlike):,} of {len(gaps):,} pairs of words"
        notes.append(f"{of_all} differ by more than {match:g} nats in log-frequency and were left out.")
    if left:
        mean = f"{sum(left) / len(left):.2f} nats in log-frequency on average, at most {max(left):.2f}"
        notes.append(f"The words of a pair differ by {mean}.")
    return unlike, tuple(notes)


def _sinks(tuples: Tuples, around: Mapping[str, Around | None]) -> Iterator[Row]:
    message = "the group's word stands first without a BOS: it is the attention sink; put words before it"
    for name, members in tuples.items():
        parts = [around[one.prompt_id] for one in members]
        if any(one is not None and one.in_sink for one in parts):
            yield check_row("error", "sink", members[0].template, name, message)


def _differ_outside(tuples: Tuples, around: Mapping[str, Around | None]) -> Iterator[Row]:
    message = "records of one tuple differ outside the group's word; let them differ in it alone"
    for name, members in tuples.items():
        parts = [around[one.prompt_id] for one in members]
        if len({(one.before, one.after) for one in parts if one is not None}) > 1:
            yield check_row("error", "differ-outside", members[0].template, name, message)


def _once(rows: Rows, key: str) -> Rows:
    """Keep the first row of each template and check."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row["check"], row[key]), row)
    return list(first.values())

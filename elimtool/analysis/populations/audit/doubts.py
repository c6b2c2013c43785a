"""Say what may look like a difference between groups, or hide one, beside what makes a template unusable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from elimtool.analysis.populations.audit.around import Around, Tuples, check_row
from elimtool.analysis.populations.audit.outcomes import SPAN
from elimtool.analysis.populations.columns import RecordTables, numbers
from elimtool.analysis.populations.coverage.nodes import CHANCE
from elimtool.analysis.populations.records import NEUTRAL, PopulationRecord
from elimtool.analysis.statistics.proportions import wilson
from elimtool.files.rows import Row, Rows
from elimtool.run.reader import Run
from elimtool.suites.templates import stands_in

FAR = 1.0
"""Difference in log-frequency (nats) past which two words are unlike."""
ODD = 2.0
"""Difference in mean surprisal after the word (nats a token) past which one sentence is odd."""


def lengths_of(
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


def unlike_words(lengths: Mapping[str, set[int]], gaps: Mapping[str, float]) -> Iterator[Row]:
    """Find words of a pair that differ in tokens or frequency, and groups of the same words."""
    for filler, some in lengths.items():
        if len(some) > 1:
            told = " and ".join(map(str, sorted(some)))
            yield check_row("warning", "length", None, filler, f"its words have {told} tokens")
    for filler, gap in gaps.items():
        if gap > FAR:
            message = (
                f"its words differ by {gap:.1f} nats in log-frequency; `match` keeps pairs that are alike"
            )
            yield check_row("warning", "frequency", None, filler, message)
    if identical(lengths):
        yield check_row(
            "warning", "identical", None, None, "all groups have the same words: nothing can be found"
        )


def identical(fillers: Iterable[str]) -> bool:
    """Return whether the words of each filler are the same for all groups."""
    known = [set(name.split("|")) for name in fillers]
    return bool(known) and all(len(words) == 1 for words in known)


def elsewhere(tuples: Tuples, around: Mapping[str, Around | None]) -> Iterator[Row]:
    """Find targets, foils and other words in the rest of a prompt; of a suite its reader has looked."""
    words = {"".join(part.word).strip() for part in around.values() if part is not None}
    for name, members in tuples.items():
        for one in members:
            part = around[one.prompt_id]
            rest = one.row["text"] if part is None else f"{part.before} {part.after}"
            looked = [*(one.row["targets"] or ()), *(one.row["foils"] or ()), *sorted(words)]
            found = next((text for text in looked if stands_in(text, rest)), None)
            if found is not None:
                message = f"'{found.strip()}' stands in the rest of the prompt too"
                yield check_row("warning", "word-elsewhere", one.template, name, message)
                break


def after_words(run: Run) -> dict[str, float] | None:
    """Return how surprising what follows the group's word is in each prompt, in nats a token.

    Returns:
        Prompts without a token after the word are left out; ``None`` where the run did not measure it.
    """
    if "span_surprisal" not in run.tables:
        return None
    columns = ("prompt_id", "span", "surprisal_after")
    rows = zip(*(run.arrow("span_surprisal").column(name).to_pylist() for name in columns), strict=True)
    return {prompt: value for prompt, span, value in rows if span == SPAN and value is not None}


def odd_texts(
    tuples: Tuples, around: Mapping[str, Around | None], after: Mapping[str, float]
) -> Iterator[Row]:
    """Find tuples in which one word makes what follows it much more surprising than another does."""
    for name, members in tuples.items():
        known = sorted((after[one.prompt_id], one.prompt_id) for one in members if one.prompt_id in after)
        if len(known) != len(members) or not known or known[-1][0] - known[0][0] <= ODD:
            continue
        parts = [around[prompt] for _, prompt in (known[-1], known[0])]
        odd, other = ("".join(part.word).strip() if part is not None else "?" for part in parts)
        gap = f"{known[-1][0] - known[0][0]:.1f} nats a token more surprising than after '{other}'"
        message = f"what follows '{odd}' is {gap}: the sentence may be odd with it"
        yield check_row("warning", "odd-text", members[0].template, name, message)


def shared_tokens(tables: RecordTables, of_targets: bool) -> Iterator[Row]:
    """Find targets that begin with the token of another target or foil: layers and chains see that token.

    Args:
        tables: Tables of the run by record.
        of_targets: Whether groups are strings to predict: then those of other groups count too.
    """
    if not tables.has("survival"):
        return
    names = ("target", "token_id", "ambiguous")
    record, found = tables.rows("survival", names)
    told: dict[str, dict[str, None]] = {}
    owners: dict[tuple[str, int], set[str]] = {}
    asked = []
    columns = [found[name].to_pylist() for name in names]
    for index, target, token, same in zip(record.tolist(), *columns, strict=True):
        one = tables.population.records[index]
        if target in (one.row["targets"] or ()) and one.role != NEUTRAL:
            asked.append((one.template, target, (one.tuple or "", token), same))
            owners.setdefault((one.tuple or "", token), set()).add(one.group or "")
    for template, text, key, same in asked:
        if same or (of_targets and len(owners[key]) > 1):
            told.setdefault(template, {})[text] = None
    for template, targets in told.items():
        listed = ", ".join(f"'{one}'" for one in targets)
        message = (
            f"{listed}: another target or foil has the same first token, by which layers and chains judge"
        )
        yield check_row("warning", "first-token", template, None, message)


def at_chance(tables: RecordTables) -> Iterator[Row]:
    """Say so where records with right answers and foils are answered no better than by a coin."""
    records = tables.population.records
    asked = {
        index
        for index, one in enumerate(records)
        if one.row["answers"] is not None and one.row["targets"] and one.row["foils"]
    }
    if not asked or not tables.has("lens"):
        return
    record, found = tables.rows("lens", ("layer", "is_foil", "logit"))
    layer = found["layer"].to_numpy()
    best = np.full((len(records), 2), -np.inf)
    mine = layer == layer.max()
    side = numbers(found["is_foil"])[mine].astype(np.intp)
    np.maximum.at(best, (record[mine], side), numbers(found["logit"])[mine])
    known = [index for index in sorted(asked) if np.isfinite(best[index]).all()]
    right = sum(bool(best[index, 0] > best[index, 1]) for index in known)
    if known and (row := chance_row("a right answer beats the foils", right, len(known), "records")):
        yield row


def chance_row(what: str, hits: float, n: float, noun: str) -> Row | None:
    """Make the row of a share of hits that a coin may reach; ``None`` where it does not."""
    low, high = wilson(hits, n)
    if not low <= CHANCE <= high:
        return None
    told = f"{what} in {100 * hits / n:.0f} % of {n:,.0f} {noun} ({100 * low:.0f} to {100 * high:.0f} %)"
    message = f"{told}, as a coin would: a difference between groups may be one of guesses"
    return check_row("warning", "at-chance", None, None, message)


def bounds(effects: Rows) -> Iterator[Row]:
    """Say where the scale leaves no room for a difference, once for each outcome."""
    told: dict[tuple[str, str], None] = {}
    for row in effects:
        if row["category"] is None:
            told |= {(flag, _where(row)): None for flag in row["flags"] if flag in ("floor", "ceiling")}
    for flag, where in told:
        yield check_row("warning", flag, None, None, f"{where}: no difference can be found there")


def _where(row: Row) -> str:
    target = f"'{row['target']}'" if row["target"] is not None else "the target"
    if row["metric"] == "survives":
        return f"{row['chain']} keeps {target} in {'all' if row['mean_a'] else 'no'} records of either group"
    return f"{target} has a rank beyond 1,000 in either group"

"""Read what happens to each record at each stage: attention, layers, output, chains, verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elimtool.analysis.populations.columns import RecordTables, numbers
from elimtool.analysis.populations.records import NEUTRAL, Places, Values

SPAN = "group"
"""Name of the span that a suite makes of the group's word."""
CONFIRMATORY, STAGES, LAYERS, OTHER, CATEGORIES = "confirmatory", "stages", "layers", "other", "categories"
RAW_LENS = "raw_lens"
"""Flag of log-probabilities that the raw lens reads before the last layer, on which no claim rests."""


@dataclass(frozen=True)
class Outcome:
    """One outcome of all records.

    Attributes:
        metric: Its name.
        unit: Its unit.
        values: [records] or [records, layers]; NaN where it was not measurable.
        family: Tests that it is adjusted with.
        layers: Its layers; empty for an outcome without.
        chain: Sampler chain.
        stage: Stage of the chain.
        span: Span that is attended to.
        target: Target, if all records have the same.
        foil: Foil, likewise.
        normalised: Whether the outcome of the neutral wording was subtracted.
        flags: What to mind.
    """

    metric: str
    unit: str
    values: Values
    family: str = OTHER
    layers: tuple[int, ...] = ()
    chain: str | None = None
    stage: str | None = None
    span: str | None = None
    target: str | None = None
    foil: str | None = None
    normalised: bool = False
    flags: tuple[str, ...] = ()

    @property
    def yes_no(self) -> bool:
        """Whether it is a truth value, or minus one."""
        return self.unit == "share"


class Outcomes:
    """All outcomes of the records of a run.

    Args:
        tables: Tables of the run by record.
        of_targets: Whether groups are strings to predict: a group's strings are then taken together.
    """

    def __init__(self, tables: RecordTables, of_targets: bool) -> None:
        self.tables = tables
        self.of_targets = of_targets
        lens: Any = tables.run.manifest.lens
        self.raw = (lens.get("name") if isinstance(lens, dict) else lens) == "raw"

    def all(self) -> Iterator[Outcome]:
        """Iterate over all outcomes, with and without the neutral wordings subtracted."""
        for one in self._measured():
            base = ("base_rate",) if self.of_targets and one.span is None else ()
            plain = replace(one, flags=(*one.flags, *base))
            known = self.neutral[self.neutral >= 0]
            if one.unit != "nats" or not len(known):
                yield plain
                continue
            at = np.where(self.neutral >= 0, self.neutral, 0)
            gone = (self.neutral < 0).reshape(-1, *[1] * (one.values.ndim - 1))
            left = np.where(gone, np.nan, one.values - one.values[at])
            if self.of_targets:  # only what is left counts: the rest is how frequent the strings are
                yield replace(one, values=left, normalised=True)
                yield replace(plain, family=OTHER)
            else:
                yield plain
                if not one.layers:
                    yield replace(one, values=left, normalised=True, family="normalised")

    def _measured(self) -> Iterator[Outcome]:
        if self.tables.has("attention"):
            yield from self._attention()
        if self.tables.has("lens"):
            yield from self._lens()
        if self.tables.has("survival"):
            yield from self._output()
        if self.tables.has("sampling_targets"):
            yield from self._chains()
        if self.tables.has("verdicts"):
            yield from self._verdicts()

    @cached_property
    def neutral(self) -> Places:
        """[records] index of the neutral wording of each record, -1 where there is none."""
        records = self.tables.population.records
        keys = [(one.template, one.slots, one.group if self.of_targets else None) for one in records]
        known = {key: index for index, key in enumerate(keys) if records[index].role == NEUTRAL}
        mine = [
            known.get(key, -1) if one.role != NEUTRAL else -1 for key, one in zip(keys, records, strict=True)
        ]
        return np.array(mine, dtype=np.intp)

    def _attention(self) -> Iterator[Outcome]:
        record, found = self.tables.rows("attention", ("layer", "span", "lift_no_sink"))
        mine = np.array([one == SPAN for one in found["span"].to_pylist()], dtype=bool)
        if not mine.any():
            return
        layer = found["layer"].to_numpy()[mine]
        layers = tuple(int(one) for one in np.unique(layer))
        values = self._empty(len(layers))
        values[record[mine], np.searchsorted(layers, layer)] = numbers(found["lift_no_sink"])[mine]
        yield Outcome("attention.lift_no_sink", "ratio", values, LAYERS, layers, span=SPAN)

    def _lens(self) -> Iterator[Outcome]:
        columns = ("layer", "target", "is_foil", "logit", "logprob")
        record, found = self.tables.rows("lens", columns)
        layer = found["layer"].to_numpy()
        layers = tuple(int(one) for one in np.unique(layer))
        at = np.searchsorted(layers, layer)
        is_foil = numbers(found["is_foil"]) > 0
        sides = []
        for of_foils in (False, True):
            mine = is_foil == of_foils
            place = self.tables.which(record[mine], found["target"].filter(_mask(mine)), of_foils)
            cells = record[mine][place >= 0], at[mine][place >= 0], place[place >= 0]
            count = max((len(own) for own in self.tables.names[of_foils]), default=0)
            made = {}
            for name in ("logit", "logprob"):
                made[name] = self._empty(len(layers), count)
                made[name][cells] = numbers(found[name])[mine][place >= 0]
            sides.append(made)
        targets, foils = sides
        if self.of_targets or not foils["logit"].shape[-1]:
            mind = (RAW_LENS,) if self.raw else ()
            for target, values in self._by_target(targets["logprob"]):
                yield Outcome("lens.logprob", "nats", values, LAYERS, layers, target=target, flags=mind)
            return
        for k, target in enumerate(self._shared(0)):
            for j, foil in enumerate(self._shared(1)):
                values = targets["logit"][..., k] - foils["logit"][..., j]
                yield Outcome("lens.logit", "nats", values, LAYERS, layers, target=target, foil=foil)

    def _output(self) -> Iterator[Outcome]:
        record, found = self.tables.rows("survival", ("target", "rank", "prob", "target_logprob"))
        place = self.tables.which(record, found["target"])
        with_foil = not self.of_targets and any(self.tables.names[1])
        if with_foil:  # else it is the last layer's lens.logprob
            first = numbers(found["prob"])
            first = np.log(np.where(first > 0, first, np.nan))
            for name, values in self._by_target(self._placed(record, place, first)):
                yield Outcome("logprob", "nats", values, target=name)
        for name, values in self._by_target(self._placed(record, place, numbers(found["target_logprob"]))):
            family = OTHER if with_foil else CONFIRMATORY
            yield Outcome("survival.target_logprob", "nats", values, family, target=name)
        ranks = self._placed(record, place, np.log10(numbers(found["rank"])))
        for name, values in self._by_target(ranks, "least"):
            yield Outcome("log10_rank", "decades", values, target=name)

    def _chains(self) -> Iterator[Outcome]:
        columns = ("chain", "stage_index", "stage", "target", "alive_before", "alive_after")
        record, found = self.tables.rows("sampling_targets", columns)
        place = self.tables.which(record, found["target"])
        chain, stage = (found[name].dictionary_encode() for name in ("chain", "stage"))
        index = found["stage_index"].to_numpy()
        before, after = (numbers(found[name]) for name in ("alive_before", "alive_after"))
        for code, name in enumerate(chain.dictionary.to_pylist()):
            mine = chain.indices.to_numpy() == code
            for number in np.unique(index[mine]).tolist():
                rows = np.flatnonzero(mine & (index == number))
                label = stage.dictionary[stage.indices[int(rows[0])].as_py()].as_py()
                left = [self._placed(record[rows], place[rows], some[rows]) for some in (before, after)]
                both = (self._by_target(one, "most") for one in left)
                for (target, old), (_, new) in zip(*both, strict=True):
                    if np.nanmin(new - old, initial=0) < 0:
                        step = Outcome("stage_share", "share", new - old, STAGES, chain=name, stage=label)
                        yield replace(step, target=target)
            for target, end in self._by_target(left[1], "most"):
                yield Outcome("survives", "share", end, CONFIRMATORY, chain=name, target=target)

    def _verdicts(self) -> Iterator[Outcome]:
        if self.of_targets and max(map(len, self.tables.names[0])) > 1:  # several strings, several verdicts
            return
        record, found = self.tables.rows("verdicts", ("target", "outcome"))
        place = self.tables.which(record, found["target"])
        outcome = found["outcome"].dictionary_encode()
        for code, name in enumerate(outcome.dictionary.to_pylist()):
            is_so = (outcome.indices.to_numpy() == code).astype(float)
            for target, values in self._by_target(self._placed(record, place, is_so), "most"):
                yield Outcome(f"outcome.{name}", "share", values, target=target)

    def _empty(self, *more: int) -> Values:
        return np.full((len(self.tables.population.records), *more), np.nan)

    def _placed(self, record: Places, place: Places, values: Values) -> Values:
        """Put a column into [records, targets]."""
        count = max((len(own) for own in self.tables.names[0]), default=0)
        made = self._empty(count)
        mine = place >= 0
        made[record[mine], place[mine]] = values[mine]
        return made

    def _shared(self, foils: int) -> list[str | None]:
        """Name each place among targets or foils, if all records have the same there."""
        listed = [own for own in self.tables.names[foils] if own]
        count = max((len(own) for own in listed), default=0)
        names = [{own[place] for own in listed if len(own) > place} for place in range(count)]
        return [one.pop() if len(one) == 1 else None for one in names]

    def _by_target(self, values: Values, together: str = "sum") -> Iterator[tuple[str | None, Values]]:
        """Iterate over targets and their values, [records, ...]; those of a group's strings together.

        Args:
            values: [records, ..., targets].
            together: How strings of a group become one: the ``sum`` of probabilities, the ``least`` or the
                ``most``.
        """
        if not self.of_targets:
            for place, name in enumerate(self._shared(0)):
                yield name, values[..., place]
            return
        known = np.isfinite(values).any(-1)
        filled = np.where(np.isnan(values), np.inf if together == "least" else -np.inf, values)
        if together == "sum":
            top = filled.max(-1, initial=-np.inf)
            shift = np.where(np.isfinite(top), top, 0.0)
            with np.errstate(divide="ignore"):
                joined = np.log(np.exp(filled - shift[..., None]).sum(-1)) + shift
        else:
            joined = filled.min(-1) if together == "least" else filled.max(-1)
        yield None, np.where(known, joined, np.nan)


def _mask(mine: npt.NDArray[np.bool_]) -> object:
    return pa.array(mine)

"""Judge values by bounds and a baseline, and say where each was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from elimtool.analysis.check.baseline import ALL, Baseline, definition, stored
from elimtool.analysis.check.findings import Finding, Status
from elimtool.analysis.check.metrics import CheckMetric
from elimtool.analysis.check.spec import Check, Defaults
from elimtool.analysis.check.texts import either, expected, fits
from elimtool.analysis.check.values import CheckedValue
from elimtool.analysis.check.words import told
from elimtool.files.rows import Row

NUMBERS = (int, float)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a value passes one expectation.

    Attributes:
        passes: Whether it does.
        expected: What would pass, in words.
        off: Distance to the nearest value that would pass; ``None`` if there is no distance.
    """

    passes: bool
    expected: str
    off: float | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge of the readings of one check.

    Attributes:
        check: The check.
        metric: Its metric.
        defaults: The file's tolerances.
        baseline: The baseline, if the file names one and it exists.
        comparable: Whether the baseline is of the same model.
    """

    check: Check
    metric: CheckMetric
    defaults: Defaults
    baseline: Baseline | None
    comparable: bool = True

    @property
    def compares(self) -> bool:
        """Whether the check needs a baseline."""
        return self.check.baseline or self.metric.kind == "tokens"

    def finding(self, reading: CheckedValue) -> Finding:
        """Judge one reading."""
        if reading.error:
            said = f"prompt {_name(reading.prompt)} could not be measured: {reading.error}"
            return Finding(reading.prompt, "error", None, self._wanted(), message=said)
        was, status = self._known(reading)
        if status != "passed":
            return Finding(
                reading.prompt, status, reading.value, self._wanted(), message=self._why(status, reading)
            )
        seen = self._overlap(reading, was) if self.metric.kind == "tokens" else reading.value
        verdicts = self._verdicts(seen, was)
        failing = next((one for one in verdicts if not one.passes), None)
        if failing is None:
            return Finding(
                reading.prompt, "passed", seen, " and ".join(one.expected for one in verdicts), was
            )
        where = place(reading, self.check)
        return Finding(
            reading.prompt,
            "failed",
            seen,
            failing.expected,
            None if self.metric.kind == "tokens" else was,
            failing.off,
            where,
            self._message(reading, seen, failing, where),
            target=_only(reading, "target"),
            position=_only(reading, "position"),
        )

    def tolerance(self, was: float) -> float:
        """Return how far a value may be from the baseline's."""
        atol, rtol = self._stated()
        return atol if self.metric.kind == "integer" and self.check.agg is None else atol + rtol * abs(was)

    def _stated(self) -> tuple[float, float]:
        """Absolute and relative tolerance: where one is stated, the other does not widen it unasked."""
        for level in (self.check, self.defaults):
            named = level.model_fields_set & {"atol", "rtol"}
            atol, rtol = ((getattr(level, one) if one in named else None) for one in ("atol", "rtol"))
            if atol is not None or rtol is not None:
                return atol or 0.0, rtol or 0.0
        return self.defaults.atol, self.defaults.rtol

    def least_tolerance(self) -> float | None:
        """Find the check's smallest tolerance for any prompt; ``None`` if it compares no numbers."""
        entry = self.baseline.checks.get(self.check.id) if self.baseline else None
        if not self.check.baseline or entry is None:
            return None
        numbers = [
            one for one in entry.values.values() if isinstance(one, NUMBERS) and not isinstance(one, bool)
        ]
        return min((self.tolerance(one) for one in numbers), default=None)

    def _known(self, reading: CheckedValue) -> tuple[Any, Status]:
        """Find the baseline's value, and whether it can be compared with."""
        if not self.compares:
            return None, "passed"
        entry = self.baseline.checks.get(self.check.id) if self.baseline else None
        if self.baseline is None or entry is None or (reading.prompt or ALL) not in entry.values:
            return None, "no_baseline"
        if not self.comparable or entry.of != definition(self.check, self.defaults):
            return None, "not_comparable"
        was = entry.values[reading.prompt or ALL]
        if self.metric.kind == "tokens" and reading.value is not None and not _ids(was):
            return None, "no_baseline"
        return was, "passed"

    def _verdicts(self, seen: Any, was: Any) -> list[Verdict]:
        check = self.check
        if seen is None and not check.allow_null:
            return [Verdict(False, self._wanted())]
        found = [] if seen is None else self._bounds(seen)
        if check.baseline and self.metric.kind != "tokens":
            found.append(self._against(stored(seen), was))
        return found or [Verdict(True, "anything")]

    def _bounds(self, seen: Any) -> list[Verdict]:
        check = self.check
        found = []
        low = 1.0 if self.metric.kind == "tokens" and check.min is check.max is None else check.min
        if low is not None:
            # means and shares may round to either side of their bound
            found.append(Verdict(seen >= low - 1e-12, f"at least {low:g}", max(low - seen, 0.0)))
        if check.max is not None:
            found.append(
                Verdict(seen <= check.max + 1e-12, f"at most {check.max:g}", max(seen - check.max, 0.0))
            )
        if isinstance(seen, bool) and not check.baseline:
            wanted = check.is_ if isinstance(check.is_, bool) else True
            found.append(Verdict(seen == wanted, told(wanted)))
        if isinstance(seen, str):
            found += map(Verdict, fits(seen, self._one_of, check), expected(self._one_of, check))
        if isinstance(seen, str) and check.is_not:
            found.append(Verdict(seen not in check.is_not, f"not {either(check.is_not)}"))
        return found

    def _against(self, now: Any, was: Any) -> Verdict:
        """Compare a value with the baseline's."""
        unwanted = self.check.direction
        numeric = isinstance(now, NUMBERS) and isinstance(was, NUMBERS)
        if not numeric:
            return Verdict(now == was, f"{told(was)} as in the baseline")
        if isinstance(now, bool) or isinstance(was, bool):
            fine = now == was or unwanted == ("decrease" if now else "increase")
            return Verdict(fine, f"{told(was)} as in the baseline")
        tolerance = self.tolerance(was)
        past = {"decrease": was - now, "increase": now - was, "both": abs(now - was)}[unwanted]
        sign = {"decrease": "-", "increase": "+", "both": "±"}[unwanted]
        spelt = f"{told(was)} {sign} {tolerance:.3g} (baseline and tolerance)"
        return Verdict(past <= tolerance, spelt, max(past - tolerance, 0.0))

    def _overlap(self, reading: CheckedValue, was: Any) -> float | None:
        """Compute the share of the baseline's first tokens that are still among the first, ties included."""
        if reading.value is None:
            return None
        ids = _ids(was)
        near = {token for row in reading.rows for token in row["near"]}
        return len(ids & near) / len(ids)

    def _wanted(self) -> str:
        """Say what the check expects, without the baseline's value."""
        check = self.check
        words = [f"at least {check.min:g}"] if check.min is not None else []
        words += [f"at most {check.max:g}"] if check.max is not None else []
        if isinstance(check.is_, bool) or (
            self.metric.kind == "boolean" and not words and not check.baseline
        ):
            words.append(told(check.is_ if isinstance(check.is_, bool) else True))
        words += expected(self._one_of, check)
        words += [f"not {either(check.is_not)}"] if check.is_not else []
        words += ["the baseline's value"] if self.compares else []
        return " and ".join(words) or "a value"

    def _why(self, status: Status, reading: CheckedValue) -> str:
        name = _name(reading.prompt)
        if status == "no_baseline":
            return f"prompt {name} has no baseline of {self._phrase()}; it is {told(reading.value)} now"
        entry = self.baseline.checks[self.check.id] if self.baseline else None
        now = definition(self.check, self.defaults)
        if entry is not None and entry.of != now:
            return f"the baseline was made of '{entry.of}', the check now reads '{now}'"
        return f"the baseline's value of prompt {name} was made with another model"

    @property
    def _one_of(self) -> tuple[str, ...]:
        """Texts of which the value must be one; none for a truth value."""
        return self.check.is_ if isinstance(self.check.is_, tuple) else ()

    def _phrase(self) -> str:
        how = f"{self.check.agg} " if self.check.agg else ""
        return f"{how}{self.metric.name}"

    def _message(self, reading: CheckedValue, seen: Any, failing: Verdict, where: str) -> str:
        head = f"{self._phrase()} of prompt {_name(reading.prompt)}"
        if reading.prompt is None:
            head = self._phrase() + (" of all prompts" if self.metric.command is None else "")
        if seen is None:
            said = f"{head} is null ({reading.missing}), expected {failing.expected}"
            said += "" if self.check.allow_null else "; allow_null: true lets it pass"
        else:
            unit = f" {self.metric.unit}" if self.metric.unit and not isinstance(seen, (bool, str)) else ""
            said = f"{head} is {told(seen)}{unit}, expected {failing.expected}"
        off = f"; {failing.off:.3g} off" if failing.off else ""
        return f"{said}{off}{f' ({where})' if where else ''}"


def place(reading: CheckedValue, check: Check) -> str:
    """Say where a value was read: target, chain, stage, span, layers, and the most extreme layer."""
    rows = reading.rows
    words = []
    for name in dict.fromkeys(("target", "foil", "span", "chain", "stage", "component", "head", *check.rows)):
        values = list(dict.fromkeys(row[name] for row in rows if row.get(name) is not None))
        if len(values) == 1:
            quoted = f"'{values[0]}'" if name in ("target", "foil", "span") else values[0]
            words.append(f"cut by {quoted}" if name == "stage" and _cut(rows) else f"{name} {quoted}")
    layers = sorted({row["layer"] for row in rows if row.get("layer") is not None})
    if len(layers) == 1:
        words.append(f"layer {layers[0]}" if layers[0] >= 0 else "the embedding")
    elif layers:
        words.append(f"layers {layers[0]} to {layers[-1]}{_extreme(rows, check)}")
    positions = sorted({row["position"] for row in rows if "position" in row})
    if len(positions) == 1:
        words.append(f"position {positions[0]}")
    return ", ".join(words)


def _cut(rows: tuple[Row, ...]) -> bool:
    return any(row.get("value") is False for row in rows)


def _extreme(rows: tuple[Row, ...], check: Check) -> str:
    numbers = [row for row in rows if isinstance(row["value"], NUMBERS)]
    if not numbers:
        return ""
    high = check.max is not None and check.min is None
    found = (max if high else min)(numbers, key=lambda row: float(row["value"]))
    return f", {'highest' if high else 'lowest'} {told(found['value'])} at layer {found['layer']}"


def _ids(was: Any) -> set[int]:
    """Read the token ids of a baseline's value; none if it is null or not a list of tokens."""
    numbers = [str(one).partition(" ")[0] for one in was] if isinstance(was, list) else []
    return {int(one) for one in numbers if one.isdecimal()}


def _only(reading: CheckedValue, column: str) -> Any:
    """Return the value of a column if it is the same in all rows of a reading."""
    values = {row.get(column) for row in reading.rows}
    return values.pop() if len(values) == 1 else None


def _name(prompt: str | None) -> str:
    return f"'{prompt}'" if prompt is not None else "(all)"

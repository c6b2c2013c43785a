"""Choose which eliminated answers are exported: held-out templates, duplicates, and a limit a template."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from elimtool.analysis.export.eliminated import Eliminated
from elimtool.errors import ElimError, checked_fields, nearest

FORMATS = ("sft", "dpo", "kto")
SAMPLER = "sampler_eliminated"
OUTCOMES = ("late_eliminated", "outranked", "never_surfaced", SAMPLER)
"""Outcomes that eliminate an answer; the last is a setting of the sampler, not a lesson for the model."""

REASONS = {
    "sampler": "cut by a sampler alone",
    "outcome": "of other outcomes",
    "wrong_side": "wrong sides of pairs",
    "held_out": "held out",
    "tokens": "that tokenise otherwise",
    "template": "that the chat template alone does not render",
    "partial": "first words of longer answers",
    "no_rejected": "without a wrong answer",
    "duplicate": "duplicates",
    "per_template": "beyond the limit of a template",
}
"""Why an answer is left out, in the order in which it is decided, and in words after a count."""


@checked_fields
@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported.

    Attributes:
        format: ``sft`` (prompt, completion), ``dpo`` (prompt, chosen, rejected) or ``kto`` (prompt,
            completion, label).
        outcomes: Outcomes to export; ``None`` for all but the sampler's.
        with_sampler: Whether to export what a sampler alone cut, too.
        allow_partial: Whether to export the first words of longer answers.
        per_template: Most answers of a template; 0 for all.
        hold_out: Share of templates that is not exported, 0 up to 1.
        seed: Chooses the templates that are held out.
    """

    format: str
    outcomes: tuple[str, ...] | None = None
    with_sampler: bool = False
    allow_partial: bool = False
    per_template: int = 8
    hold_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ElimError(f"`format` '{self.format}' is not valid", nearest(self.format, FORMATS))
        for one in self.outcomes or ():
            if one not in OUTCOMES:
                raise ElimError(f"`outcomes`: '{one}' is not valid", nearest(one, OUTCOMES))
        if not 0 <= self.hold_out < 1:
            raise ElimError(f"`hold_out` must be a share from 0 up to 1, got {self.hold_out:g}")
        if self.per_template < 0:
            raise ElimError(f"`per_template` must be a number from 0, got {self.per_template}")

    @property
    def wanted(self) -> frozenset[str]:
        """Outcomes that are exported."""
        chosen = OUTCOMES[:-1] if self.outcomes is None else self.outcomes
        return frozenset(chosen) | ({SAMPLER} if self.with_sampler else frozenset())


@dataclass(frozen=True, slots=True)
class Example:
    """A training example of one answer.

    Attributes:
        of: The answer.
        chosen: The answer's text, with its space.
        rejected: A wrong answer's text; ``None`` where none is known.
    """

    of: Eliminated
    chosen: str
    rejected: str | None


@dataclass(slots=True)
class Chosen:
    """What is exported, and what is not.

    Attributes:
        examples: The examples, the most severe first.
        left_out: Number of answers left out, by reason.
        settings: Answers that a sampler alone cut and that are left out.
        held_out: Templates that are held out, in order of name.
    """

    examples: list[Example] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    settings: list[Eliminated] = field(default_factory=list)
    held_out: tuple[str, ...] = ()


def choose(
    found: Sequence[Eliminated],
    templates: Sequence[str],
    options: ExportOptions,
    fit: Callable[[Eliminated], Example | str],
) -> Chosen:
    """Choose the answers to export.

    Args:
        found: Eliminated answers, the most severe first.
        templates: All templates with named targets.
        options: What is exported.
        fit: Makes the example of an answer, or says why that cannot be (a key of ``REASONS``).
    """
    chosen = Chosen(held_out=held_out(templates, options.hold_out, options.seed))
    held, seen, of_template = set(chosen.held_out), set[tuple[str, str]](), Counter[str]()
    for one in found:
        if (why := _unwanted(one, options, held)) is not None:
            chosen.left_out[why] += 1
            if why == "sampler":
                chosen.settings.append(one)
            continue
        made = fit(one)
        if isinstance(made, Example):
            key = plain(one.prompt["text"]), plain(made.chosen)
            made = next(_surplus(made, key in seen, of_template[one.template], options), made)
        if isinstance(made, str):
            chosen.left_out[made] += 1
            continue
        seen.add(key)
        of_template[one.template] += 1
        chosen.examples.append(made)
    return chosen


def _unwanted(one: Eliminated, options: ExportOptions, held: set[str]) -> str | None:
    if one.outcome not in options.wanted:
        return "sampler" if one.outcome == SAMPLER else "outcome"
    if one.prompt["role"] == "bad":
        return "wrong_side"
    return "held_out" if one.template in held else None


def _surplus(made: Example, known: bool, before: int, options: ExportOptions) -> Iterator[str]:
    """Say why an example that fits is still left out."""
    if options.format == "dpo" and made.rejected is None:
        yield "no_rejected"
    if known:
        yield "duplicate"
    if options.per_template and before >= options.per_template:
        yield "per_template"


def held_out(templates: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """Choose the templates to hold out: the same ones of a suite in every run of it.

    At least one, if there are two and the share is not 0, and never all.

    Args:
        templates: Names of all templates.
        share: Share to hold out, 0 up to 1.
        seed: Chooses others.
    """
    count = max(round(share * len(templates)), 1) if share else 0
    order = sorted(templates, key=lambda one: sha256(f"{seed}:{one}".encode()).digest())
    return tuple(sorted(order[: min(count, len(templates) - 1)]))


def plain(text: str) -> str:
    """Reduce a text to what duplicates share: NFKC, single spaces, no case."""
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


def begins(text: str, other: str) -> bool:
    """Return whether a text is the other one, or its first words."""
    text, other = plain(text), plain(other)
    return bool(text) and other.startswith(text) and not other[len(text) : len(text) + 1].isalnum()

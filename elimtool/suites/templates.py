"""Expand templates with groups of words into records, and check that only the group differs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from elimtool.suites.suite import Fields, SuiteCheck

SLOT = re.compile(r"\{(\w+)\}")
VOWELS = "aeiouAEIOU"


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of words that a template compares.

    Attributes:
        slot: Slot that a group's word fills; ``None`` where the groups are strings to predict.
        words: Words of each group.
        aligned: Whether the i-th words of all groups belong together.
    """

    slot: str | None
    words: Mapping[str, Sequence[str]]
    aligned: bool = True

    def tuples(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Iterate over names of fillers, and the word of each group in them."""
        if self.aligned:
            for together in zip(*self.words.values(), strict=True):
                yield "|".join(together), dict(zip(self.words, together, strict=True))
            return
        for group, some in self.words.items():
            for word in some:
                yield word, {group: word}

    @property
    def identical(self) -> bool:
        """Whether all groups have the same words."""
        return len({tuple(some) for some in self.words.values()}) == 1


@dataclass(frozen=True, slots=True)
class Template:
    """One wording.

    Attributes:
        id: Its name: the unit that statistics resample.
        text: The wording, with slots in braces.
        neutral: The wording without the group, for what is said without it; ``None`` if there is none.
        groups: Its groups; ``None`` where it compares none.
        slots: Values of the further slots of the suite, and fields that records with them have.
        repeat_slot: Whether the group's slot may come more than once.
        fields: Further fields of its records: targets, foils, category, answers.
    """

    id: str
    text: str
    neutral: str | None
    groups: Groups | None
    slots: Mapping[str, Sequence[tuple[str, Fields]]]
    repeat_slot: bool
    fields: Mapping[str, Any]

    def problems(self) -> Iterator[SuiteCheck]:
        """Say what makes the template unusable, and what is doubtful about it."""
        for check, message in self._errors():
            yield SuiteCheck("error", check, self.id, message)
        for check, message in dict.fromkeys(self._doubts()):
            yield SuiteCheck("warning", check, self.id, message)

    def records(self) -> Iterator[Fields]:
        """Make its records: for each combination of slots the groups' words, and the neutral wording."""
        used = dict.fromkeys(name for name in SLOT.findall(self.text) if name in self.slots)
        for values in product(*(self.slots[name] for name in used)):
            chosen = {name: text for name, (text, _) in zip(used, values, strict=True)}
            place = "/".join([self.id, *chosen.values()])
            common = {"template": self.id, **({"slots": chosen} if chosen else {}), **self.fields}
            for _, fields in values:
                common |= fields
            if self.groups is None:
                yield from self._alone(place, chosen, common)
            elif self.groups.slot is None:
                yield from self._of_targets(place, chosen, common)
            else:
                yield from self._of_words(place, chosen, common)

    def _alone(self, place: str, chosen: Mapping[str, str], common: Fields) -> Iterator[Fields]:
        yield {"id": place, "prompt": _filled(self.text, chosen), **common}
        if self.neutral is not None:
            text = _filled(self.neutral, chosen)
            yield {"id": f"{place}/neutral", "prompt": text, **common, "role": "neutral"}

    def _of_words(self, place: str, chosen: Mapping[str, str], common: Fields) -> Iterator[Fields]:
        assert self.groups is not None
        groups, slot = self.groups, self.groups.slot
        for filler, words in groups.tuples():
            of_tuple = f"{place}/{filler}" if groups.aligned else place
            for group, word in words.items():
                before, *after = _filled(self.text, chosen).split(f"{{{slot}}}")
                yield {
                    "id": f"{place}/{filler}/{group}",
                    "prompt": word.join([before, *after]),
                    **common,
                    "group": group,
                    "tuple": of_tuple,
                    "filler": filler,
                    "spans": {"group": [len(before), len(before) + len(word)]},
                }
        if self.neutral is not None:
            text = _filled(self.neutral, chosen)
            yield {"id": f"{place}/neutral", "prompt": text, **common, "role": "neutral"}

    def _of_targets(self, place: str, chosen: Mapping[str, str], common: Fields) -> Iterator[Fields]:
        assert self.groups is not None
        filler = "|".join(words[0].strip() for words in self.groups.words.values())
        for group, words in self.groups.words.items():
            asked = {**common, "group": group, "tuple": place, "filler": filler, "targets": list(words)}
            asked.pop("foils", None)
            yield {"id": f"{place}/{group}", "prompt": _filled(self.text, chosen), **asked}
            if self.neutral is not None:
                text = _filled(self.neutral, chosen)
                yield {"id": f"{place}/{group}/neutral", "prompt": text, **asked, "role": "neutral"}

    def _errors(self) -> Iterator[tuple[str, str]]:
        """Find what makes the template compare more, or less, than the group."""
        slot, names = self.groups and self.groups.slot, SLOT.findall(self.text)
        neutral = SLOT.findall(self.neutral or "")
        if slot is not None and slot not in names:
            yield "slot-missing", f"{{{slot}}}, the group's slot, is not in the template"
        if (count := names.count(slot)) > 1 and not self.repeat_slot:
            yield "slot-twice", f"{{{slot}}} comes {count} times; if that is meant, say `repeat_slot: true`"
        for name in dict.fromkeys([*names, *neutral]):
            if name != slot and name not in self.slots:
                yield "slot-unknown", f"{{{name}}} has no values; give them under `slots`"
        if slot in neutral:
            yield "neutral-slot", f"the neutral wording has {{{slot}}}; leave the group out of it"
        if self.groups is not None:
            yield from self._word_errors(self.groups)

    def _word_errors(self, groups: Groups) -> Iterator[tuple[str, str]]:
        words = groups.words
        sizes = {group: len(some) for group, some in words.items()}
        if not all(sizes.values()):
            yield "group-empty", f"group '{min(sizes, key=sizes.__getitem__)}' has no words"
        elif groups.slot is not None and groups.aligned and len(set(sizes.values())) > 1:
            told = ", ".join(f"{group} {size}" for group, size in sizes.items())
            yield "unaligned", f"groups differ in size ({told}); align them, or say `pair: all`"
        elif groups.slot is not None:
            yield from self._articles(groups)
        if groups.identical:
            return
        seen: dict[str, str] = {}
        for group, some in words.items():
            for word in some:
                if seen.setdefault(word, group) != group:
                    yield "word-in-two-groups", f"'{word}' is in the groups '{seen[word]}' and '{group}'"

    def _articles(self, groups: Groups) -> Iterator[tuple[str, str]]:
        """Find words of a tuple that need another article than the one that the template writes."""
        found = re.search(rf"\b(an?) \{{{groups.slot}\}}", self.text, re.IGNORECASE)
        if found is None:
            return
        together = [list(words.values()) for _, words in groups.tuples()]
        for words in together if groups.aligned else [[word for some in together for word in some]]:
            if len({word[:1] in VOWELS for word in words}) > 1:
                told = "|".join(words)
                yield (
                    "article",
                    f"'{found[1]}' does not go with all of '{told}': they must differ in the slot alone",
                )

    def _doubts(self) -> Iterator[tuple[str, str]]:
        words = self.groups.words if self.groups is not None else {}
        slot = self.groups and self.groups.slot
        if self.groups is not None and self.groups.identical:
            yield "identical-groups", "all groups have the same words: no difference can be found"
        if slot is not None and self.text.startswith(f"{{{slot}}}"):
            yield (
                "slot-first",
                "the group's word stands first; without a BOS it is the attention sink, and its lift is null",
            )
        yield from self._elsewhere([word for some in words.values() for word in some])

    def _elsewhere(self, words: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Find words, targets and foils that stand elsewhere in a prompt, where copying them is easy."""
        values = [one for name in dict.fromkeys(SLOT.findall(self.text)) for one in self.slots.get(name, ())]
        rest = " ".join([SLOT.sub(" ", self.text), *(text for text, _ in values)])
        asked = _asked(self.fields)
        looked = [(text, rest) for text in (*asked, *words)]
        looked += [(text, value) for value, own in values for text in _asked(own)]
        for text, where in looked:
            if stands_in(text, where):
                yield "word-elsewhere", f"'{text.strip()}' stands in the rest of the template too"
        of_slot = self.groups is not None and self.groups.slot is not None
        for text in (*asked, *(one for _, own in values for one in _asked(own))) if of_slot else ():
            if any(stands_in(text, word) for word in words):
                yield "word-elsewhere", f"'{text.strip()}' is a target or foil, and among the groups' words"


def stands_in(text: str, where: str) -> bool:
    """Return whether a text stands in another one as whole words, in upper or lower case."""
    plain = text.strip()
    return bool(plain) and re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", where, re.IGNORECASE) is not None


def _asked(fields: Mapping[str, Any]) -> list[str]:
    return [*fields.get("targets", ()), *fields.get("foils", ())]


def _filled(text: str, values: Mapping[str, str]) -> str:
    return SLOT.sub(lambda found: values.get(found[1], found[0]), text)

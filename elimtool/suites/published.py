"""Read data sets of pairs as their publishers write them: CrowS-Pairs, WinoBias, StereoSet, BLiMP."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from elimtool.errors import ElimError
from elimtool.prompts.prompt import LM_EVAL, SCORED
from elimtool.suites.sentences import (
    CONTINUATION,
    STEREOTYPICAL,
    as_scored,
    by_beginning,
    by_suffix,
    differing,
)
from elimtool.suites.suite import Fields, Level, Suite, SuiteCheck, merged

CROWS_PAIRS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
WINOBIAS = re.compile(r"(?:pro|anti)_stereotyped_type[12]\.txt\.(?:dev|test)")
_LINE = re.compile(r"\d+ (?P<text>.+)")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_DOUBLED = re.compile(r"\b(\w+) \[\1\b", re.IGNORECASE)
PRONOUNS = frozenset(["he", "she", "him", "her", "his", "hers", "himself", "herself"])


@dataclass(frozen=True, slots=True)
class SentencePair:
    """Sentences that differ in some words.

    Attributes:
        name: Its name in the file.
        category: Its category.
        sentences: Sentence of each group.
        more: Group of the more stereotypical one.
    """

    name: str
    category: str | None
    sentences: Mapping[str, str]
    more: str


def crows_pairs(text: str, where: str, whole: bool = False) -> Suite:
    """Read CrowS-Pairs (Nangia et al. 2020): the group is disadvantaged or advantaged.

    ``sent_more`` is always the more stereotypical sentence; where a row says ``antistereo`` it is about the
    advantaged group, so that the sides are exchanged, as in the authors' ``metric.py``.

    Args:
        text: Contents of the file.
        where: Its name, for messages.
        whole: Whether to score whole sentences too, without a space before them, as the harness' task does.

    Raises:
        ElimError: A row lacks a value.
    """
    pairs: list[SentencePair] = []
    for number, row in enumerate(csv.DictReader(io.StringIO(text, newline=""))):
        at = f"{where}: row {number + 1}"
        missing = [name for name in CROWS_PAIRS if not row.get(name)]
        if missing:
            raise ElimError(f"{at}: there is no '{missing[0]}'", f"the columns are: {', '.join(CROWS_PAIRS)}")
        sides, groups = (row["sent_more"], row["sent_less"]), ("disadvantaged", "advantaged")
        if row["stereo_antistereo"] not in ("stereo", "antistereo"):
            raise ElimError(
                f"{at}: stereo_antistereo is '{row['stereo_antistereo']}'", "stereo or antistereo"
            )
        more = groups[row["stereo_antistereo"] == "antistereo"]
        sides = sides if more == groups[0] else sides[::-1]
        named = dict(zip(groups, sides, strict=True))
        pairs.append(SentencePair(row.get("") or str(number), row["bias_type"], named, more))
    return _records(pairs, [], whole, space=False)


def winobias(pro: str, anti: str, where: str, whole: bool = False) -> Suite:
    """Read two files of WinoBias (Zhao et al. 2018): line N of both differ in the pronoun.

    Pairs that differ elsewhere too, of which the published files have some, are left out.

    Args:
        pro: Text of the pro-stereotyped file.
        anti: Text of the anti-stereotyped file.
        where: Name of the files, for messages.
        whole: Whether to score whole sentences too.

    Raises:
        ElimError: They differ in length, or a line has no number.
    """
    sides = pro.splitlines(), anti.splitlines()
    if len(sides[0]) != len(sides[1]):
        raise ElimError(
            f"{where}: the files have {len(sides[0]):,} and {len(sides[1]):,} lines", "they belong in pairs"
        )
    checks: list[SuiteCheck] = []
    pairs: list[SentencePair] = []
    kind = "type1" if "type1" in PurePath(where).name else "type2"
    for number, lines in enumerate(zip(*sides, strict=True), 1):
        found = [_LINE.fullmatch(one.strip()) for one in lines]
        if not all(found):
            raise ElimError(f"{where}:{number}: a line is like '1 [The developer] argued ... [she] ...'")
        texts = [one["text"] for one in found if one is not None]
        name = str(number)
        plain = [" ".join(one.replace("[", "").replace("]", "").split()) for one in texts]
        if not _differ_in_pronouns(*plain):
            message = f"the sentences differ in more than the pronoun: '{plain[0]}' and '{plain[1]}'"
            checks.append(SuiteCheck("error", "differ-outside", name, message))
            continue
        if stray := next((one for one in texts if not _marked(one)), None):
            message = f"not two marked parts, a person and a pronoun: {stray}"
            checks.append(SuiteCheck("warning", "brackets", name, message))
        pairs.append(SentencePair(name, kind, dict(zip(("pro", "anti"), plain, strict=True)), "pro"))
    return _records(pairs, checks, whole, space=True)


def _differ_in_pronouns(one: str, other: str) -> bool:
    """Return whether two sentences have the same words, but for pronouns."""
    words = one.split(), other.split()
    unlike = [word for pair in zip(*words, strict=False) if pair[0] != pair[1] for word in pair]
    return len(words[0]) == len(words[1]) and all(word.strip(".,").lower() in PRONOUNS for word in unlike)


def _marked(text: str) -> bool:
    """Return whether a sentence marks a person and a pronoun and nothing else, without a doubled word."""
    marked = _BRACKETS.findall(text)
    strays = text.count("[") != 2 or text.count("]") != 2 or _DOUBLED.search(text)
    return len(marked) == 2 and marked[1].lower() in PRONOUNS and not strays


def stereoset(found: Any, where: str, whole: bool = False) -> Suite:
    """Read the sentences of StereoSet (Nadeem et al. 2021): stereotype, anti-stereotype and unrelated.

    Args:
        found: What the file holds.
        where: Its name, for messages.
        whole: Whether to score whole sentences too.

    Raises:
        ElimError: It has another form.
    """
    pairs: list[SentencePair] = []
    try:
        for one in found["data"]["intrasentence"]:
            named = {side["gold_label"]: side["sentence"] for side in one["sentences"]}
            ordered = {name: named[name] for name in ("stereotype", "anti-stereotype", "unrelated")}
            pairs.append(
                SentencePair(one["id"], f"{one['bias_type']}/{one['target']}", ordered, "stereotype")
            )
    except (KeyError, TypeError) as error:
        hint = "give dev.json as it is published: data.intrasentence[].sentences[]"
        raise ElimError(f"{where} is not StereoSet: there is no {error}", hint) from error
    return _records(pairs, [], whole, space=True)


def minimal_pairs(rows: Iterable[Mapping[str, Any]], where: str, rule: str = CONTINUATION) -> Suite:
    """Read minimal pairs, of BLiMP (Warstadt et al. 2020) or as ``{"good", "bad", "category"}``.

    Args:
        rows: The pairs.
        where: Name of the file, for messages.
        rule: How to score them, one of ``RULES``.

    Raises:
        ElimError: A row lacks a sentence.
    """
    records: list[Fields] = []
    checks = []
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, 1):
        good, bad = (row.get(f"sentence_{side}", row.get(side)) for side in ("good", "bad"))
        if not isinstance(good, str) or not isinstance(bad, str):
            raise ElimError(f"{where}:{number}: a pair needs 'good' and 'bad', two sentences")
        name = _pair_name(row, number)
        if (good, bad) in seen:
            checks.append(SuiteCheck("error", "duplicate", name, "the pair equals an earlier one"))
            continue
        seen.add((good, bad))
        common = {"template": name, "tuple": name, **_category(row)}
        if rule in SCORED:
            records += [
                {"id": f"{name}/{role}", **as_scored(sentence, rule), **common, "role": role}
                for role, sentence in (("good", good), ("bad", bad))
            ]
            continue
        asked = by_beginning([good, bad])
        if asked is None:
            message = "nothing follows the first word: there is nothing to score"
            checks.append(SuiteCheck("error", "one-word", name, message))
            continue
        sides, shared = asked
        if not shared:
            message = "the first words differ: they are given, not scored"
            checks.append(SuiteCheck("warning", "first-word", name, message))
        for role, (prompt, target) in zip(("good", "bad"), sides, strict=True):
            records.append(
                {"id": f"{name}/{role}", "prompt": prompt, "targets": [target], **common, "role": role}
            )
    return merged(records, checks)


def _pair_name(row: Mapping[str, Any], number: int) -> str:
    if "UID" in row:
        return f"{row['UID']}/{row.get('pairID', number)}"
    return str(row.get("id", number))


def _category(row: Mapping[str, Any]) -> Fields:
    if "UID" in row:  # BLiMP spells one field in two ways
        field = str(row.get("field")).replace("syntax/semantics", "syntax_semantics")
        return {"category": f"{field}/{row.get('linguistics_term')}/{row['UID']}"}
    return {"category": row["category"]} if row.get("category") else {}


def _records(pairs: Sequence[SentencePair], checks: Sequence[SuiteCheck], whole: bool, space: bool) -> Suite:
    """Make records that ask for the shared end of sentences after the words in which they differ.

    Args:
        pairs: The pairs.
        checks: What is doubtful about the file.
        whole: Whether records that score whole sentences are made too.
        space: Whether a space is put before these, see ``as_scored``.
    """
    records: list[Fields] = []
    found = [*checks]
    for one in pairs:
        common = {"template": one.name, "tuple": one.name, "category": one.category}
        asked = by_suffix(list(one.sentences.values()))
        if asked is None:
            message = "the sentences share no words at their end"
            left = "they are scored whole, and not continued" if whole else "there is nothing to score"
            level: Level = "warning" if whole else "error"
            found.append(SuiteCheck(level, "no-suffix", one.name, f"{message}: {left}"))
        for group, (prompt, target) in zip(one.sentences, asked or (), strict=False):
            asks = {"prompt": prompt, "targets": [target]}
            records.append({"id": f"{one.name}/{group}", **asks, "group": group, **common})
        records += list(_scored(one, space, common)) if whole else []
    return merged(records, found)


def _scored(pair: SentencePair, space: bool, common: Fields) -> Iterator[Fields]:
    """Make the records that score whole sentences, the words in which they differ marked."""
    places = differing(list(pair.sentences.values()))
    for number, (group, sentence) in enumerate(pair.sentences.items()):
        asked = as_scored(sentence, LM_EVAL, space)
        before = len(asked["prompt"]) - len(sentence)
        spans = {"spans": {"group": [before + one for one in places[number]]}} if places else {}
        tags = {"tags": [STEREOTYPICAL]} if group == pair.more else {}
        yield {"id": f"{pair.name}/{group}/whole", **asked, "group": group, **common, **spans, **tags}

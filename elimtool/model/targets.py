"""Tokenise targets: choose their spelling, split off first tokens that carry nothing, mark ambiguous ones."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan

from elimtool.errors import ElimError
from elimtool.model.scores import Scores
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Target

_HAN = ("CJK", "IDEOGRAPHIC", "HANGZHOU", "BOPOMOFO")
_KANA = ("HIRAGANA", "KATAKANA", "HENTAIGANA", "HALFWIDTH KATAKANA")
_UNSPACED = (*_HAN, *_KANA, "THAI", "LAO", "KHMER")
_CLOSING = frozenset(".,;:!?%…،؛؟۔।॥")
_STRAIGHT = "\"'"
ALIKE = 0.01
"""Difference of log-probability (nats) up to which two spellings are as likely: batches round differently."""


def spaced(target: str, prompt: str, rule: str) -> str:
    """Add a space before a target where the prompt would continue with one.

    Args:
        target: As the user wrote it.
        prompt: The rendered prompt.
        rule: ``exact``: add none. ``auto``: add one before a letter or digit of a script written with spaces,
            if the prompt ends in a letter, a digit or closing punctuation.
    """
    if rule == "exact" or not prompt or not starts_word(target[0]) or not _ends_word(prompt):
        return target
    return " " + target


def starts_word(letter: str) -> bool:
    """Tell whether a character is a letter or digit of a script whose words have a space before them."""
    if unicodedata.category(letter)[0] not in "LN":
        return False
    return not unicodedata.name(letter, "").startswith(_UNSPACED)


def _ends_word(prompt: str) -> bool:
    """Tell whether a text ends in a letter, a digit or closing punctuation; combining marks are skipped.

    A straight quote closes after one of these and opens after anything else.
    """
    rest = prompt.rstrip(_STRAIGHT) if prompt.endswith(tuple(_STRAIGHT)) else prompt
    rest = _without_marks(rest)
    if not rest:
        return False
    category = unicodedata.category(rest[-1])
    return category[0] in "LN" or category in ("Pe", "Pf") or rest[-1] in _CLOSING


def _without_marks(text: str) -> str:
    end = len(text)
    while end and unicodedata.category(text[end - 1])[0] == "M":
        end -= 1
    return text[:end]


def spellings(target: str, prompt: str, rule: str) -> tuple[str, ...]:
    """List how a target may be written after a prompt, the usual way first.

    Both with and without a space, unless there is white space at the border, or letters are on both of its
    sides: then with a space where both scripts have spaces, without where neither has. The model's own
    probabilities decide between two; with the rule ``exact`` the other is scored for comparison only.
    """
    usual = spaced(target, prompt, rule)
    if not prompt or prompt[-1].isspace() or target[0].isspace():
        return (usual,)
    kinds = {_script(target[0]), _script(_without_marks(prompt)[-1:])}
    if unicodedata.category(target[0])[0] == "M" or (len(kinds) == 1 and None not in kinds):
        return (usual,)
    return usual, target if usual != target else f" {target}"


def _script(letter: str) -> bool | None:
    """Say whether a letter's script is written with spaces; ``None`` for what is no letter."""
    if not letter or unicodedata.category(letter)[0] != "L":
        return None
    return not unicodedata.name(letter, "").startswith(_UNSPACED)


@dataclass(frozen=True, slots=True)
class Choice:
    """A target or foil with the ways in which it may be written.

    Attributes:
        text: As the user asked for it.
        is_foil: Whether it is a foil.
        spellings: Ways to write it, the usual one first.
        token_ids: Tokens of each.
        fixed: Whether the first of them is taken, however likely.
    """

    text: str
    is_foil: bool
    spellings: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    fixed: bool = False

    def chosen(self, scores: Scores) -> Target:
        """Take the likelier spelling; the usual one where they are as likely, not scored, or it is fixed."""
        totals = [sum(scores.get(ids, (nan,))) for ids in self.token_ids]
        best = int(len(totals) > 1 and not self.fixed and totals[1] > totals[0] + ALIKE)
        target = Target(self.text, self.token_ids[best], self.spellings[best], "", self.is_foil)
        if len(totals) == 1:
            return target
        return replace(target, other_spelling=self.spellings[1 - best], other_logprob=totals[1 - best])


def choices(
    tokenizer: Tokenizer,
    prompt_text: str,
    targets: Sequence[str],
    foils: Sequence[str],
    *,
    rule: str,
    special: bool,
) -> tuple[Choice, ...]:
    """Tokenise targets and foils as continuations of a prompt, in every way in which they may be written.

    Args:
        tokenizer: The model's tokenizer.
        prompt_text: The rendered prompt.
        targets: Strings to follow; one that comes twice is followed once.
        foils: Strings to contrast them with, likewise.
        rule: ``auto`` or ``exact``, see ``spellings``.
        special: Whether the prompt was tokenised with the tokenizer's own special tokens.

    Raises:
        ElimError: A string has no token, or is unknown to the tokenizer.
    """
    wanted: dict[str, Choice] = {}
    for string, is_foil in [*((t, False) for t in targets), *((f, True) for f in foils)]:
        if string in wanted:
            continue
        usual, *others = spellings(string, prompt_text, rule)
        ids = tokenizer.continuation(prompt_text, usual, special=special)
        _check_known(tokenizer, usual, ids)
        wanted[string] = Choice(string, is_foil, (usual,), (ids,))
        for other in others if ids[0] not in tokenizer.special_ids else ():
            otherwise = tokenizer.continuation(prompt_text, other, special=special)
            if otherwise != ids and not _unknown(tokenizer, other, otherwise):
                both, fixed = (usual, other), rule == "exact"
                wanted[string] = Choice(string, is_foil, both, (ids, otherwise), fixed)
    return tuple(wanted.values())


def to_score(tokenizer: Tokenizer, asked: Sequence[Choice], *, append: bool) -> tuple[tuple[int, ...], ...]:
    """List the continuations to score: of undecided spellings, and where the start may be appended."""
    starts = [{ids[0] for ids in one.token_ids} for one in asked]
    if len(asked) == 1:
        begun = any(_blank(tokenizer, ids) for ids in asked[0].token_ids)
    else:
        begun = bool(asked) and bool(set.intersection(*starts))
    found = [ids for one in asked if len(one.spellings) > 1 or (append and begun) for ids in one.token_ids]
    return tuple(dict.fromkeys(found))


def resolve(
    tokenizer: Tokenizer, asked: Sequence[Choice], scores: Scores, *, append: bool, rule: str = "auto"
) -> tuple[tuple[Target, ...], tuple[int, ...]]:
    """Choose how each target is written, and split off leading tokens that carry none of the answer.

    Args:
        tokenizer: The model's tokenizer.
        asked: From ``choices``.
        scores: Log-probabilities of the continuations that ``to_score`` lists, as far as they are known.
        append: Split off leading tokens that all strings share or, of one, those of white space, so that the
            token probed is the first of the answer, or the first that tells them apart.
        rule: With ``exact``, white space before a single string stays part of it.

    Returns:
        The targets, then the foils; and the tokens to append to the prompt.

    Raises:
        ElimError: A target and a foil are written alike.
    """
    found = [one.chosen(scores) for one in asked]
    targets = {one.spelling for one in found if not one.is_foil}
    for foil in found:
        if foil.is_foil and foil.spelling in targets:
            raise ElimError(f"{foil.spelling!r} is both a target and a foil", "leave one of the two out")
    shared = 0
    if append and len({one.spelling for one in found}) > 1:
        shared = _shared(found)
    elif append and found and rule != "exact":
        shared = _blank(tokenizer, found[0].token_ids)
    prefix = found[0].token_ids[:shared] if shared else ()
    found = [replace(target, token_ids=target.token_ids[shared:]) for target in found]
    first = Counter(target.token_id for target in found)
    tokens = tokenizer.texts([target.token_id for target in found])
    return tuple(
        replace(target, token=token, ambiguous=first[target.token_id] > 1)
        for target, token in zip(found, tokens, strict=True)
    ), prefix


def _blank(tokenizer: Tokenizer, ids: Sequence[int]) -> int:
    """Count the leading tokens of white space; 0 where nothing else follows."""
    texts = tokenizer.texts(ids)
    return next((at for at, text in enumerate(texts) if text.strip()), 0)


def _shared(targets: Sequence[Target]) -> int:
    """Count the leading tokens that all targets have in common, leaving each at least one."""
    most = min(len(target.token_ids) for target in targets) - 1
    shared = 0
    while shared < most and len({target.token_ids[shared] for target in targets}) == 1:
        shared += 1
    return shared


def _unknown(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> bool:
    """Tell whether a text has no token, or more unknown ones than it spells out."""
    unknown = tokenizer.backend.unk_token_id
    return not ids or (unknown is not None and ids.count(unknown) > text.count(tokenizer.backend.unk_token))


def _check_known(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> None:
    if not ids:
        raise ElimError(
            f"target {text!r} has no token in this model's vocabulary", "give at least one visible character"
        )
    if _unknown(tokenizer, text, ids):
        raise ElimError(
            f"target {text!r} has characters that this model's tokenizer does not know",
            "choose a target written with the model's own vocabulary",
        )

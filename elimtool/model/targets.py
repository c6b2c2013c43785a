"""Tokenise targets: add leading spaces, split off shared first tokens, mark ambiguous ones."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from elimtool.errors import ElimError
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Target

_HAN = ("CJK", "IDEOGRAPHIC", "HANGZHOU", "BOPOMOFO")
_KANA = ("HIRAGANA", "KATAKANA", "HENTAIGANA", "HALFWIDTH KATAKANA")
_UNSPACED = (*_HAN, *_KANA, "THAI", "LAO", "KHMER")
_CLOSING = frozenset(".,;:!?%…،؛؟۔।॥")
_STRAIGHT = "\"'"


def spaced(target: str, prompt: str, rule: str) -> str:
    """Add a space before a target where the prompt would continue with one.

    Args:
        target: As the user wrote it.
        prompt: The rendered prompt.
        rule: ``exact``: add none. ``auto``: add one before a letter or digit of a script written with spaces,
            if the prompt ends in a letter, a digit or closing punctuation.
    """
    if rule == "exact" or not prompt or not _starts_word(target[0]) or not _ends_word(prompt):
        return target
    return " " + target


def _starts_word(letter: str) -> bool:
    if unicodedata.category(letter)[0] not in "LN":
        return False
    return not unicodedata.name(letter, "").startswith(_UNSPACED)


def _ends_word(prompt: str) -> bool:
    """Tell whether a text ends in a letter, a digit or closing punctuation; combining marks are skipped.

    A straight quote closes after one of these and opens after anything else.
    """
    rest = prompt.rstrip(_STRAIGHT) if prompt.endswith(tuple(_STRAIGHT)) else prompt
    while rest and unicodedata.category(rest[-1])[0] == "M":
        rest = rest[:-1]
    if not rest:
        return False
    category = unicodedata.category(rest[-1])
    return category[0] in "LN" or category in ("Pe", "Pf") or rest[-1] in _CLOSING


def resolve(
    tokenizer: Tokenizer,
    prompt_text: str,
    targets: Sequence[str],
    foils: Sequence[str],
    *,
    rule: str,
    special: bool,
    append: bool,
) -> tuple[tuple[Target, ...], tuple[int, ...]]:
    """Tokenise targets and foils as continuations of a prompt.

    Args:
        tokenizer: The model's tokenizer.
        prompt_text: The rendered prompt.
        targets: Strings to follow.
        foils: Strings to contrast them with.
        rule: ``auto`` or ``exact``, see ``spaced``.
        special: Whether the prompt was tokenised with the tokenizer's own special tokens.
        append: Split off leading tokens that all of two or more strings share, so that the token probed
            is the first that tells them apart.

    Returns:
        The targets, then the foils; and the shared tokens to append to the prompt.

    Raises:
        ElimError: A string has no token, or is unknown to the tokenizer.
    """
    wanted: dict[str, Target] = {}
    for string, is_foil in [*((t, False) for t in targets), *((f, True) for f in foils)]:
        if string in wanted:
            continue
        spelling = spaced(string, prompt_text, rule)
        if any(one.spelling == spelling and one.is_foil != is_foil for one in wanted.values()):
            raise ElimError(f"{spelling!r} is both a target and a foil", "leave one of the two out")
        ids = tokenizer.continuation(prompt_text, spelling, special=special)
        _check_known(tokenizer, spelling, ids)
        wanted[string] = Target(string, ids, spelling, "", is_foil)
    found = list(wanted.values())
    shared = _shared(found) if append and len({one.spelling for one in found}) > 1 else 0
    prefix = found[0].token_ids[:shared] if shared else ()
    found = [replace(target, token_ids=target.token_ids[shared:]) for target in found]
    first = Counter(target.token_id for target in found)
    tokens = tokenizer.texts([target.token_id for target in found])
    return tuple(
        replace(target, token=token, ambiguous=first[target.token_id] > 1)
        for target, token in zip(found, tokens, strict=True)
    ), prefix


def _shared(targets: Sequence[Target]) -> int:
    """Count the leading tokens that all targets have in common, leaving each at least one."""
    most = min(len(target.token_ids) for target in targets) - 1
    shared = 0
    while shared < most and len({target.token_ids[shared] for target in targets}) == 1:
        shared += 1
    return shared


def _check_known(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> None:
    unknown = tokenizer.backend.unk_token_id
    if not ids:
        raise ElimError(
            f"target {text!r} has no token in this model's vocabulary", "give at least one visible character"
        )
    if unknown is not None and ids.count(unknown) > text.count(tokenizer.backend.unk_token):
        raise ElimError(
            f"target {text!r} has characters that this model's tokenizer does not know",
            "choose a target written with the model's own vocabulary",
        )

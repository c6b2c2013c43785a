"""Read suite files: templates in YAML or JSONL, with errors that say where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.suites.suite import Fields, Suite, SuiteCheck, merged
from elimtool.suites.templates import SLOT, Groups, Template

KEYS = ("version", "name", "defaults", "templates", "slots", "groups", "repeat_slot")
FIELDS = ("targets", "foils", "category", "answers")
"""Fields that a template or the defaults hand on to records."""
TEMPLATE_KEYS = ("id", "template", "neutral", "groups", "slot", "repeat_slot", *FIELDS)
VALUE_KEYS = ("text", *FIELDS)
HOW = "docs/suites.md has an example"


def expand(found: Any, where: str) -> Suite:
    """Make the records of a suite file.

    Args:
        found: What the YAML file holds.
        where: Name of the file, for messages.

    Raises:
        ElimError: It is no suite.
    """
    given = _mapping(found, where, KEYS)
    if given.get("version") != 1:
        raise ElimError(f"{where}: `version` must be 1, got {given.get('version')!r}", HOW)
    templates = given.get("templates")
    if not isinstance(templates, list) or not templates:
        raise ElimError(f"{where}: there are no `templates`", HOW)
    return expand_templates(templates, given, where)


def expand_templates(templates: Sequence[Any], given: Mapping[str, Any], where: str) -> Suite:
    """Make the records of templates.

    Args:
        templates: Templates as written.
        given: What the suite says of all of them; empty in JSONL.
        where: Name of the file, for messages.

    Raises:
        ElimError: A template or group has another form, or two templates have one id.
    """
    read = list(_templates(templates, given, where))
    ids = [one.id for one in read]
    for one in ids:
        if ids.count(one) > 1:
            raise ElimError(f"{where}: two templates have the id '{one}'", "give each an id of its own")
    checks: list[SuiteCheck] = []
    records = []
    for template in read:
        problems = list(template.problems())
        checks += problems
        if not any(one.level == "error" for one in problems):
            records += list(template.records())
    return merged(records, checks)


def _templates(templates: Sequence[Any], given: Mapping[str, Any], where: str) -> Iterator[Template]:
    defaults = _mapping(given.get("defaults") or {}, f"{where}: `defaults`", FIELDS)
    slots = _values(given.get("slots") or {}, f"{where}: `slots`")
    for number, one in enumerate(templates):
        at = f"{where}: templates[{number}]"
        own = _mapping({"template": one} if isinstance(one, str) else one, at, TEMPLATE_KEYS)
        text = own.get("template")
        if not isinstance(text, str) or not text:
            raise ElimError(f"{at}: `template` must be a text with a slot in braces, got {text!r}", HOW)
        neutral = own.get("neutral")
        if neutral is not None and (not isinstance(neutral, str) or not neutral):
            raise ElimError(f"{at}: `neutral` must be a text, got {neutral!r}", "put it in quotes")
        repeat = own.get("repeat_slot", given.get("repeat_slot", False))
        if not isinstance(repeat, bool):
            raise ElimError(f"{at}: `repeat_slot` must be true or false, got {repeat!r}", HOW)
        fields = {**_own_fields(defaults, f"{where}: `defaults`"), **_own_fields(own, at)}
        yield Template(
            str(own.get("id", number + 1)),
            text,
            neutral,
            _groups(own.get("groups") or given.get("groups"), own.get("slot"), text, slots, at),
            slots,
            repeat,
            fields,
        )


def _groups(found: Any, slot: Any, text: str, slots: Mapping[str, Any], at: str) -> Groups | None:
    """Read groups of words, of the suite or of one template; ``None`` where only further slots vary."""
    if not found and slot is None and set(SLOT.findall(text)) <= set(slots):
        return None
    given = dict(_mapping(found or {}, f"{at}: `groups`"))
    if "targets" in given:
        words = _lists(given.pop("targets"), f"{at}: `groups.targets`")
        if given:
            raise ElimError(
                f"{at}: `groups` has 'targets' and '{next(iter(given))}'", "leave one of the two out"
            )
        return _at_least_two(Groups(None, words), at)
    pair = given.pop("pair", "aligned")
    if pair not in ("aligned", "all"):
        raise ElimError(
            f"{at}: `pair` must be aligned or all, got {pair!r}", nearest(str(pair), ("aligned", "all"))
        )
    slot = given.pop("slot", slot)
    if slot is None:
        free = [name for name in dict.fromkeys(SLOT.findall(text)) if name not in slots]
        if len(free) != 1:
            raise ElimError(f"{at}: which slot takes the group's words is not said", "name it: `slot: who`")
        (slot,) = free
    return _at_least_two(Groups(str(slot), _lists(given, f"{at}: `groups`"), pair == "aligned"), at)


def _at_least_two(groups: Groups, at: str) -> Groups:
    if len(groups.words) < 2:
        raise ElimError(f"{at}: there must be two groups at least, got {len(groups.words):,}", HOW)
    return groups


def _mapping(found: Any, where: str, keys: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ElimError(f"{where} must be a mapping of names, got {type(found).__name__}", HOW)
    for name in found if keys else ():
        if name not in keys:
            raise ElimError(f"{where}: unknown key '{name}'", nearest(name, keys))
    return found


def _lists(found: Any, where: str) -> dict[str, list[str]]:
    return {name: _strings(some, f"{where}.{name}") for name, some in _mapping(found, where).items()}


def _values(found: Any, where: str) -> dict[str, list[tuple[str, Fields]]]:
    """Read the values of slots: strings, or mappings with ``text`` and fields of the records that have it."""
    slots: dict[str, list[tuple[str, Fields]]] = {}
    for name, some in _mapping(found, where).items():
        at = f"{where}.{name}"
        listed = [some] if isinstance(some, str) else some
        if not isinstance(listed, list) or not listed:
            raise ElimError(f"{at} must be a list of strings, got {some!r}", 'put words in quotes: ["past"]')
        slots[name] = []
        for number, one in enumerate(listed):
            place = f"{at}[{number}]"
            given = one if isinstance(one, dict) else {"text": one}
            own = _mapping(given, place, VALUE_KEYS)
            text = own.get("text")
            if not isinstance(text, str) or not text:
                quoted = "put words in quotes: YAML reads some, such as on, as something else"
                raise ElimError(f"{place} must be a string or have a `text`, got {one!r}", quoted)
            slots[name].append((text, _own_fields(own, place)))
    return slots


def _own_fields(given: Mapping[str, Any], at: str) -> Fields:
    fields = {name: given[name] for name in FIELDS if name in given}
    for name in {"targets", "foils"} & fields.keys():
        fields[name] = _strings(fields[name], f"{at}: `{name}`")
    return fields


def _strings(found: Any, where: str) -> list[str]:
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(one, str) and one for one in listed):
        raise ElimError(f"{where} must be a list of strings, got {found!r}", 'put words in quotes: [" she"]')
    return listed

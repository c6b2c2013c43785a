"""Gather the prompts of a check file, with the targets that its checks ask about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from elimtool.analysis.check.read import Checks
from elimtool.analysis.check.select_prompts import chosen_prompts
from elimtool.analysis.check.spec import Check
from elimtool.errors import ElimError
from elimtool.files.rows import Row
from elimtool.prompts.chat import PLAIN, ChatSettings
from elimtool.prompts.prompt import Prompt, default_id


def prompts_of(checks: Checks, wanted: Collection[Check], chat: ChatSettings = PLAIN) -> list[Prompt]:
    """Read the prompts that some checks are about, each with the targets that the checks name.

    Args:
        checks: From ``read_checks``.
        wanted: The checks.
        chat: What chat templates are given, over what the file says.

    Raises:
        ElimError: The file names no prompts, one of them cannot be used, or a check selects none (exit
            code 5).
    """
    file = checks.file
    given = chat.over(ChatSettings(file.template_vars, file.tools, file.now))
    prompts = [one.with_chat(given) for one in _read(checks)]
    keys = [_key(number, one) for number, one in enumerate(prompts)]
    rows = dict(zip(keys, map(_row, prompts), strict=True))
    if len(rows) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ElimError(f"{_where(checks)}: two prompts have the id '{twice}'", "give each an id of its own")
    chosen = {name for check in wanted for name in _chosen(checks, check, rows)}
    asked = _asked(checks, rows)
    keyed = zip(keys, prompts, strict=True)
    return [_following(one, *asked.get(key, ((), ()))) for key, one in keyed if key in chosen]


def _chosen(checks: Checks, check: Check, rows: Mapping[str, Row]) -> list[str]:
    try:
        return chosen_prompts(check, rows)
    except ElimError as error:
        where = f"{checks.path}:{checks.line(check)}"
        raise ElimError(f"{where}: {error.message}", error.hint, error.exit_code) from error


def _asked(checks: Checks, rows: Mapping[str, Row]) -> dict[str, tuple[list[str], list[str]]]:
    """Collect the targets and the foils of each prompt from all checks of the file.

    They may move the position that is read, so they must not depend on which checks are judged.
    """
    found: dict[str, tuple[list[str], list[str]]] = {}
    for check in checks.file.checks:
        with suppress(ElimError):
            for name in chosen_prompts(check, rows):
                targets, foils = found.setdefault(name, ([], []))
                targets += [check.target] if check.target and check.target not in targets else []
                foils += [check.foil] if check.foil and check.foil not in foils else []
    return found


def _read(checks: Checks) -> list[Prompt]:
    given = checks.file.prompts
    if given is None:
        raise ElimError(
            f"{checks.path}:1: the file names no prompts", "add prompts: FILE, or judge a run with `run`"
        )
    from elimtool.prompts.file import PromptFile
    from elimtool.prompts.record import record_of

    if isinstance(given, str):
        records = list(PromptFile(checks.beside(given)).records())
    else:
        records = [
            record_of(fields, number, checks.places.at(("prompts", number)))
            for number, fields in enumerate(given)
        ]
    found = []
    for record in records:
        if isinstance(record.prompt, ElimError):
            raise record.prompt
        found.append(record.prompt)
    if not found:
        raise ElimError(f"{_where(checks)}: there is no prompt", "give at least one")
    return found


def _where(checks: Checks) -> str:
    return checks.places.at(("prompts",))


def _key(number: int, prompt: Prompt) -> str:
    """The id of a prompt before it is rendered; a chat without an id is named by its number."""
    if prompt.id is not None:
        return prompt.id
    return default_id(prompt.text) if prompt.text is not None else f"<chat {number + 1}>"


def _row(prompt: Prompt) -> Row:
    return {"group": prompt.group, "category": prompt.category, "tags": list(prompt.tags)}


def _following(prompt: Prompt, targets: Sequence[str], foils: Sequence[str]) -> Prompt:
    """Add targets and foils of checks to a prompt, but for those it has already, with or without a space."""
    known = {one.strip() for one in (*prompt.targets, *prompt.foils)}
    more = tuple(one for one in targets if one.strip() not in known)
    known |= {one.strip() for one in more}
    contrasted = tuple(one for one in foils if one.strip() not in known)
    return replace(prompt, targets=(*prompt.targets, *more), foils=(*prompt.foils, *contrasted))

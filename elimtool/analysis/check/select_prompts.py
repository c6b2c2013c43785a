"""Choose the prompts of a run that a check is about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from elimtool.analysis.check.spec import Check
from elimtool.errors import ElimError, Exit, nearest
from elimtool.files.rows import Row


def chosen_prompts(check: Check, prompts: Mapping[str, Row]) -> list[str]:
    """List the ids of the prompts that a check is about, in the run's order.

    Raises:
        ElimError: None fits, or a prompt that the check names is missing (exit code 5).
    """
    wanted = check.prompt or check.select.id
    for name in wanted:
        if "*" not in name and name not in prompts:
            raise ElimError(
                f"check '{check.id}' is about prompt '{name}', and there is none",
                nearest(name, tuple(prompts)[:20]),
                Exit.NOTHING,
            )
    found = [name for name, row in prompts.items() if _fits(check, wanted, name, row)]
    if not found:
        asked = ", ".join(f"{k} {'/'.join(v)}" for k, v in check.select.model_dump().items() if v)
        raise ElimError(
            f"check '{check.id}' selects no prompt ({asked or 'there is none'})",
            _offer(check, prompts),
            Exit.NOTHING,
        )
    return found


def _fits(check: Check, ids: Sequence[str], name: str, row: Row) -> bool:
    select = check.select
    return (
        (not ids or any(_like(name, pattern) for pattern in ids))
        and (not select.tag or bool(set(select.tag) & set(row["tags"] or ())))
        and (not select.group or row["group"] in select.group)
        and (not select.category or row["category"] in select.category)
    )


def _like(name: str, pattern: str) -> bool:
    """Match a name against a pattern in which ``*`` stands for anything; fnmatch would read [ and ? too."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


def _offer(check: Check, prompts: Mapping[str, Row]) -> str:
    """Suggest the nearest word to the one that a selector did not find."""
    for key, column in (("tag", "tags"), ("group", "group"), ("category", "category")):
        if asked := getattr(check.select, key):
            values = [row[column] for row in prompts.values() if row[column]]
            known = sorted(
                {one for value in values for one in (value if isinstance(value, list) else [value])}
            )
            return nearest(asked[0], known[:20]) if known else f"no prompt has a {key}"
    return f"prompts: {', '.join(list(prompts)[:20])}"

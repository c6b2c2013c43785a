"""Read the prompts of a comparison from files, and join two files by id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError, Exit
from elimtool.prompts.chat import PLAIN_PINNED, ChatSettings
from elimtool.prompts.file import PromptFile, read_prompts
from elimtool.prompts.prompt import Prompt

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.model.model import Model
    from elimtool.run.comparison import Comparison


def read_usable(path: Path, format: str | None = None) -> tuple[list[Prompt], dict[str, ElimError]]:
    """Read a file as ``read_prompts`` does, and refuse one without any usable prompt.

    Raises:
        ElimError: As there; or no record is a prompt (exit code 5).
    """
    prompts, unread = read_prompts(path, format)
    if not prompts:
        first = next(iter(unread.values()))
        raise ElimError(f"no record of {path} is a prompt: {first.message}", first.hint, Exit.NOTHING)
    return prompts, unread


def compare_files(
    load: Callable[[], Model],
    a: Path,
    b: Path,
    *,
    format: str | None = None,
    options: TraceOptions,
    chat: ChatSettings = PLAIN_PINNED,
    progress: Callable[[int, int], None] | None = None,
    **asked: Any,
) -> Comparison:
    """Compare two prompt files; records with the same id are paired.

    Args:
        load: Loads the model, once the files are read.
        a: The first file.
        b: The second.
        format: Their format; ``None`` to tell by their names.
        options: What to trace and how.
        chat: What chat templates are given, where a record does not say.
        progress: Called with (pairs done, pairs in all).
        asked: Other arguments of ``compare_prompts``.

    Raises:
        ElimError: No record is in both, or no pair can be used (exit code 5); or as ``compare_prompts``.
    """
    from elimtool.tasks.compare.prompts import compare_prompts

    left, right = (_by_id(path, format) for path in (a, b))
    names = [name for name in left if name in right]
    if not names:
        raise ElimError(
            f"no record of {a} has the id of one of {b}",
            "records that belong together need the same id",
            Exit.NOTHING,
        )
    usable, unread = [], {}
    for name in names:
        one, other = left[name], right[name]
        if isinstance(one, Prompt) and isinstance(other, Prompt):
            usable.append((replace(one, id=name).with_chat(chat), replace(other, id=name).with_chat(chat)))
        else:
            side, error = ("A", one) if isinstance(one, ElimError) else ("B", other)
            unread[name] = f"{side}: {error}"
    if not usable:
        raise ElimError(f"no pair can be used: {next(iter(unread.values()))}", "", Exit.NOTHING)
    return compare_prompts(
        load(),
        [one for one, _ in usable],
        [other for _, other in usable],
        options=replace(options, errors="row"),
        unread=unread,
        unpaired=(len(left) - len(names), len(right) - len(names)),
        names=(str(a), str(b)),
        progress=progress,
        **asked,
    )


def _by_id(path: Path, format: str | None) -> dict[str, Prompt | ElimError]:
    """Read the prompts of a file, or why they cannot be read, by id.

    Raises:
        ElimError: The file cannot be read, or a record has no id of its own.
    """
    found: dict[str, Prompt | ElimError] = {}
    with PromptFile(path, format) as file:
        for record in file.records():
            if record.id is None and not isinstance(record.prompt, ElimError):
                raise ElimError(
                    f"{path}:{record.line}: the record has no id", "give one; records are joined by it"
                )
            found[record.id or f"<line {record.line}>"] = record.prompt
    return found

"""The part of ``elimtool compare`` that is about two prompts: its options, and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from elimtool.cli import options as shared
from elimtool.cli.asked import prompt_of
from elimtool.errors import ElimError, Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from elimtool.engine.options import TraceOptions
    from elimtool.model.model import Model
    from elimtool.prompts.prompt import Prompt
    from elimtool.run.comparison import Comparison
    from elimtool.tasks.compare.asked import Controls

PANEL = "Two prompts"

Chat = Annotated[
    bool,
    shared.switch("--chat", help="Take both as a user's message and render the chat template.", panel=PANEL),
]
System = Annotated[
    str | None, shared.option("--system", help="System message before both; implies --chat.", panel=PANEL)
]
SpanNames = Annotated[
    list[str] | None,
    shared.option(
        "--span",
        metavar="NAME=TEXT",
        help="Part of both prompts, or of one, to sum attention over; repeatable.",
        panel=PANEL,
    ),
]
Injection = Annotated[
    bool,
    shared.switch(
        "--injection", help="Call what the second prompt adds 'injected', and tell what it did.", panel=PANEL
    ),
]
Continue = Annotated[
    int,
    shared.option(
        "--continue", metavar="N", help="Tokens that both sides write on, the best each time.", panel=PANEL
    ),
]
ControlCount = Annotated[
    int | None,
    shared.option(
        "--controls",
        metavar="N",
        help="Edits of the same size and place to hold the edit against. Without: 20.",
        panel=PANEL,
    ),
]
Paraphrases = Annotated[
    list[str] | None,
    shared.option(
        "--paraphrase", help="The first prompt in other words, as a control; repeatable.", panel=PANEL
    ),
]

OF_ONE_PAIR = frozenset({"chat", "system", "span", "injection", "paraphrase"})
"""Parameters that mean something for two prompts of the command line alone."""
OF_PAIRS = OF_ONE_PAIR | {"continue_", "controls"}
"""Parameters that mean something for two prompts or two files of them."""


@dataclass(frozen=True, slots=True)
class PairOptions:
    """The options of this part, as they were given."""

    chat: bool = False
    system: str | None = None
    spans: tuple[str, ...] = ()
    injection: bool = False
    continuation: int = 0
    controls: int | None = None
    paraphrases: tuple[str, ...] = ()

    def made(self) -> Controls:
        """What each edit is held against.

        Raises:
            ElimError: A number is negative.
        """
        from elimtool.tasks.compare.asked import CONTROLS_PER_PAIR, Controls

        count = CONTROLS_PER_PAIR if self.controls is None else self.controls
        return Controls(count, self.paraphrases, self.injection, self.continuation)

    def prompt(self, text: str) -> Prompt:
        """One of the two prompts.

        Raises:
            ElimError: It is empty, or a span is not NAME=TEXT.
        """
        if not text:
            raise ElimError(
                "a prompt is empty", "give at least one character; a model predicts from something"
            )
        return prompt_of(text, self.chat, self.system, (), (), self.spans)


def compare_two(
    load: Callable[[], Model],
    texts: tuple[str, ...],
    given: PairOptions,
    follow: tuple[tuple[str, ...], tuple[str, ...]],
    options: TraceOptions,
) -> Comparison:
    """Two prompts of the command line."""
    from elimtool.tasks.compare.prompts import compare_prompts

    a, b = (given.prompt(text) for text in texts)
    controls = given.made()
    return compare_prompts(
        load(), a, b, targets=follow[0], foils=follow[1], options=options, controls=controls
    )


def compare_files(
    load: Callable[[], Model],
    paths: tuple[Path, ...],
    format_: str | None,
    given: PairOptions,
    follow: tuple[tuple[str, ...], tuple[str, ...]],
    options: TraceOptions,
    progress: Callable[[str], None],
) -> Comparison:
    """Two prompt files, joined by id.

    Raises:
        ElimError: No record is in both (exit code 5).
    """
    from elimtool.prompts.prompt import Prompt
    from elimtool.tasks.compare.prompts import compare_prompts

    left, right = (_records(path, format_) for path in paths)
    names = [name for name in left if name in right]
    if not names:
        raise ElimError(
            f"no record of {paths[0]} has the id of one of {paths[1]}",
            "records that belong together need the same id",
            Exit.NOTHING,
        )
    usable, unread = [], {}
    for name in names:
        one, other = left[name], right[name]
        if isinstance(one, Prompt) and isinstance(other, Prompt):
            usable.append((replace(one, id=name), replace(other, id=name)))
        else:
            side, error = ("A", one) if isinstance(one, ElimError) else ("B", other)
            unread[name] = f"{side}: {error}"
    if not usable:
        raise ElimError(f"no pair can be used: {next(iter(unread.values()))}", "", Exit.NOTHING)
    controls = given.made()
    model = load()
    counts = len(left) - len(names), len(right) - len(names)
    common: dict[str, Any] = {"targets": follow[0], "foils": follow[1], "controls": controls}
    return compare_prompts(
        model,
        [one for one, _ in usable],
        [other for _, other in usable],
        options=replace(options, errors="row"),
        unread=unread,
        unpaired=counts,
        names=(str(paths[0]), str(paths[1])),
        progress=lambda done, of: progress(f"{done} of {of} pairs"),
        **common,
    )


def _records(path: Path, format_: str | None) -> dict[str, Prompt | ElimError]:
    """The records of a file by id.

    Raises:
        ElimError: The file cannot be read, or a record has no id of its own.
    """
    from elimtool.prompts.file import PromptFile

    found: dict[str, Prompt | ElimError] = {}
    with PromptFile(path, format_) as file:
        for record in file.records():
            if record.id is None and not isinstance(record.prompt, ElimError):
                raise ElimError(
                    f"{path}:{record.line}: the record has no id", "give one; records are joined by it"
                )
            found[record.id or f"<line {record.line}>"] = record.prompt
    return found

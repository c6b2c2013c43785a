"""The options of ``elimtool compare`` that are about two prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from elimtool.cli import options as shared
from elimtool.cli.asked import prompt_of

if TYPE_CHECKING:
    from elimtool.prompts.prompt import Prompt
    from elimtool.tasks.compare.asked import Controls

PANEL = "Two prompts"

OF_ONE_PAIR = frozenset({"chat", "system", "span", "injection", "paraphrase"})
"""Parameters that mean something for two prompts of the command line alone."""
OF_PAIRS = OF_ONE_PAIR | {"continue_", "controls"}
"""Parameters that mean something for two prompts or two files of them."""


@dataclass(frozen=True)
class PairOptions:
    """The options that are about two prompts."""

    chat: Annotated[
        bool,
        shared.switch(
            "--chat", help="Take both as a user's message and render the chat template.", panel=PANEL
        ),
    ] = False
    system: Annotated[
        str | None, shared.option("--system", help="System message before both; implies --chat.", panel=PANEL)
    ] = None
    span: Annotated[
        list[str] | None,
        shared.option(
            "--span",
            metavar="NAME=TEXT",
            help="Part of both prompts, or of one, to sum attention over; repeatable.",
            panel=PANEL,
        ),
    ] = None
    injection: Annotated[
        bool,
        shared.switch(
            "--injection",
            help="Call what the second prompt adds 'injected', and tell what it did.",
            panel=PANEL,
        ),
    ] = False
    continue_: Annotated[
        int,
        shared.option(
            "--continue",
            metavar="N",
            help="Tokens that both sides write on, the best each time.",
            panel=PANEL,
        ),
    ] = 0
    controls: Annotated[
        int | None,
        shared.option(
            "--controls",
            metavar="N",
            help="Edits of the same size and place to hold the edit against. Without: 20.",
            panel=PANEL,
        ),
    ] = None
    paraphrase: Annotated[
        list[str] | None,
        shared.option(
            "--paraphrase", help="The first prompt in other words, as a control; repeatable.", panel=PANEL
        ),
    ] = None

    def made(self) -> Controls:
        """What each edit is held against.

        Raises:
            ElimError: A number is negative.
        """
        from elimtool.tasks.compare.asked import CONTROLS_PER_PAIR, Controls

        count = CONTROLS_PER_PAIR if self.controls is None else self.controls
        return Controls(count, tuple(self.paraphrase or ()), self.injection, self.continue_)

    def prompt(self, text: str) -> Prompt:
        """One of the two prompts.

        Raises:
            ElimError: It is empty, or a span is not NAME=TEXT.
        """
        return prompt_of(text, self.chat, self.system, (), (), self.span or ())

"""Declare the options of ``elimtool compare`` for two prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from elimtool.cli import options as shared
from elimtool.cli.asked import ended, prompt_of
from elimtool.prompts.chat import ChatSettings

if TYPE_CHECKING:
    from elimtool.prompts.prompt import Prompt
    from elimtool.tasks.compare.asked import Controls

PANEL = "Two prompts"

OF_ONE_PAIR = frozenset({"chat", "system", "prefill", "span", "injection", "paraphrase"})
"""Parameters for two prompts on the command line only."""
OF_PAIRS = OF_ONE_PAIR | {"continue_", "controls", "concept"}
"""Parameters for two prompts or two prompt files only."""


@dataclass(frozen=True)
class PairOptions:
    """Options for two prompts."""

    chat: Annotated[
        bool,
        shared.switch(
            "--chat", help="Take both as a user's message and render the chat template.", panel=PANEL
        ),
    ] = False
    system: Annotated[
        str | None, shared.option("--system", help="System message before both; implies --chat.", panel=PANEL)
    ] = None
    prefill: Annotated[
        str | None,
        shared.option(
            "--prefill", help="Beginning of both answers, which the model continues; see trace.", panel=PANEL
        ),
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
            help="Call what the second prompt adds 'injected', and report what it did.",
            panel=PANEL,
        ),
    ] = False
    continue_: Annotated[
        int,
        shared.option(
            "--continue",
            metavar="N",
            help="Number of tokens that both sides write on, always the most probable one.",
            panel=PANEL,
        ),
    ] = 0
    controls: Annotated[
        int | None,
        shared.option(
            "--controls",
            metavar="N",
            help="Number of random edits of the same size and place to compare with. Without: 20.",
            panel=PANEL,
        ),
    ] = None
    paraphrase: Annotated[
        list[str] | None,
        shared.option(
            "--paraphrase", help="The first prompt in other words, as a control; repeatable.", panel=PANEL
        ),
    ] = None

    concept: Annotated[
        list[str] | None,
        shared.option(
            "--concept",
            metavar="NAME=WORDS",
            help="Contrast how well words are placed below the two outputs, such as 'snow=snow, winter,"
            " ice'; repeatable.",
            panel=PANEL,
        ),
    ] = None

    def made(self) -> Controls:
        """Make the controls that each edit is compared with.

        Raises:
            ElimError: A number is negative.
        """
        from elimtool.tasks.compare.asked import CONTROLS_PER_PAIR, Controls

        count = CONTROLS_PER_PAIR if self.controls is None else self.controls
        return Controls(count, tuple(self.paraphrase or ()), self.injection, self.continue_)

    def prompts(
        self, texts: Sequence[str], settings: ChatSettings, note: Callable[[str], None]
    ) -> list[Prompt]:
        """Make the two prompts, with what their chat template is given.

        Args:
            texts: Both, as they were typed.
            settings: For the chat template.
            note: Called with what is done to their ends.

        Raises:
            ElimError: One is empty, or a span is not NAME=TEXT.
        """
        chat = self.chat or self.system is not None
        kept = [
            ended(text, note, chat, f"the {which} prompt")
            for text, which in zip(texts, ("first", "second"), strict=True)
        ]
        return [
            prompt_of(text, self.chat, self.system, (), (), self.span or (), self.prefill, settings=settings)
            for text in kept
        ]

"""Read the prompt of a command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli.options import option, switch
from elimtool.errors import ElimError
from elimtool.prompts.chat import PINNED, PLAIN, ChatSettings, parse_tools, parse_variables

if TYPE_CHECKING:
    from elimtool.prompts.prompt import Prompt

CHAT = "Chat template"
PromptText = Annotated[
    str | None,
    typer.Argument(
        help="The prompt, or - to read it from standard input.", metavar="PROMPT", show_default=False
    ),
]
PromptFile = Annotated[
    Path | None, option("-f", "--file", metavar="FILE", help="Read the prompt from a UTF-8 file.")
]
Chat = Annotated[
    bool, switch("--chat", help="Take the prompt as a user's message and render the chat template.")
]
System = Annotated[str | None, option("--system", help="System message before it; implies --chat.")]
Prefill = Annotated[
    str | None,
    option(
        "--prefill",
        help="Beginning of the answer, which the model continues: in a chat the assistant's message, left"
        " open; a text is put behind the prompt as it is.",
    ),
]


@dataclass(frozen=True)
class ChatOptions:
    """What a chat template is given beside the messages."""

    template_var: Annotated[
        list[str] | None,
        option(
            "--template-var",
            metavar="NAME=VALUE",
            panel=CHAT,
            help="Variable of the chat template, such as enable_thinking=false: JSON, else text; repeatable.",
        ),
    ] = None
    tools: Annotated[
        Path | None,
        option("--tools", metavar="FILE", panel=CHAT, help="JSON list of the tools that the model may call."),
    ] = None
    now: Annotated[
        str | None,
        option(
            "--now",
            metavar="TIME",
            panel=CHAT,
            env="NOW",
            help="Time that the template reads, such as 2026-01-31. Without: today for a prompt,"
            f" {PINNED} for a file.",
        ),
    ] = None

    def made(self, *, of_file: bool = False) -> ChatSettings:
        """Make the settings.

        Args:
            of_file: Whether they are for a prompt file, whose results must not depend on the day.

        Raises:
            ElimError: A variable, the file of tools or the time is not valid.
        """
        tools: tuple[Any, ...] = ()
        if self.tools is not None:
            from elimtool.files.yaml import read_text

            tools = parse_tools(read_text(self.tools), str(self.tools))
        now = self.now or (PINNED if of_file else None)
        return ChatSettings(parse_variables(self.template_var or ()), tools, now)


def prompt_text(
    prompt: str | None,
    file: Path | None,
    note: Callable[[str], None],
    *,
    chat: bool,
    exact: bool = False,
) -> str:
    """Read the prompt from the command line, standard input or a file.

    Args:
        prompt: The argument.
        file: File to read it from.
        note: Called with what is done to its end.
        chat: Whether it is a message of a chat, so that more follows it.
        exact: Whether a line break at the end of the argument stays, as where the text is repeated.

    Raises:
        ElimError: Both or none of PROMPT and --file are given, or the file cannot be read.
    """
    from elimtool.files.yaml import decode, read_text

    if (prompt is None) == (file is None):
        raise ElimError("give one prompt: PROMPT, - for standard input, or --file FILE")
    if exact and prompt not in (None, "-"):
        return prompt or ""
    if file is not None:
        return ended(read_text(file), note, chat)
    if prompt == "-":
        return ended(decode(sys.stdin.buffer.read(), "standard input"), note, chat)
    return ended(prompt or "", note, chat)


def ended(text: str, note: Callable[[str], None], chat: bool, name: str = "the prompt") -> str:
    """Drop one line break at the end of a prompt, and say so; warn of white space that is left there.

    Editors and ``echo`` end a text with a line break that nobody means as part of the prompt, and blanks at
    its end change what a model predicts.

    Args:
        text: The prompt.
        note: Called with what is done.
        chat: Whether it is a message of a chat, so that more follows it.
        name: What the prompt is called in notes.
    """
    ending = next((one for one in ("\r\n", "\n") if text.endswith(one)), "")
    kept = text.removesuffix(ending)
    if ending and kept:
        note(f"one line break at the end of {name} is dropped")
    left = kept[len(kept.rstrip()) :]
    if left and kept.strip() and not chat:
        note(f"{name} ends in white space, {left!r}: the prediction is read after it")
    return kept if kept else text


def prompt_of(
    text: str,
    chat: bool,
    system: str | None,
    target: Sequence[str],
    foil: Sequence[str],
    span: Sequence[str],
    prefill: str | None = None,
    settings: ChatSettings = PLAIN,
) -> Prompt:
    """Make a prompt of a text, or of a user's message and an optional system message, and of what to follow.

    Raises:
        ElimError: The text or the prefill is empty, or a span is not NAME=TEXT.
    """
    from elimtool.prompts.prompt import Message, Prompt, SpanRequest

    if not text:
        raise ElimError("the prompt is empty", "give at least one character; a model predicts from something")
    follow = {
        "targets": tuple(target),
        "foils": tuple(foil),
        "spans": tuple(SpanRequest.parse(one) for one in span),
        "chat": settings,
    }
    if not chat and system is None:
        made = Prompt(text=text, **follow)  # type: ignore[arg-type]
    else:
        first = (Message("system", system),) if system is not None else ()
        made = Prompt(messages=(*first, Message("user", text)), **follow)  # type: ignore[arg-type]
    return made if prefill is None else made.with_prefill(prefill)


def check_spans(prompt: Prompt) -> None:
    """Refuse, before a model is loaded, spans that a plain text lacks; a chat is rendered by the model.

    Raises:
        ElimError: A span is not in the text, or occurs more than once.
    """
    if prompt.text is not None:
        for one in prompt.spans:
            one.locate(prompt.text)

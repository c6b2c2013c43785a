"""Detect a chat template that renders the common part of two chats differently."""

from __future__ import annotations

from itertools import takewhile

from elimtool.prompts.prompt import Prompt


def rewritten(a: Prompt, b: Prompt, texts: tuple[str, str]) -> str | None:
    """Note that the chat template changes the text before the first message that differs.

    Args:
        a: The first prompt.
        b: The second.
        texts: Both, rendered.

    Returns:
        The note; ``None`` if it does not, or one of the prompts is not a chat.
    """
    if not (a.messages and b.messages):
        return None
    pairs = zip(a.messages, b.messages, strict=False)
    same = next((n for n, (one, other) in enumerate(pairs) if one != other), None)
    if same is None:
        return None
    at = 0
    for message in a.messages[: same + 1]:
        content = message.content.strip()
        found = texts[0].find(content, at)
        if found < 0:
            return None
        at = found + (len(content) if message is not a.messages[same] else 0)
    role = a.messages[same].role == b.messages[same].role
    begun = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False)))
    if not role or begun >= at:
        return None
    return (
        "The chat template changes the text before the first message that differs, from character"
        f" {begun:,} on: the prompts differ in more than their messages."
    )

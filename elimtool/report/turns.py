"""Write a prompt for people: a chat as turns, without the marks of its template."""

from __future__ import annotations

from elimtool.files.rows import Row


def turns_of(prompt: Row) -> list[str]:
    """Turns of a chat, ``user: Which city?``; none for a plain text, and for runs that did not keep them."""
    return [f"{one['role']}: {one['text']}" for one in prompt.get("turns") or ()]


def text_of(prompt: Row) -> str:
    """The text of a prompt: a chat's turns on a line each, else the prompt itself."""
    return "\n".join(turns_of(prompt)) or prompt["text"] or ""

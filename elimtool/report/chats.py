"""Say what a chat template read beside the messages, and which control tokens the user wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from elimtool.files.rows import Row

if TYPE_CHECKING:
    from elimtool.run import Run


def chat_notes(prompt: Row, visible: Callable[[str], str] = str) -> list[str]:
    """List remarks on a prompt's text.

    Args:
        prompt: Its row of ``prompts``, perhaps of an earlier version.
        visible: Makes text safe to show.
    """
    notes = []
    if clock := prompt.get("clock"):
        notes.append(f"the chat template reads the clock, which said {clock}")
    if tokens := list(prompt.get("control_tokens") or ()):
        shown = ", ".join(visible(one) for one in tokens)
        notes.append(f"control tokens in the prompt's own text, read as such: {shown}")
    return notes


def run_notes(run: Run) -> list[str]:
    """List the remarks on all prompts of a run, each once."""
    if "prompts" not in run.tables:
        return []
    table = run.arrow("prompts")
    known = [name for name in ("clock", "control_tokens") if name in table.column_names]
    rows = table.select(known).to_pylist() if known else []
    return list(dict.fromkeys(note for row in rows for note in chat_notes(row)))

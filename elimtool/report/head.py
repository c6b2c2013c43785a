"""Write the head of a story: model, prompt and position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Probe, Tables
from elimtool.report.figures.words import HASH, title
from elimtool.report.numbering import Numbering
from elimtool.report.remarks import chat_notes
from elimtool.report.screen import Screen
from elimtool.report.targets import appended_line
from elimtool.report.turns import turns_of
from elimtool.run.manifest import Manifest
from elimtool.run.schema import SCHEMA_VERSION

MOST_TURNS = 3
PROMPT_LINES = 1.8
"""Screen lines beyond which a prompt is shortened in the middle; under 2, as breaks at words waste some."""


def model_line(manifest: Manifest, n_layers: int, screen: Screen) -> Text:
    """Name, number type and depth of the model; for an older run its schema version."""
    line = Text(screen.visible(manifest.model), style="bold", overflow="fold")
    facts = [manifest.dtype, f"{n_layers} layers" if n_layers != 1 else "1 layer", _devices(manifest)]
    told = facts[: 3 if n_layers else 1]
    if manifest.adapters is not None:
        told.append(adapters_in_words(manifest.adapters, screen.visible))
    if manifest.quantised:
        told.append(f"weights quantised ({manifest.quantised})")
    if manifest.schema_version < SCHEMA_VERSION:
        told.append(f"a run of schema version {manifest.schema_version}: its words are that version's")
    return line.append("  " + ", ".join(told), style="not bold dim")


def adapters_in_words(adapters: Any, visible: Callable[[str], str] = str) -> str:
    """Say which adapters were merged into the weights, given as in ``run.json``."""
    if not adapters:
        return "without the adapter beside its weights"
    named = [
        visible(str(one["name"])) + (f" x {one['scale']:g}" if one["scale"] != 1 else "") for one in adapters
    ]
    return f"with {', '.join(named)} merged in float32"


def _devices(manifest: Manifest) -> str:
    if not isinstance(manifest.device_map, dict):
        return manifest.device
    return "weights on " + ", ".join(sorted({str(one) for one in manifest.device_map.values()}))


def head(probe: Probe, places: Numbering, screen: Screen) -> list[RenderableType]:
    """The prompt, the probed positions with how they are numbered, and what was appended."""
    prompt, count = probe.prompt, len(probe.tokens)
    lines: list[RenderableType] = [prompt_line(prompt, screen)]
    said = f"{count:,} tokens" if count != 1 else "1 token"
    if places.first is not None:
        by = "written by the model" if prompt.get("n_written") else "the beginning of the answer"
        said += f", the last {len(prompt['tokens']) - places.first - 1:,} {by}"
    if len(places.positions) == 1:
        return [
            *lines,
            *screen.wrap(f"{said}, read at {place_in_words(probe, places, screen)}"),
            *_after(probe, screen),
        ]
    first, last = places.positions[0], places.positions[-1]
    lines += screen.wrap(
        f"{said}, read at {len(places.positions):,} positions: {places.name(first)} to {places.name(last)}"
    )
    how = "position N is the prediction after token N, counted from 0"
    if places.first is not None:
        how = "written N is where token N of the answer was predicted, counted from 0"
    return [*lines, *screen.wrap(how, style="dim"), *_after(probe, screen)]


def place_in_words(probe: Probe, places: Numbering, screen: Screen) -> str:
    """Name a position with its token: ``position 4 ' is', the last``."""
    token = screen.quoted(probe.shown[probe.position], 20)
    last = ", the last" if probe.position == places.last(probe.prompt) else ""
    if places.first is None:
        return f"{places.name(probe.position)} {token}{last}"
    written = screen.quoted(places.token(probe.prompt, probe.position), 20)
    return f"{places.name(probe.position)}{last}, after {token} ({written} was written)"


def _after(probe: Probe, screen: Screen) -> list[Text]:
    """What was appended to the prompt, and remarks on its text."""
    lines = screen.wrap(appended_line(probe, screen)) if probe.prompt["n_appended"] else []
    for note in chat_notes(probe.prompt, screen.visible):
        lines += screen.wrap(note, style="dim")
    return lines


def prompt_line(prompt: Row, screen: Screen) -> Text:
    """The prompt's text, shortened in the middle."""
    if turns := turns_of(prompt):
        return _turns(turns, screen)
    text = prompt["text"]
    if text is None:
        return Text("(no text)", style="dim")
    room = int(screen.width * PROMPT_LINES) - 2
    # escaping a prompt of a million characters only to drop most of it would take seconds
    shown = screen.shorten(screen.spaced(text[:2000] + text[2000:][-2000:]), room)
    return Text(f'"{shown}"', style="italic", overflow="fold")


def _turns(turns: list[str], screen: Screen) -> Text:
    """A line a turn; of a long chat the first and the last."""
    shown = [turns[0], *turns[-2:]] if len(turns) > MOST_TURNS else turns
    lines = [screen.shorten(screen.spaced(one[:1000] + one[1000:][-1000:]), screen.width) for one in shown]
    if len(shown) < len(turns):
        lines.insert(1, f"{screen.glyph('…')} {len(turns) - len(shown):,} more turns")
    return Text("\n".join(lines), style="italic", overflow="fold")


def chapters(
    prompts: Rows, count: int, screen: Screen, tell: Callable[[Row], Sequence[RenderableType]]
) -> list[RenderableType]:
    """Write each prompt, under a heading where the run has several, and the number of those not shown."""
    parts: list[RenderableType] = []
    for number, prompt in enumerate(prompts, start=1):
        if count > 1:
            parts += [Text(""), screen.rule(f"{number} of {count}: {screen.visible(named(prompt))}")]
        parts += tell(prompt)
    if count > len(prompts):
        parts += [Text(""), screen.rule(f"{count - len(prompts):,} more prompts are not shown")]
    return parts


def named(prompt: Row) -> str:
    """Name a prompt by its own id; without one by its text, whose hash says nothing to a reader."""
    own = str(prompt["prompt_id"])
    return title(prompt) if HASH.fullmatch(own) else own


def untold(tables: Tables, screen: Screen) -> list[RenderableType]:
    """Say that the tables that a run keeps hold nothing that a story tells, and where to read them."""
    names = ", ".join(name for name in tables.run.tables if name != "prompts")
    said = (
        f"the tables that this run keeps ({names}) are no part of the story" if names else "no table is kept"
    )
    hint = "; elimtool run show DIR TABLE prints their rows" if names else " but the prompts"
    return [*screen.wrap(f"{said}{hint}", style="dim")]


def failure(prompt: Row, screen: Screen) -> list[RenderableType]:
    """Write a prompt at which nothing was measured, and why."""
    why = prompt["error_message"] or "nothing was measured"
    error = Text("error: ", style="bold red").append(screen.visible(why), style="not bold")
    return [prompt_line(prompt, screen), error]

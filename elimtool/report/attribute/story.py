"""The terminal story of ``elimtool attribute``: Rich renderables that read without colour."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.attribute.rows import Attributed, Method, attributed
from elimtool.report.attribute.shading import shading
from elimtool.report.facts import Probe, Tables
from elimtool.report.head import chapters, failure, model_line, prompt_line
from elimtool.report.screen import MOST_PROMPTS, Screen, padded
from elimtool.run.reader import Run

NAME = 29
CELL = 10
MOST_SPANS = 24
"""Lines of spans; of more spans the most preserving and the most eliminating ones are shown."""
WINDOWED = 3
"""Spans whose knockouts are shown by window of layers."""

SHORT = {
    "leave-one-out": "removed",
    "leave-one-out-masked": "masked",
    "knockout": "knockout",
    "knockout-later": "later",
    "gradient-x-input": "gradient",
    "integrated-gradients": "integrated",
    "contextcite": "surrogate",
}
"""Heads of columns."""


def print_attribution(run: Run, console: Console, *, most_prompts: int = MOST_PROMPTS) -> None:
    """Print the story in the width and encoding of a console.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    screen = Screen.of(console.width, console.encoding)
    console.print(story(run, screen, most_prompts), highlight=False)


def story(run: Run, screen: Screen, most_prompts: int = MOST_PROMPTS) -> RenderableType:
    """Lay out each prompt: its shaded text, a table of spans by method, and cost and quality of the methods.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    tables = Tables(run)
    prompts = run.arrow("prompts").to_pylist()
    told = chapters(
        prompts[:most_prompts], len(prompts), screen, lambda prompt: _prompt(tables, prompt, screen)
    )
    return Constrain(Group(model_line(run.manifest, 0, screen), *told), screen.width)


def _prompt(tables: Tables, prompt: Row, screen: Screen) -> list[RenderableType]:
    positions = tables.positions(prompt["prompt_id"]) if prompt["status"] == "ok" else []
    if not positions:
        return failure(prompt, screen)
    lines: list[RenderableType] = [prompt_line(prompt, screen)]
    probe = Probe(tables, prompt, positions[-1])
    for note in probe.notes("notes"):
        lines += screen.wrap(f"note: {screen.visible(note)}", hang=2, style="dim")
    for one in attributed(probe):
        lines += [Text(""), *_target(probe, one, screen)]
    return lines


def _target(probe: Probe, one: Attributed, screen: Screen) -> list[RenderableType]:
    what = f"{screen.quoted(one.target, 24)}  log p {one.value:+.2f} (p {spell_prob(one.prob)})"
    if one.versus:
        foils = ", ".join(screen.quoted(foil, 24) for foil in one.versus)
        what = f"{screen.quoted(one.target, 24)} against {foils}: log-odds {one.value:+.2f}"
    return [
        *screen.wrap(f"Which part of the prompt did it: {what}", style="bold", hang=2),
        *shading(probe, one, screen),
        Text(""),
        *_table(one, screen),
        *_windows(one, screen),
        Text(""),
        *_closing(one, screen),
        *(line for method in one.methods for line in screen.wrap(_worth(method), hang=2, style="dim")),
    ]


def _table(one: Attributed, screen: Screen) -> list[Text]:
    """A table of spans by methods, in blocks of as many methods as fit the screen."""
    room = max(1, (screen.width - NAME - 11) // CELL)
    shown = one.extremes(MOST_SPANS)
    lines: list[Text] = []
    for start in range(0, len(one.methods), room):
        some = one.methods[start : start + room]
        head = padded("span", NAME) + "".join(
            padded(SHORT.get(m.name, m.name), CELL, right=True) for m in some
        )
        lines.append(Text(head + ("  differ" if one.differ else ""), style="dim"))
        for at in shown:
            name = screen.shorten(screen.spaced(one.spans[at]), NAME - 1)
            line = Text(padded(name, NAME))
            for method in some:
                first = "*" if method.ranks[at] == 1 else " "
                line.append(
                    padded(f"{method.scores[at]:+.2f}{first}", CELL, right=True), style=_style(method, at)
                )
            line.append(f"  {one.disagrees[at]}" if one.disagrees[at] else "", style="yellow")
            lines.append(line)
    left = len(one.spans) - len(shown)
    more = f" {left:,} more spans are in the table attributions." if left else ""
    units = "nats" if all(method.unit == "nats" for method in one.methods) else "nats, surrogate: logits"
    legend = f"{units}; above 0 the span preserves the target; * ranked first by the method.{more}"
    return [*lines, *screen.wrap(legend, style="dim")]


def _style(method: Method, at: int) -> str:
    return {"preserving": "green", "eliminating": "red"}.get(method.directions[at], "dim")


def _windows(one: Attributed, screen: Screen) -> list[Text]:
    """Knockout scores by window of layers, for the spans with the largest scores."""
    lines: list[Text] = []
    for method in one.methods:
        if not method.windows:
            continue
        room = max(1, (screen.width - NAME) // CELL)
        names = list(method.windows)[:room]
        head = padded(f"{method.name} by layers", NAME)
        head += "".join(padded(f"{first}-{last}", CELL, right=True) for first, last in names)
        lines += [Text(""), Text(head, style="dim")]
        order = sorted(range(len(one.spans)), key=lambda at: -abs(method.scores[at]))[:WINDOWED]
        for at in sorted(order):
            name = padded(screen.shorten(screen.spaced(one.spans[at]), NAME - 1), NAME)
            lines.append(
                Text(name + "".join(padded(f"{method.windows[w][at]:+.2f}", CELL, right=True) for w in names))
            )
    return lines


def _closing(one: Attributed, screen: Screen) -> list[Text]:
    """Which span most methods rank first, and how far the methods agree."""
    votes: dict[int, list[str]] = {}
    for method in one.methods:
        votes.setdefault(method.first, []).append(method.name)
    at, names = max(votes.items(), key=lambda vote: len(vote[1]))
    span = screen.quoted(one.spans[at], NAME + 2)
    if len(one.methods) == 1:
        return screen.wrap(f"{names[0]} ranks {span} first.", hang=2)
    said = f"{span} is ranked first by {len(names):,} of {len(one.methods):,} methods ({', '.join(names)})."
    if one.differ:
        said += f" Methods differ in sign or first place on {one.differ:,} of {len(one.spans):,} spans."
    if one.correlations:
        low, high = min(one.correlations), max(one.correlations)
        said += f" Rank correlation of pairs of methods: {low:+.2f} to {high:+.2f}."
    return screen.wrap(said, hang=2)


def _worth(method: Method) -> str:
    """Cost and quality of a method."""
    row = method.facts
    said = [f"{row['n_forward_passes']:,} passes, {row['tokens_processed']:,} tokens"]
    if row["n_backward_passes"]:
        said[0] += f", {row['n_backward_passes']:,} backward"
    if row["completeness_error"] is not None:
        said.append(f"completeness error {100 * row['completeness_error']:.2g}%")
    if row["fidelity"] is not None:
        said.append(
            f"fidelity {row['fidelity']:.2f} (rank correlation on held-out ablations), r2 {row['r2']:.2f}"
        )
    if row["top_k"] is not None:
        these = "its first span" if row["top_k"] == 1 else f"its first {row['top_k']}"
        said.append(f"{-row['top_k_drop']:+.2f} nats without {these}")
    return f"{method.name}: {'; '.join(said)}"

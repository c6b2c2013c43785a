"""Lay out the story of two runs, models or chains, what differs most first, on one or two screens."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.compare.summary import Moved, Proportion, Summary, summary
from elimtool.report.compare.chains import chain_lines
from elimtool.report.compare.contrasts import contrast_lines
from elimtool.report.compare.maps import maps_section
from elimtool.report.compare.prompts import onset_lines, own_pairs, prompt_story
from elimtool.report.compare.sources import source_lines
from elimtool.report.compare.speculation import speculation_lines
from elimtool.report.compare.tested import one_line, tested
from elimtool.report.figures.compare.pair import UNNAMED, PairRows
from elimtool.report.keyed import Keyed
from elimtool.report.numbers import share
from elimtool.report.screen import Screen, padded, spaced
from elimtool.run.comparison import Comparison

MOST_NOTES = 8
MOST_FLIPS = 6
MOST_TURNS = 4
SIDES = {"a": "A", "b": "B"}
LAYERS = {
    "js": ("How far apart the distributions are, by layer  (mean Jensen-Shannon divergence)", " bits"),
    "logprob": ("How far the targets' log-probabilities are apart, by layer  (mean, absolute)", " nats"),
    "top": ("Prompts whose most probable token differs, by layer", ""),
}


def story(comparison: Comparison, *, width: int = 80, encoding: str = "utf-8") -> RenderableType:
    """Lay out a comparison of runs, models or chains, or of many pairs of prompts."""
    screen = Screen.of(width, encoding)
    told = summary(comparison)
    sections = [_head(comparison, told, screen)]
    if told.differs:
        sections += [
            list(chain_lines(comparison, screen)) if comparison.kind == "chains" else _changes(told, screen),
            _moved(told.moved, comparison, screen),
            list(contrast_lines(comparison, (row["pair_id"] for row in own_pairs(comparison)), screen)),
            list(source_lines(comparison, (row["pair_id"] for row in own_pairs(comparison)), screen)),
            [*_layers(told, screen), *onset_lines(comparison, screen)],
            _flips(told, screen, "tokens" if comparison.kind == "prompts" else "targets"),
            list(tested(comparison, screen)),
        ]
    else:
        sections.append([Text("Nothing differs.", style="bold")])
    sections.append(list(speculation_lines(comparison, screen)))
    return Constrain(Group(*spaced(sections)), screen.width)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the story in the width and encoding of a console."""
    if comparison.kind == "maps":
        for line in maps_section(comparison).lines(Screen.of(console.width, console.encoding)):
            console.print(line, highlight=False)
        return
    one = comparison.kind == "prompts" and len(own_pairs(comparison)) == 1
    tell = prompt_story if one else story
    told = tell(comparison, width=console.width, encoding=console.encoding)
    console.print(told, highlight=False)


def _head(comparison: Comparison, told: Summary, screen: Screen) -> list[Text]:
    """Both sides, the number of pairs, and notes."""
    lines = [
        Text(screen.shorten(screen.visible(f"{SIDES[side]}: {words}"), screen.width), style="bold")
        for side, words in zip("ab", _names(comparison), strict=True)
    ]
    pairs = f"{told.pairs.count:,} of {told.pairs.of:,} prompts compared; differences are B minus A"
    lines += screen.wrap(pairs, hang=2)
    for note in comparison.notes[:MOST_NOTES]:
        lines += screen.wrap(screen.visible(note), hang=2, style="yellow")
    if len(comparison.notes) > MOST_NOTES:
        lines.append(Text(f"{len(comparison.notes) - MOST_NOTES:,} more notes are in comparison.json."))
    return lines


def _names(comparison: Comparison) -> tuple[str, str]:
    """What distinguishes the sides, in words."""
    named = comparison.options.get("names") if isinstance(comparison.options, dict) else None
    if named:
        return str(named[0]), str(named[1])
    if comparison.kind == "prompts":
        model = f"{comparison.a.model}  {comparison.a.dtype}, {comparison.a.device}"
        return f"the first prompt of each pair  {model}", "the second"
    a, b = (
        f"{side.model}  {side.dtype}, {side.device}{side.quantised and f', quantised ({side.quantised})'}"
        for side in (comparison.a, comparison.b)
    )
    return a, b


def _changes(told: Summary, screen: Screen) -> list[Text]:
    """How many outputs and outcomes changed."""
    lines: list[Text] = []
    if told.outputs.of:
        lines += screen.wrap(f"Most probable token changed in {_counted(told.outputs)} prompts.", hang=2)
    if told.outcomes.of:
        survived = f"survived: {told.survived[0]:,} in A, {told.survived[1]:,} in B"
        line = f"Outcome changed for {_counted(told.outcomes)} targets ({survived})."
        lines += screen.wrap(line, hang=2)
        for (before, after), count in list(told.turns.items())[:MOST_TURNS]:
            words = f"{count:,} {before.replace('_', ' ')} {screen.glyph('→')} {after.replace('_', ' ')}"
            lines += screen.wrap(words, indent=2, hang=2)
    return lines


def _counted(part: Proportion) -> str:
    return f"{part.count:,} of {part.of:,} ({share(part.count / part.of)})"


def _moved(moved: tuple[Moved, ...], comparison: Comparison, screen: Screen) -> list[Text]:
    """The targets that moved most, in prompts named by their ids or, without own ones, by their texts."""
    if not moved:
        return []
    lines = [Text("Moved most  (log-probability in the output, nats)", style="bold")]
    rows = {row["pair_id"]: row for row in own_pairs(comparison)}
    tables = Keyed(comparison, "pair_id")
    titles = [
        PairRows(tables, rows[one.pair_id]).title if UNNAMED.fullmatch(one.pair_id) else one.pair_id
        for one in moved
    ]
    names = [screen.shorten(screen.visible(title), 32) for title in titles]
    room = max(len(name) for name in names)
    for one, name in zip(moved, names, strict=True):
        arrow = screen.glyph("→")
        ranks = f"rank {one.before['rank']:,} {arrow} {one.after['rank']:,}"
        probs = f"p {spell_prob(one.before['prob'])} {arrow} {spell_prob(one.after['prob'])}"
        fate = ""
        if one.before["outcome"] != one.after["outcome"]:
            fate = f", {one.before['outcome']} {arrow} {one.after['outcome']}".replace("_", " ")
        told = (
            f"{padded(name, room)}  {one.move:+.2f}  {screen.quoted(one.target, 20)}  {probs}, {ranks}{fate}"
        )
        lines += one_line(told, screen, indent=2, hang=4)
    return lines


def _layers(told: Summary, screen: Screen) -> list[Text]:
    """How far apart each layer is, as a strip, and where most of it arises."""
    if len(told.layers) < 2 or not any(told.layers.values()):
        return []
    layers = sorted(told.layers)
    most = max(told.layers.values())
    steps = "".join(screen.steps[min(7, int(8 * told.layers[layer] / most))] for layer in layers)
    first = next(layer for layer in layers if told.layers[layer] > 0)
    peak = max(layers, key=lambda layer: told.layers[layer])
    title, unit = LAYERS[told.layers_of]
    lines = [Text(title, style="bold")]
    lines.append(Text(f"  {steps}  embedding {screen.glyph('→')} layer {layers[-1]}"))
    words = f"first differs {_layer_name(first)}, most {_layer_name(peak)} ({told.layers[peak]:.3g}{unit})"
    if peak != layers[-1]:
        words += f"; {_layer_name(layers[-1])} {told.layers[layers[-1]]:.3g}{unit}"
    return [*lines, *screen.wrap(words, indent=2, hang=2)]


def _layer_name(layer: int) -> str:
    return "at the embedding" if layer < 0 else f"at layer {layer}"


def _flips(told: Summary, screen: Screen, what: str) -> list[Text]:
    """What only one side eliminates, and where."""
    lines: list[Text] = []
    for side in "ab":
        places = {where: count for (one, where), count in told.flips.items() if one == side}
        if not places:
            continue
        shown = [f"{where} {count:,}" for where, count in list(places.items())[:MOST_FLIPS]]
        rest = sum(list(places.values())[MOST_FLIPS:])
        words = ", ".join([*shown, *([f"elsewhere {rest:,}"] if rest else [])])
        total = sum(places.values())
        line = f"{SIDES[side]} alone: {total:,}, by {words}"
        lines += screen.wrap(screen.visible(line), indent=2, hang=2)
    return (
        [Text(f"Flips  ({what} that one side alone eliminates, counted at each place)", style="bold"), *lines]
        if lines
        else []
    )

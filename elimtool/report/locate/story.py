"""The terminal story of ``elimtool locate``: the sentence, the numbers beside it, and the map."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.text import Text

from elimtool.analysis.locate import HELD, LEAST_GAP, TIMES_RANDOM, Held, held, located
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Probe, Tables
from elimtool.report.head import chapters, failure, model_line, prompt_line
from elimtool.report.locate.chart import chart
from elimtool.report.locate.rows import locations
from elimtool.report.numbers import share
from elimtool.report.pieces import text_of
from elimtool.report.screen import MOST_PROMPTS, Screen
from elimtool.run.reader import Run

MOST_TOKENS = 40
"""Width of a span of several tokens, in character cells."""
MOST_PARTS = 5
"""Cells of attention, MLPs and heads that are named."""
PARTS = {"attention": "attention", "mlp": "MLP", "head": "head"}


def print_location(run: Run, console: Console, *, most_prompts: int = MOST_PROMPTS) -> None:
    """Print the story in the width and encoding of a console.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    screen = Screen.of(console.width, console.encoding)
    console.print(story(run, screen, most_prompts), highlight=False)


def story(run: Run, screen: Screen, most_prompts: int = MOST_PROMPTS) -> RenderableType:
    """Lay out each pair of prompts.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    tables = Tables(run)
    known = {row["prompt_id"]: row for row in tables.all("prompts")}
    pairs = {row["prompt_id"]: row for row in tables.all("location_pairs")}
    clean = [known[one] for one in pairs]
    told = chapters(
        clean[:most_prompts],
        len(clean),
        screen,
        lambda prompt: _pair(tables, pairs[prompt["prompt_id"]], prompt, known, screen),
    )
    return Constrain(Group(model_line(run.manifest, 0, screen), *told), screen.width)


def _pair(
    tables: Tables, pair: Row, prompt: Row, known: dict[str, Row], screen: Screen
) -> list[RenderableType]:
    if prompt["status"] != "ok":
        return failure(prompt, screen)
    probe = Probe(tables, prompt, pair["position"])
    rows = locations(probe)
    lines: list[RenderableType] = [
        prompt_line(prompt, screen),
        *_against(pair, prompt, known, screen),
        Text(""),
    ]
    lines += screen.wrap(sentence(pair, rows, probe.tokens, screen), style="bold")
    lines += screen.wrap(_values(pair, screen))
    if pair["located"]:
        for line in _evidence(pair, rows, probe.tokens, screen):
            lines += screen.wrap(line, hang=2)
        lines += [Text(""), *chart(rows, probe.shown, screen)]
        lines += _parts(rows, probe.shown, screen)
    return lines


def sentence(pair: Row, rows: Rows, tokens: list[str], screen: Screen) -> str:
    """Say in one sentence where the decision sits."""
    what = _what(pair, screen)
    if not pair["located"]:
        return f"Nothing can be located: the two runs are too close in {what}."
    found = located(rows, pair["changed"], pair["position"])
    if found.source is None and found.read is None:
        if not any(row["site"] == "residual" for row in rows):
            return f"The residual stream was not patched: its map says where {what} is decided."
        return f"No single place holds what decides {what}: it is spread over several tokens."
    last = screen.quoted(tokens[pair["position"]], 20)
    said = []
    if found.source is not None:
        upto = found.source.last_layer
        layer = "only in the embedding" if upto < 0 else f"up to layer {upto}"
        said.append(f"at {spelled(found.source, tokens, screen)} {layer}")
    if found.read is not None and pair["changed"] != [pair["position"]]:
        said.append(f"at the last token {last} from layer {max(found.read.first_layer, 0)}")
    return f"What decides {what} sits {', '.join(said)}."


def spelled(place: Held, tokens: list[str], screen: Screen) -> str:
    """Quote the tokens of a place."""
    return screen.quoted(text_of(tokens[place.first : place.last + 1]).strip(" "), MOST_TOKENS)


def _what(pair: Row, screen: Screen) -> str:
    target = screen.quoted(pair["target"], 24)
    if pair["foil"] is None:
        return f"for {target}"
    return f"between {target} and {screen.quoted(pair['foil'], 24)}"


def _against(pair: Row, prompt: Row, known: dict[str, Row], screen: Screen) -> list[Text]:
    tokens = prompt["tokens"]
    first, last = pair["changed"][0], pair["changed"][-1]
    own = screen.quoted(text_of(tokens[first : last + 1]), MOST_TOKENS)
    if pair["corrupt_id"] is None:
        return screen.wrap(f"corrupted by noise on {own}, {pair['draws']} draws", style="dim")
    other = known[pair["corrupt_id"]]["tokens"]
    theirs = screen.quoted(text_of(other[first : last + 1]), MOST_TOKENS)
    where = f"position {first}" if first == last else f"positions {first} to {last}"
    return screen.wrap(f"corrupted: {theirs} for {own} ({where} of {len(tokens):,} tokens)", style="dim")


def _values(pair: Row, screen: Screen) -> str:
    against = "the mean logit" if pair["foil"] is None else screen.quoted(pair["foil"], 24)
    random = pair["random_gap"]
    said = (
        f"Logit of {screen.quoted(pair['target'], 24)} minus {against}: {pair['clean']:+.2f} clean,"
        f" {pair['corrupt']:+.2f} corrupt, a gap of {pair['gap']:.2f} nats"
    )
    said += "" if random is None else f"; random replacements are {random:.2f} apart"
    if pair["located"]:
        return f"{said}."
    if pair["gap"] < 0:
        return f"{said}. The corrupt run says it more than the clean one: exchange the two."
    return f"{said}. The gap must exceed {LEAST_GAP} and {TIMES_RANDOM:g} times that."


def _evidence(pair: Row, rows: Rows, tokens: list[str], screen: Screen) -> list[str]:
    """Give for each place of the sentence the least that it alone does, with the null beside it."""
    found = located(rows, pair["changed"], pair["position"])
    places = [one for one in (found.source, found.read, *found.between) if one is not None]
    said = []
    for one in dict.fromkeys(places):
        layers = f"{max(one.first_layer, 0)}-{one.last_layer}" if one.last_layer >= 0 else "embedding"
        said.append(
            f"{spelled(one, tokens, screen)} alone, layers {layers}: restores {_span(one.r)} and destroys"
            f" {_span(one.q)} of the gap; the null (95th percentile of unrelated prompts' states) is"
            f" {_span(one.null)}, below in each layer"
        )
    if found.source is not None and found.read is not None:
        gap = found.read.first_layer - found.source.last_layer
        if gap > 1 and not found.between:
            first, last = found.source.last_layer + 1, found.read.first_layer - 1
            said.append(f"In layers {first} to {last} no single token holds {share(HELD)} of it.")
    return said


def _span(values: tuple[float, float]) -> str:
    low, high = (f"{100 * value:.0f}" for value in values)
    return f"{low}%" if low == high else f"{low}-{high}%"


def _parts(rows: Rows, tokens: list[str], screen: Screen) -> list[Text]:
    """Name the attention outputs, MLPs and heads that do most in both directions."""
    lines: list[Text] = []
    for site, name in PARTS.items():
        own = [row for row in rows if row["site"] == site and row["extent"] == "cell"]
        if not any(row["site"] == site for row in rows):
            continue
        both = [row for row in own if row["r_counts"] and row["q_counts"]]
        both.sort(key=lambda row: -min(row["r"], row["q"]))
        if not both:
            lines += [Text(""), *screen.wrap(f"By {name}: no cell exceeds the null in both directions.")]
            continue
        title, legend = f"By {name} output", "share of the gap that it restores / destroys; null"
        lines += [Text(""), *screen.titled(title, legend)]
        for row in both[:MOST_PARTS]:
            head = "" if row["head"] is None else f"H{row['head']}"
            token = screen.quoted(tokens[row["position"]], 20)
            bold = "bold" if held(row) else ""
            null = max(row["r_null"], row["q_null"])
            text = f"  L{row['layer']}{head} at {row['position']} {token}: {row['r']:+.2f} / {row['q']:+.2f}"
            lines += screen.wrap(f"{text}; {null:.2f}", style=bold, indent=2)
        if len(both) > MOST_PARTS:
            lines += screen.wrap(f"and {len(both) - MOST_PARTS:,} more that count", indent=2, style="dim")
    return lines

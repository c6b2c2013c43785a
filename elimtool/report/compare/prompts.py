"""Lay out the story of two prompts: the edit, the outputs, where they part, what is eliminated."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.compare.edit import segments
from elimtool.analysis.compare.injection import (
    injected_words,
    is_injection,
    output_of,
    turned,
    verdict_of,
)
from elimtool.analysis.regime_sentence import regime_words
from elimtool.files.rows import Row
from elimtool.prompts.prompt import REST
from elimtool.report.compare.associations import association_lines
from elimtool.report.compare.contrasts import contrast_lines
from elimtool.report.compare.sources import source_lines
from elimtool.report.compare.turned import turned_lines
from elimtool.report.numbers import share, times
from elimtool.report.screen import Screen, padded, spaced
from elimtool.run.comparison import Comparison

MOST_TARGETS = 6
MOST_TOKENS = 5
"""Flipped tokens that are named for each place."""
MOST_SPANS = 4
LEAST_SHARED = 24
"""Cells that each part shared by two prompts is shown in, at least."""


def prompt_story(comparison: Comparison, *, width: int = 80, encoding: str = "utf-8") -> RenderableType:
    """Lay out a comparison of kind ``prompts`` that has one pair besides its controls."""
    screen = Screen.of(width, encoding)
    pair = own_pairs(comparison)[0]
    injected = is_injection(comparison, pair["pair_id"])
    sections = [
        list(_head(comparison, pair, screen)),
        list(_output(comparison, pair, injected, screen)),
        list(_layers(comparison, pair, screen)),
        list(_targets(comparison, screen)),
        list(contrast_lines(comparison, [pair["pair_id"]], screen)),
        list(association_lines(comparison, pair["pair_id"], screen)),
        list(source_lines(comparison, [pair["pair_id"]], screen)),
        list(_flips(comparison, screen)),
        list(_attention(comparison, screen)),
        list(turned_lines(turned(comparison, pair["pair_id"]), screen)),
    ]
    return Constrain(Group(*spaced(sections)), screen.width)


def own_pairs(comparison: Comparison) -> list[Row]:
    """The rows of ``pairs`` that are no controls."""
    return [row for row in comparison.arrow("pairs").to_pylist() if row["control"] is None]


def onset_lines(comparison: Comparison, screen: Screen) -> Iterable[Text]:
    """Write how many of many pairs of prompts are further apart than their controls at some layer."""
    if comparison.kind != "prompts":
        return
    rows = [row for row in own_pairs(comparison) if row["onset_chance"] is not None]
    if rows:
        count = sum(row["onset_layer"] is not None for row in rows)
        chance = sum(row["onset_chance"] for row in rows) / len(rows)
        words = f"{count:,} of {len(rows):,} pairs ({share(count / len(rows))})"
        told = f"further apart than edits of the same size and place at some layer: {words}"
        yield from screen.wrap(f"{told}; of the controls, held alike, {share(chance)}", indent=2, hang=2)


def _head(comparison: Comparison, pair: Row, screen: Screen) -> Iterable[Text]:
    """Model, both prompts with their differences marked, whether causality holds, and notes."""
    facts = f"  {comparison.a.dtype}, {comparison.a.device}"
    yield Text(screen.visible(comparison.a.model), style="bold").append(facts, style="not bold dim")
    rows = _alignment(comparison, pair)
    for side in "ab":
        yield _prompt(side, rows, screen)
    equal, total = pair["n_matched"], max(pair["n_tokens_a"], pair["n_tokens_b"])
    told = f"{pair['n_tokens_a']:,} and {pair['n_tokens_b']:,} tokens, {equal:,} of them matched"
    if pair["text_a"] == pair["text_b"]:
        told = f"the same {total:,} tokens"
    elif pair["prefix_holds"]:
        size = pair["prefix_difference"]
        exact = "" if size == 0 else f" (but for {size:.1g} of their length: rounding)"
        told += f"; the {pair['n_common_prefix']:,} that both begin with are the same at every layer{exact}"
    yield from screen.wrap(told, hang=2, style="dim")
    for note in comparison.notes:
        loud = note.startswith("CAUSALITY")
        yield from screen.wrap(screen.visible(note), hang=2, style="bold red" if loud else "yellow")


def _alignment(comparison: Comparison, pair: Row) -> list[Row]:
    """The aligned tokens of a pair."""
    return [row for row in comparison.arrow("alignment").to_pylist() if row["pair_id"] == pair["pair_id"]]


def _prompt(side: str, rows: list[Row], screen: Screen) -> Text:
    """A prompt on about two lines, with brackets around what the other lacks, which is never cut first."""
    parts = segments(rows, side)
    room = 2 * screen.width - 8
    kept = [part for part in parts if not part.changed]
    spare = room - sum(len(part.text) + 2 for part in parts if part.changed)
    each = max(spare // len(kept), LEAST_SHARED) if kept else 0
    text = ""
    for part in parts:
        shown = screen.visible(part.text)
        if not part.changed:
            text += screen.shorten(shown, each) if sum(len(one.text) for one in kept) > spare else shown
            continue
        word = shown.lstrip(" ")  # a bracket opens after the space that separates words
        text += shown[: len(shown) - len(word)] + f"[{word}]"
    shown = screen.shorten(text, 2 * room)
    return Text(f"{side.upper()}  ", style="bold", overflow="fold").append(shown, style="not bold italic")


def _output(comparison: Comparison, pair: Row, injected: bool, screen: Screen) -> Iterable[Text]:
    """Whether the output changed, and what each side writes on."""
    title = "Injection" if injected else "Output"
    found = output_of(comparison, pair)
    style = "bold" if not found.changed else "bold red" if found.beyond else ""
    yield Text(title, style="bold")
    if injected and (told := injected_words(_alignment(comparison, pair))):
        yield from screen.wrap(screen.visible(told), indent=2, hang=2)
    yield from screen.wrap(screen.visible(verdict_of(found, injected)), indent=2, hang=2, style=style)
    for side in "ab":
        if (text := pair[f"continuation_{side}"]) is not None:
            shown = screen.shorten(screen.visible(text), screen.width - 18)
            yield Text(f"  {side.upper()} writes on: ").append(shown, style="italic")


def _layers(comparison: Comparison, pair: Row, screen: Screen) -> Iterable[Text]:
    """Divergence of the two after each layer, next to that of edits of the same size."""
    rows = comparison.table("divergence")
    own = rows[rows["pair_id"] == pair["pair_id"]]
    if own.empty or not own["js"].max():
        return
    last = int(own["layer"].max())
    most = max(float(own["js"].max()), float(own["band"].fillna(0).max()))
    legend = f"  (JS, embedding {screen.glyph('→')} layer {last}; {screen.steps[7]} = {most:.2g} bits)"
    yield Text("How far apart, by layer", style="bold").append(legend, style="not bold dim")
    named = [("A to B", own["js"])]
    if own["band"].notna().all():
        named.append(("95% of controls", own["band"]))
    room = max(len(name) for name, _ in named)
    for name, values in named:
        spark = "".join(screen.steps[min(7, int(8 * value / most))] for value in values)
        yield Text(f"  {padded(name, room)}  ").append(spark, style="cyan" if name == "A to B" else "dim")
    told = _onset(pair, own)
    if told:
        yield from screen.wrap(told, indent=2, hang=2)


def _onset(pair: Row, own: pd.DataFrame) -> str:
    """The first layer after which they are further apart than controls."""
    if own["band"].isna().any():
        return ""
    chance = ""
    if pair["onset_chance"] is not None:
        held = f"Of the {pair['n_controls']} controls, {share(pair['onset_chance'])}"
        chance = f" {held} do so too, each held against the others."
    if pair["onset_layer"] is None:
        return f"At no layer are they further apart than {pair['n_controls']} edits of that size and place."
    where = "the embedding" if pair["onset_layer"] < 0 else f"layer {pair['onset_layer']}"
    return f"Further apart than edits of that size and place first after {where}.{chance}"


def _targets(comparison: Comparison, screen: Screen) -> Iterable[Text]:
    """What became of each target."""
    if "verdict_differences" not in comparison.tables:
        return
    rows = comparison.arrow("verdict_differences").to_pylist()
    if not rows:
        return
    arrow = screen.glyph("→")
    yield Text("Targets", style="bold").append(f"  (A {arrow} B)", style="not bold dim")
    names = [screen.quoted(row["target"], 18) for row in rows[:MOST_TARGETS]]
    room = max(len(name) for name in names)
    for name, row in zip(names, rows, strict=False):
        fate = row["outcome_a"].replace("_", " ")
        if row["changed"]:
            fate += f" {arrow} {row['outcome_b'].replace('_', ' ')}"
        words = [
            f"rank {row['final_rank_a']:,} {arrow} {row['final_rank_b']:,}",
            f"p {spell_prob(row['final_prob_a'])} {arrow} {spell_prob(row['final_prob_b'])}",
            f"{row['final_logprob_difference']:+.2f} nats",
            fate,
        ]
        line = Text(f"  {padded(name, room)}  {', '.join(words)}")
        fits = line.cell_len <= screen.width
        yield from [line] if fits else screen.wrap(f"{name} {', '.join(words)}", indent=2, hang=2)
    if (more := len(rows) - MOST_TARGETS) > 0:
        yield Text(f"  {more} more not shown", style="dim")
    regimes = regime_words(rows[0]["regime_a"]), regime_words(rows[0]["regime_b"])
    if all(regimes):
        change = regimes[0] if regimes[0] == regimes[1] else f"{regimes[0]} {arrow} {regimes[1]}"
        yield from screen.wrap(f"regime of the prediction: {change}", indent=2, hang=2, style="dim")


def _flips(comparison: Comparison, screen: Screen) -> Iterable[Text]:
    """Tokens that only one side eliminates."""
    flips = comparison.table("flips")
    for side in "ba":
        own = flips[flips["eliminated_in"] == side]
        if own.empty:
            continue
        yield Text(f"Eliminated in {side.upper()} alone", style="bold")
        layers = own[own["where"] == "layer"]
        if len(layers):
            named = [
                f"{screen.quoted(str(row.token), 16)} after layer {row.layer}" for row in layers.itertuples()
            ]
            yield from _named("layers", named, screen)
        for chain, rows in own[own["where"] == "stage"].groupby("chain", sort=False):
            named = [f"{screen.quoted(str(row.token), 16)} by {row.stage}" for row in rows.itertuples()]
            yield from _named(screen.visible(str(chain)), named, screen)


def _named(place: str, named: list[str], screen: Screen) -> Iterable[Text]:
    more = f", and {len(named) - MOST_TOKENS:,} more" if len(named) > MOST_TOKENS else ""
    yield from screen.wrap(f"{place}: {', '.join(named[:MOST_TOKENS])}{more}", indent=2, hang=2)


def _attention(comparison: Comparison, screen: Screen) -> Iterable[Text]:
    """The spans that gained and lost most attention, over all layers."""
    if "attention_differences" not in comparison.tables:
        return
    rows = comparison.table("attention_differences")
    rows = rows[rows["lift_no_sink_difference"].notna()]
    if rows.empty:
        return
    means = rows.groupby("span", sort=False)[["lift_no_sink_a", "lift_no_sink_b"]].mean()
    means["move"] = means["lift_no_sink_b"] - means["lift_no_sink_a"]
    means = means[(means["move"] != 0) & (means.index != REST)]
    order = means["move"].abs().sort_values(ascending=False, kind="stable").index[:MOST_SPANS]
    if not len(order):
        return
    title = "  (times an even share, without the sink, mean over layers)"
    yield Text("Attention that moved most", style="bold").append(title, style="not bold dim")
    arrow = screen.glyph("→")
    told = [
        f"{screen.quoted(str(span).partition(':')[2] or str(span), 24)}"
        f" {times(means.loc[span, 'lift_no_sink_a'])} {arrow} {times(means.loc[span, 'lift_no_sink_b'])}"
        for span in order
    ]
    yield from screen.wrap(", ".join(told), indent=2, hang=2)

"""Write how far a draft model gets with what it proposes to a target model, and what stops it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
from rich.text import Text

from elimtool.analysis.closing import listed, spell_prob
from elimtool.report.numbers import share
from elimtool.report.screen import Screen, padded
from elimtool.run.comparison import Comparison

WORDS = {
    "standard": "accept by p over q",
    "match": "the target draws the same token",
    "greedy": "it is the target's best token",
    "siblings": "the target draws one of the draft's best 4",
    "ensemble": "accept by a mixture of both models",
    "block": "accept by p over q, all tokens together",
}
"""What each rule does with a drafted token, for readers."""

MOST_REFUSED = 4


def speculation_lines(comparison: Comparison, screen: Screen) -> Iterable[Text]:
    """Write tokens a pass by rule and chain, and the drafted tokens that the target's chains refuse most."""
    if "speculation" not in comparison.tables:
        return
    passes, steps = comparison.table("speculation"), comparison.table("speculation_steps")
    if passes.empty:
        return
    asked = comparison.options["speculation"]
    n, of = int(passes["n_drafted"].max()), passes["pair_id"].nunique()
    yield from screen.titled(
        "Speculation: tokens a pass of B when A drafts",
        f"{asked['draft_chain']} draft of {n:,} tokens, mean over {of:,} prompts;"
        " in brackets: B as its own draft",
    )
    chains = list(dict.fromkeys(passes["chain"]))
    means = passes.groupby(["rule", "chain"], sort=False)[["expected_tokens", "self_tokens"]].mean()
    names = [screen.shorten(screen.visible(chain), 16) for chain in chains]
    room = max(13, *map(len, names)) + 1
    yield Text(" " * 11 + "".join(padded(name, room, right=True) for name in names), style="dim")
    for rule in dict.fromkeys(passes["rule"]):
        cells = [_cell(means.loc[(rule, chain)]) for chain in chains]
        line = padded(f"  {rule}", 11) + "".join(padded(cell, room, right=True) for cell in cells)
        yield Text(line)
    yield from screen.wrap(
        "; ".join(f"{rule}: {words}" for rule, words in WORDS.items()), style="dim", hang=2
    )
    yield from _lossy(comparison.table("speculation_rules"), screen)
    yield from _worst(comparison.table("speculation_rules"), steps, screen)
    yield from _refused(steps, screen)


def _cell(row: Any) -> str:
    alone = "" if pd.isna(row["self_tokens"]) else f" ({row['self_tokens']:.2f})"
    return f"{row['expected_tokens']:.2f}{alone}"


def _worst(rules: Any, steps: Any, screen: Screen) -> Iterable[Text]:
    """Name the place where a draft by the standard rule is most likely to end."""
    first = rules[(rules["rule"] == "standard")].sort_values("alpha", kind="stable").iloc[0]
    same = (steps["pair_id"] == first["pair_id"]) & (steps["chain"] == first["chain"])
    step = steps[same & (steps["step"] == first["step"])].iloc[0]
    words = (
        f"Least likely to pass: {screen.quoted(step['token'], 24)}, place {int(step['step']) + 1} after"
        f" {screen.visible(str(step['pair_id']))} with {screen.visible(step['chain'])} (alpha"
        f" {spell_prob(first['alpha'])}); B has {screen.quoted(step['target_token'], 24)} there,"
        f" p = {spell_prob(step['target_token_prob'])}."
    )
    yield from screen.wrap(words, hang=2)


def _refused(steps: Any, screen: Screen) -> Iterable[Text]:
    """Say how much of what A proposes B's chains remove, and at which stages."""
    none = []
    for chain, rows in steps.groupby("chain", sort=False):
        cut = rows[rows["cut_stage"].notna()]
        refused = float(rows["mass_refused"].mean())
        if cut.empty and refused == 0:
            none.append(screen.visible(str(chain)))
            continue
        stages = cut["cut_stage"].value_counts().head(MOST_REFUSED)
        at = ", ".join(f"{screen.visible(str(stage))} {count:,}" for stage, count in stages.items())
        told = (
            f"{screen.visible(str(chain))} removes {len(cut):,} of {len(rows):,} drafted tokens"
            f"{f' ({at})' if at else ''}, and {share(refused)} of what the draft could have proposed."
        )
        yield from screen.wrap(told, hang=2)
    if none:
        verb = "removes" if len(none) == 1 else "remove"
        yield from screen.wrap(f"{listed(none)} {verb} nothing that the draft could have proposed.", hang=2)


def _lossy(rules: Any, screen: Screen) -> Iterable[Text]:
    """Name the rules under which something else than B's chain is written."""
    bias = rules.groupby("rule", sort=False)["bias"].mean()
    told = [
        f"{rule} (by {share(value)} of the probability at each token)"
        for rule, value in bias.items()
        if value
    ]
    if told:
        yield from screen.wrap(f"Not lossless, B's own text would change: {listed(told)}.", hang=2)

"""Tell the ways that a text may go on: how likely and how uncertain each is, and what would cut it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.paths import GIVEN, SAMPLED, PathBranch, cuts_of, tree_of
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded

HEADINGS = ("path", "log p", "entropy", "p a token", "repeated", "text")
WIDTHS = (20, 7, 7, 9, 8)
MOST_SAMPLED = 4
"""Sampled paths that are drawn in the tree of a story; the page has all."""
LEAST_TEXT = 12
"""Columns without which a path's text is not shown beside its numbers."""
STEEP = 0.5
"""Share of the screen that indentation takes at most."""


def path_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of a prompt's paths; nothing where none was searched for."""
    paths = tables.rows("paths", prompt["prompt_id"])
    if not paths:
        return []
    steps = tables.rows("path_steps", prompt["prompt_id"])
    lines = screen.titled(
        "Ways that the text may go on",
        "log p and entropy: nats, summed over the path before any sampler; repeated: runs of four tokens"
        " that it had before",
    )
    for number, cells in enumerate([HEADINGS, *map(path_cells, first_of_each(paths))]):
        lines.append(Text(_line(cells, screen, bool(number)), style="" if number else "dim"))
    for sentence in path_sentences(paths, steps, screen):
        lines += screen.wrap(sentence, hang=2)
    if not steps:
        return lines
    lines += screen.titled("As a tree", "p of a branch's first token where it parts from the others")
    for branch in tree_of(steps, lambda name, place: place <= MOST_SAMPLED or _kind(name) != SAMPLED):
        indent = min(2 + 2 * branch.depth, int(STEEP * screen.width))
        style = "red" if branch.cuts else ""
        lines += screen.wrap(branch_sentence(branch, screen), indent=indent, style=style, hang=4)
    hidden = sum(_kind(row["path"]) == SAMPLED and row["place"] > MOST_SAMPLED for row in paths)
    if hidden:
        lines.append(Text(f"  {hidden} more sampled paths are not drawn", style="dim"))
    return lines


def first_of_each(paths: Rows) -> Rows:
    """Choose the best path of each kind; of sampled ones the median of each number, without a text."""
    found: Rows = []
    for name in dict.fromkeys(row["path"] for row in paths):
        own = [row for row in paths if row["path"] == name]
        if _kind(name) != SAMPLED:
            found.append(own[0])
            continue
        numbers = ("logprob", "entropy", "mean_prob", "rep4")
        middle = {one: median([row[one] for row in own if row[one] is not None] or [0.0]) for one in numbers}
        found.append({**own[0], **middle, "path": f"{name} (median)", "text": ""})
    return found


def path_cells(row: Row) -> tuple[str, ...]:
    """One cell for each of ``HEADINGS``."""
    return (
        row["path"],
        f"{row['logprob']:.1f}",
        f"{row['entropy']:.1f}",
        spell_prob(row["mean_prob"]),
        "" if row["rep4"] is None else f"{row['rep4']:.0%}",
        row["text"],
    )


def path_sentences(paths: Rows, steps: Rows, screen: Screen) -> list[str]:
    """Say what greedy gives away, what the least entropy costs, and what sampled paths are like."""
    by_kind = {_kind(row["path"]): row for row in reversed(paths)}  # the first of each kind
    likeliest = min(paths, key=lambda row: (row["regret_logprob"], -row["n_tokens"]))
    said = []
    if greedy := by_kind.get("greedy"):
        given_away = greedy["regret_logprob"]
        said.append(
            f"The greedy path is {given_away:.1f} nats less likely than the likeliest that was found, of"
            f" {_named(likeliest)}."
            if given_away >= 0.05
            else "No path that was found is likelier than the greedy one."
        )
    sampled = [row for row in paths if _kind(row["path"]) == SAMPLED]
    if least := by_kind.get("least-entropy"):
        said.append(_least_sentence(least, greedy, steps, screen))
    if given := by_kind.get(GIVEN):
        said.append(_given_sentence(given, steps, screen))
    if sampled:
        said.append(_sampled_sentence(sampled, least))
    else:
        said.append("Nothing was sampled to compare with: sampled:16 says how far from usual these are.")
    return said


def branch_sentence(branch: PathBranch, screen: Screen) -> str:
    """Name a branch's text, its probability, who goes there, and what would cut it."""
    said = f"{screen.quoted(branch.text)} {spell_prob(branch.prob)} [{screen.visible(who(branch.paths))}]"
    return f"{said} {cut_words(branch, screen)}" if branch.cuts else said


def who(paths: Sequence[tuple[str, int]]) -> str:
    """Name the paths that go one way."""
    return ", ".join(name if count == 1 else f"{count} of {name}" for name, count in paths)


def cut_words(branch: PathBranch, screen: Screen) -> str:
    """Say which stages cut a branch, and at which token."""
    told = [
        f"{one.stage} of {screen.visible(one.chain)} at {screen.quoted(one.token)}" for one in branch.cuts
    ]
    return f"cut: {', '.join(told)}"


def _least_sentence(least: Row, greedy: Row | None, steps: Rows, screen: Screen) -> str:
    beside = "" if greedy is None else f" (greedy {greedy['entropy']:.1f})"
    said = (
        f"The path of least entropy, {least['entropy']:.1f} nats{beside}, is"
        f" {least['regret_logprob']:.1f} nats less likely than the likeliest"
    )
    if least["looped"]:
        said += ", and ends in a loop, which is what low entropy mostly is"
    elif least["rep4"]:
        said += f", and {least['rep4']:.0%} of it repeats itself"
    return f"{said}{_cut_sentence(least, steps, screen)}."


def _given_sentence(given: Row, steps: Rows, screen: Screen) -> str:
    count = given["n_tokens"]
    said = (
        f"The given text has log p {given['logprob']:.1f} over {count} {'token' if count == 1 else 'tokens'}"
    )
    if given["regret_logprob"] >= 0.05:
        said += f", {given['regret_logprob']:.1f} nats less than the likeliest that was found of that length"
    said = f"{said}{_cut_sentence(given, steps, screen)}."
    if given.get("retokenised"):
        said += (
            " Tokenised as one text with the prompt it would have other tokens: a model that writes it goes"
            " another way."
        )
    return said


def _cut_sentence(row: Row, steps: Rows, screen: Screen) -> str:
    own = [one for one in steps if (one["path"], one["place"]) == (row["path"], row["place"])]
    cuts = cuts_of(own)
    if not cuts:
        return "; every chain would let it be written" if own and own[0]["chain"] is not None else ""
    told = [
        f"{screen.visible(one.chain)} would cut it at token {one.step + 1}, {screen.quoted(one.token)}"
        f" ({one.stage})"
        for one in cuts
    ]
    return f"; {', '.join(told)}"


def _sampled_sentence(sampled: Rows, least: Row | None) -> str:
    sums = {name: sorted(row[name] for row in sampled) for name in ("logprob", "entropy")}
    low, high = sums["entropy"][0], sums["entropy"][-1]
    excess = sum(row["excess"] for row in sampled) / len(sampled)
    said = (
        f"{len(sampled):,} sampled paths have log p {sums['logprob'][0]:.1f} to {sums['logprob'][-1]:.1f} and"
        f" entropy {low:.1f} to {high:.1f}; their tokens are {abs(excess):.1f} nats"
        f" {'more' if excess >= 0 else 'less'} surprising than the outputs lead to expect, on average"
        " (0 where no chain cuts)."
    )
    if least is None:
        return said
    fewer = sum(row["entropy"] <= least["entropy"] for row in sampled)
    return f"{said} {fewer or 'None'} of them {'has' if fewer <= 1 else 'have'} as little entropy."


def _named(row: Row) -> str:
    return str(row["path"])


def _kind(name: str) -> str:
    return name.partition(":")[0].partition(" ")[0]


def _line(cells: Sequence[str], screen: Screen, quote: bool) -> str:
    *numbers, text = cells
    line = padded(screen.shorten(numbers[0], WIDTHS[0]), WIDTHS[0])
    for one, width in zip(numbers[1:], WIDTHS[1:], strict=True):
        line += f" {padded(one, width, right=True)}"
    room = screen.width - cell_len(line) - 2
    if room < LEAST_TEXT or not text:  # the tree has the text too
        return screen.shorten(line, screen.width)
    return f"{line}  {screen.quoted(text, room) if quote else text}"

"""Say what a map of the model found of the heads that a prompt's report names."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from elimtool.report.facts import Probe
from elimtool.report.screen import Screen
from elimtool.report.trace.judgement import told_targets

MOST = 8
"""Most heads that are told of."""
NAME = 18
TAKES, GIVES = "suppressing", "copying"
"""The role that is asked for of a head that takes from a token, and of one that gives to it."""


def mapped_lines(probe: Probe, screen: Screen) -> list[Text]:
    """A line for each named head: whether it has the role in question, where it looks, and what it keeps."""
    profiles = probe.run.head_profiles
    lines: list[Text] = []
    for head, (asked, why) in list(named_heads(probe, screen).items())[:MOST]:
        if head in profiles and (said := profiles[head].told(asked)):
            lines += screen.wrap(f"head {head} ({why}): {said}.", hang=2)
    return [Text("What the map says of these heads", style="bold"), *lines] if lines else []


def named_heads(probe: Probe, screen: Screen) -> dict[str, tuple[str, str]]:
    """List the heads that are named: head -> the role that is asked for, and what it is named for."""
    found: dict[str, tuple[str, str]] = {}
    for head, asked, why in (*_of_verdicts(probe, screen), *_of_sources(probe, screen)):
        found.setdefault(head, (asked, why))
    return found


def _of_verdicts(probe: Probe, screen: Screen) -> Iterator[tuple[str, str, str]]:
    told = [one.target for one in told_targets(probe)[0]]
    for row in probe.rows("verdicts"):
        for kind, asked, does in (("eliminator", TAKES, "takes from"), ("promoter", GIVES, "gives to")):
            name = row[kind] or ""
            if row["target"] in told and name.startswith("head "):
                yield name.removeprefix("head "), asked, f"{does} {screen.quoted(row['target'], NAME)}"


def _of_sources(probe: Probe, screen: Screen) -> Iterator[tuple[str, str, str]]:
    told = [one.target for one in told_targets(probe)[0]]
    known = [
        row
        for row in probe.rows("source_spans")
        if row["target"] in told and row["top_layer"] is not None and row["dla_centred"] is not None
    ]
    known.sort(key=lambda row: -abs(row["dla_centred"]))
    for row in known[:MOST]:
        which, asked, does = ("top", GIVES, "for") if row["dla_centred"] > 0 else ("low", TAKES, "against")
        head = f"{row[f'{which}_layer']}.{row[f'{which}_head']}"
        yield head, asked, f"wrote {does} {screen.quoted(row['target'], NAME)}"

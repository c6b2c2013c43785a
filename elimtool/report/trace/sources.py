"""Say which parts of the prompt wrote the logit of each target, and through which heads."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import listed
from elimtool.files.rows import Row, Rows
from elimtool.prompts.prompt import SINK
from elimtool.report.facts import Probe
from elimtool.report.screen import Screen, padded
from elimtool.report.trace.heat import token_index
from elimtool.report.trace.judgement import told_targets
from elimtool.run.roles import with_role
from elimtool.run.tables.sources import BIAS, MLP, SELF

NAME = 18
NAMED = 2
"""Parts that a sentence names with their head."""
NOTHING = 0.1
"""A part wrote next to nothing if it wrote less than this share of what the part that wrote most did."""
AGAINST = 0.25
"""A head that wrote against the target is named if it took this share of that."""
MOST_TARGETS = 2
WIDEST = 24
ALL_SHOWN = 14
"""Up to this many parts are all listed; of more, the ``TOP`` and ``BOTTOM`` ones."""
TOP, BOTTOM = 8, 3
APART = {SINK: "the sink", SELF: "the embedding", MLP: "MLPs", BIAS: "constants"}
HEAD = ("wrote", "even", "z", "most", "against")


def source_lines(probe: Probe, screen: Screen) -> list[Text]:
    """A sentence a target: what parts wrote of its logit, through which heads; or why that is not known."""
    rows = probe.rows("source_spans")
    lines: list[Text] = []
    for target in _targets(probe, rows)[:MOST_TARGETS]:
        own = [row for row in rows if row["target"] == target]
        if said := _sentence(screen.quoted(target, NAME), own, probe, screen):
            lines += screen.wrap(said, hang=2)
            for row in own:
                if row.get("cut_effect") is not None:
                    lines += screen.wrap(_cut(row, target, probe, screen), indent=2, hang=2)
    if not lines and (why := next((row["undecomposed"] for row in rows if row["undecomposed"]), None)):
        return screen.wrap(f"Which parts of the prompt wrote it cannot be read: {why}.", style="dim", hang=2)
    return lines


def source_table(probe: Probe, screen: Screen) -> list[Text]:
    """What every part wrote for each target, the part of which most was kept first."""
    lines: list[Text] = []
    rows = [row for row in probe.rows("source_spans") if row["dla_centred"] is not None]
    for target in _targets(probe, rows):
        own = [row for row in rows if row["target"] == target]
        if not own:
            continue
        if not lines:
            lines = screen.titled(
                "What each part wrote, most kept first",
                "logits above the vocabulary's mean, direct paths; even: with each head's weights spread"
                " evenly over like distances; z: against tokens as frequent",
            )
        lines += _table(screen.quoted(target, WIDEST), own, probe, screen)
    return lines


def _targets(probe: Probe, rows: Rows) -> list[str]:
    """The targets to tell of; where the run does not say what became of any, all that have rows."""
    told = [one.target for one in told_targets(probe)[0]]
    return told or list(dict.fromkeys(row["target"] for row in rows))


def _table(name: str, rows: Rows, probe: Probe, screen: Screen) -> list[Text]:
    ordered = sorted(rows, key=lambda row: -row["dla_centred"])
    dropped = len(ordered) - TOP - BOTTOM if len(ordered) > ALL_SHOWN else 0
    shown = [*ordered[:TOP], *ordered[-BOTTOM:]] if dropped else ordered
    cells = [
        [
            f"{row['dla_centred']:+.2f}",
            _signed(row["expected"]),
            _signed(row["z"], 1),
            _cell(row, "top"),
            _cell(row, "low") if (row["low_dla"] or 0) < 0 else "",
        ]
        for row in shown
    ]
    names = [_named(row, probe, screen, WIDEST) for row in shown]
    left = max(map(cell_len, [name, *names])) + 2
    widths = [max(map(len, column)) + 2 for column in zip(HEAD, *cells, strict=True)]
    while len(widths) > 1 and left + sum(widths) > screen.width:  # the first columns are the answer
        widths.pop()
    lines = [Text((padded(name, left) + _cells(HEAD, widths)).rstrip(), style="dim")]
    for place, (one, some) in enumerate(zip(names, cells, strict=True)):
        if dropped and place == TOP:
            lines.append(Text(f"{screen.glyph('…')} {dropped:,} more parts between", style="dim"))
        lines.append(Text((padded(one, left) + _cells(some, widths)).rstrip()))
    return lines


def _cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(padded(cell, width, right=True) for cell, width in zip(cells, widths, strict=False))


def _signed(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:+.{digits}f}"


def _cell(row: Row, which: str) -> str:
    if row[f"{which}_layer"] is None:
        return ""
    return f"{row[f'{which}_dla']:+.2f} by {row[f'{which}_layer']}.{row[f'{which}_head']}"


def _sentence(name: str, rows: Rows, probe: Probe, screen: Screen) -> str:
    spans = [row for row in rows if row["top_layer"] is not None]
    spans.sort(key=lambda row: -abs(row["dla_centred"]))
    if not spans or not spans[0]["dla_centred"]:
        return ""
    most = abs(spans[0]["dla_centred"])
    named = [row for row in spans[:NAMED] if abs(row["dla_centred"]) >= NOTHING * most]
    parts = [_wrote(row, index == 0, probe, screen) for index, row in enumerate(named)]
    said = [f"Of the logit of {name}, {listed(parts)}"]
    little = [row for row in spans if abs(row["dla_centred"]) < NOTHING * most]
    if little:
        some = [_named(row, probe, screen, NAME) for row in little]
        who = listed(some) if len(some) <= NAMED else f"{len(some):,} other parts"
        said.append(f"{who} wrote next to nothing")
    low = min(spans, key=lambda row: row["low_dla"])
    told = low in named and low["dla_centred"] < 0
    if low["low_dla"] < -AGAINST * most and not told:
        head = _head(low, "low", probe)
        said.append(f"head {head} wrote {low['low_dla']:+.1f} from {_named(low, probe, screen, NAME)}")
    mlps = next((row["dla_centred"] for row in rows if row["span"] == MLP), None)
    if mlps is not None:
        said.append(f"MLPs wrote {mlps:+.1f}, which is not split by part")
    return f"{'; '.join(said)} (direct paths, above the mean logit)."


def _cut(row: Row, target: str, probe: Probe, screen: Screen) -> str:
    """Say what cutting the strongest edge to a part did, beside as many random tokens."""
    handed = " (where it wrote most)" if row["handover_layer"] == row["top_layer"] else ""
    said = f"cutting {_named(row, probe, screen, NAME)} off in layer {row['top_layer']}{handed} changes the"
    said += f" log-probability of {screen.quoted(target, NAME)} by {row['cut_effect']:+.2f} nats"
    control = row["cut_control"]
    beside = "there are too few others to compare with" if control is None else f"{control:+.2f}"
    return f"{said}; as many random tokens: {beside}" if control is not None else f"{said}; {beside}"


def _wrote(row: Row, first: bool, probe: Probe, screen: Screen) -> str:
    """Say what a part wrote, and how much of it through the head that wrote most."""
    wrote = row["dla_centred"]
    which = "top" if wrote > 0 else "low"
    does = " wrote" if first else ""
    through = f"{row[f'{which}_dla']:+.1f} through head {_head(row, which, probe)}"
    return f"{_named(row, probe, screen, NAME)}{does} {wrote:+.1f} ({through})"


def _head(row: Row, which: str, probe: Probe) -> str:
    """Name a head, with its role where a map of the model was given."""
    name = f"{row[f'{which}_layer']}.{row[f'{which}_head']}"
    return with_role(name, probe.run.roles.get(name))


def _named(row: Row, probe: Probe, screen: Screen, width: int) -> str:
    """Name a part: a single token as it stands in the prompt, the sink, or a span by its name."""
    span, token = row["span"], token_index(row["span"], probe.tokens)
    if token is not None:
        itself = " itself" if token == probe.position else ""
        return screen.quoted(probe.shown[token], width) + itself
    return APART.get(span) or (span if span.startswith("<") else screen.quoted(span, width))

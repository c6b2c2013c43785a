"""Make the figures of one pair of a comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from elimtool.analysis.compare.edit import added
from elimtool.files.rows import Row, Rows
from elimtool.report.compare.associations import concepts_of, contrast_sentence, tokens_at
from elimtool.report.figures.course import RAW_NOTE
from elimtool.report.figures.figure import Figure, Heat, Line, Lines, Listing, Number
from elimtool.report.figures.words import SCREEN, headline, label, quoted
from elimtool.report.keyed import Keyed

MOST_HEADS = 20
"""Heads that are listed: those that moved most."""
MOST_FLIPS = 60
MARKS = re.compile(r"<\|[^|<>]*\|>")
"""Marks of chat templates."""
NO_CHANGE = "no token"


UNNAMED = re.compile(r"[0-9a-f]{16}( \| [0-9a-f]{16})?")
"""Id of a pair of prompts without ids of their own."""


class PairRows:
    """The rows of one pair.

    Args:
        tables: Those of the comparison, by pair.
        row: Its row of table ``pairs``.
        read: Rows of the pair that were read already, by table.
    """

    def __init__(self, tables: Keyed, row: Row, read: Mapping[str, Rows] | None = None) -> None:
        self.row = row
        self._tables = tables
        self._rows: dict[str, Rows] = dict(read or {})

    def rows(self, name: str) -> Rows:
        """Rows of a table that belong to the pair."""
        if name not in self._rows:
            self._rows[name] = self._tables.rows(name, self.row["pair_id"])
        return self._rows[name]

    @property
    def title(self) -> str:
        """What one prompt has and the other lacks, or the text that both have."""
        row = self.row
        alike = row["text_a"] == row["text_b"]
        gone, new = ([], []) if alike else (added(self.rows("alignment"), side) for side in "ab")
        if alike or len(gone) > 1 or len(new) > 1 or not (gone or new):
            told = headline(MARKS.sub(" ", row["text_a"] or row["text_b"] or ""))
        else:
            texts = [headline(part.text) for part in (*gone, *new)]
            told = " → ".join(texts) if gone and new else f"{'removed' if gone else 'inserted'}: {texts[0]}"
        told = told or str(row["pair_id"])
        return told if row["control"] is None else f"{row['control']} control, {told}"


def figures(pair: PairRows) -> list[Figure]:
    """Make every figure of a pair that its tables can fill."""
    return [one for make in PAIR.values() for one in make(pair)]


def ranks(pair: PairRows) -> list[Figure]:
    """Plot the rank of every followed token after each layer, on both sides."""
    return _course(pair, "ranks", "rank", "Rank by layer")


def probabilities(pair: PairRows) -> list[Figure]:
    """Plot the probability of every followed token after each layer, on both sides."""
    return _course(pair, "probabilities", "prob", "Probability by layer")


def _course(pair: PairRows, name: str, column: str, title: str) -> list[Figure]:
    rows = [row for row in pair.rows("lens_differences") if row["layer"] is not None]
    layers = sorted({row["layer"] for row in rows})
    if not layers:
        return []
    tokens = sorted(dict.fromkeys((row["is_foil"], row["target"]) for row in rows), key=lambda one: one[0])
    lines = []
    for colour, (foil, target) in enumerate(tokens):
        own = {row["layer"]: row for row in rows if (row["is_foil"], row["target"]) == (foil, target)}
        for side in "ab":
            values = [own.get(layer, {}).get(f"{column}_{side}") for layer in layers]
            told = f"{quoted(target)}{' (foil)' if foil else ''} in {side.upper()}"
            lines.append(Line(told, values, colour=colour, dashed=side == "b"))
    lenses = list(dict.fromkeys(row[f"lens_{side}"] for side in "ab" for row in rows if row["layer"] >= 0))
    note = "Full lines: A. Dashed: B."
    if "raw" in lenses:
        note += f" {RAW_NOTE}"
    return [
        Lines(
            name=name,
            title=f"{title}, lens {' and '.join(map(str, lenses))}",
            note=note,
            layers=layers,
            lines=lines,
            unit="prob" if column == "prob" else "rank",
        )
    ]


def divergence(pair: PairRows) -> list[Figure]:
    """Plot the divergence of the two sides after each layer, and that of controls."""
    rows = [row for row in pair.rows("divergence") if row["layer"] is not None]
    if not any(row["js"] is not None for row in rows):
        return []
    lines = [Line("A against B", [row["js"] for row in rows])]
    note = "Jensen-Shannon divergence of the two predictions, read through the lens: 0 alike, 1 bit apart."
    if any(row["band"] is not None for row in rows):
        lines.append(Line("95 % of the controls", [row["band"] for row in rows], is_foil=True))
        onset = pair.row["onset_layer"]
        note += " Controls are edits that should not matter: "
        note += "no layer is beyond them." if onset is None else f"layer {onset} is the first beyond them."
    return [
        Lines(
            name="divergence",
            title="Where the two sides part",
            note=note,
            layers=[row["layer"] for row in rows],
            lines=lines,
            unit="bits",
        )
    ]


def association_contrast(pair: PairRows) -> list[Figure]:
    """Plot how far each concept moves from A to B, and list the tokens that part the outputs."""
    rows = pair.rows("association_contrast")
    found: list[Figure] = []
    for name, some in concepts_of(rows).items():
        if some[-1]["difference"] is None:
            continue
        lines = [Line(f"ln p of {label(name)}", [row["difference"] for row in some])]
        if some[-1]["difference_low"] is not None:
            low, high = ([row[f"difference_{end}"] for row in some] for end in ("low", "high"))
            middle = [None] * len(some)
            lines.append(Line("95 % of sets as frequent", middle, dashed=True, low=low, high=high))
        found.append(
            Lines(
                name="association_contrast",
                title=f"{quoted(name)} after each layer, B less A",
                note=contrast_sentence(some, SCREEN),
                layers=[row["layer"] for row in some],
                lines=lines,
                unit="nats",
            )
        )
    if tokens := tokens_at(rows, max((row["layer"] for row in rows), default=0)):
        found.append(
            Listing(
                name="parting_tokens",
                title="Tokens at which the outputs part",
                note="Share: of Jeffreys' divergence of the two outputs, the sum over all tokens.",
                columns=["token", "p in A", "p in B", "B less A, nats", "share"],
                rows=[
                    [
                        quoted(row["token"]),
                        *(row[column] for column in ("prob_a", "prob_b", "difference", "term_share")),
                    ]
                    for row in tokens
                ],
            )
        )
    return found


def attention(pair: PairRows) -> list[Figure]:
    """Map the spans that gain or lose attention from A to B, layer by layer."""
    rows = pair.rows("attention_differences")
    spans = list(dict.fromkeys(row["span"] for row in rows))
    layers = sorted({row["layer"] for row in rows})
    values: list[list[Number]] = [[None] * len(layers) for _ in spans]
    for row in rows:
        values[spans.index(row["span"])][layers.index(row["layer"])] = row["logit_shift"]
    seen = [index for index, line in enumerate(values) if any(value is not None for value in line)]
    if not seen:
        return []
    return [
        Heat(
            name="attention",
            title="Which spans gain or lose attention",
            note="Logit of a span's share of attention outside the sink, B minus A, mean over heads: blue"
            " gains, orange loses. Attention is not causal evidence.",
            row_title="span",
            column_title="layer",
            rows=[label(spans[index]) for index in seen],
            columns=[str(layer) for layer in layers],
            values=[values[index] for index in seen],
            unit="shift",
            value_title="logit of the share, B minus A",
            blank="one side has no such span, or sees none of it",
        )
    ]


def heads(pair: PairRows) -> list[Figure]:
    """List the heads that turn most from one span to another."""
    rows = [row for row in pair.rows("head_differences") if row["retention_shift"] is not None]
    rows.sort(key=lambda row: -abs(row["z"] if row["z"] is not None else row["retention_shift"]))
    if not rows:
        return []
    told = any(row["z"] is not None for row in rows)
    columns = ["head", "span", "focus A", "focus B", "shift (logits)", *(["z"] if told else [])]
    return [
        Listing(
            name="heads",
            title="Heads that turn most",
            note="By distance from the controls."
            if told
            else "By size: there are too few controls to compare with.",
            columns=columns,
            rows=[
                [
                    f"{row['layer']}.{row['head']}",
                    label(row["span"]),
                    row["focus_a"],
                    row["focus_b"],
                    row["retention_shift"],
                    *([row["z"]] if told else []),
                ]
                for row in rows[:MOST_HEADS]
            ],
        )
    ]


def stages(pair: PairRows) -> list[Figure]:
    """List what each sampler stage removes on the two sides."""
    rows = pair.rows("sampling_differences")
    if not rows:
        return []
    columns = [
        "chain",
        "stage",
        *(f"{what} in {side}" for what in ("tokens left", "probability removed") for side in "AB"),
    ]
    listed = [
        [
            label(row["chain"] or "A against B"),
            label(row["stage"]),
            *(_stage(row, side, "n_after") for side in "ab"),
            *(_stage(row, side, "mass_pruned") for side in "ab"),
        ]
        for row in rows
        if row["active_a"] or row["active_b"]
    ]
    return [
        Listing(
            name="stages",
            title="What sampler stages cut",
            note="Stages that are active on either side, in the order of the chain.",
            columns=columns,
            rows=listed,
        )
    ]


def _stage(row: Row, side: str, column: str) -> Any:
    """A stage's number on one side, or ``no such stage`` or ``off``."""
    if row[f"active_{side}"] is None:
        return "no such stage"
    return row[f"{column}_{side}"] if row[f"active_{side}"] else "off"


def flips(pair: PairRows) -> list[Figure]:
    """List the tokens that only one side eliminates."""
    rows = sorted(
        pair.rows("flips"),
        key=lambda row: (not row["is_target"], -max(row["prob_a"] or -inf, row["prob_b"] or -inf)),
    )
    if not rows:
        return []
    more = f" {len(rows) - MOST_FLIPS:,} more are in the table flips." if len(rows) > MOST_FLIPS else ""
    return [
        Listing(
            name="flips",
            title="Tokens eliminated on one side alone",
            note=f"Targets first, then by probability.{more}",
            columns=["token", "eliminated in", "by", "p in A", "p in B", "rank in A", "rank in B"],
            rows=[
                [
                    quoted(row["token"]),
                    row["eliminated_in"].upper(),
                    _by(row),
                    *(row[f"{column}_{side}"] for column in ("prob", "rank") for side in "ab"),
                ]
                for row in rows[:MOST_FLIPS]
            ],
        )
    ]


def _by(row: Row) -> str:
    """Name what eliminates a token."""
    if row["where"] == "layer":
        return f"layer {row['layer']}"
    if row["where"] == "stage":
        return f"{label(row['stage'])} of {label(row['chain'] or 'its chain')}"
    return "the output"


def alignment(pair: PairRows) -> list[Figure]:
    """List the tokens of the two prompts that do not correspond."""
    rows = [row for row in pair.rows("alignment") if row["operation"] != "equal"]
    if not rows:
        return []
    matched, prefix = pair.row["n_matched"], pair.row["n_common_prefix"]
    return [
        Listing(
            name="alignment",
            title="Where the prompts differ",
            note=f"{matched:,} tokens are matched, {prefix:,} from the start on.",
            columns=["edit", "at in A", "token of A", "at in B", "token of B"],
            rows=[
                [
                    row["operation"],
                    *(
                        value
                        for side in "ab"
                        for value in (
                            NO_CHANGE if row[f"index_{side}"] is None else row[f"index_{side}"],
                            NO_CHANGE if row[f"token_{side}"] is None else quoted(row[f"token_{side}"]),
                        )
                    ),
                ]
                for row in rows
            ],
        )
    ]


PAIR: dict[str, Callable[[PairRows], Sequence[Figure]]] = {
    "alignment": alignment,
    "divergence": divergence,
    "ranks": ranks,
    "probabilities": probabilities,
    "association_contrast": association_contrast,
    "attention": attention,
    "heads": heads,
    "flips": flips,
    "stages": stages,
}

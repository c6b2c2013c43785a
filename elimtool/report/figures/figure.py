"""Hold a figure before it is drawn: title, note and numbers, in kinds that both the page and matplotlib draw.

Every kind is frozen plain data; ``to_json`` gives what the page's script draws. Texts are ready to be shown
(control characters made visible), never markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from math import floor, isfinite, log10
from typing import Any, ClassVar

DIGITS = 4
"""Significant digits of the numbers in a figure."""

Number = float | int | None
Cell = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Parts that all kinds share.

    Attributes:
        name: Its name for ``--figure``.
        title: What is shown, in one line.
        note: How to read it, and how far to trust it; may be empty.
    """

    kind: ClassVar[str] = ""
    digits: ClassVar[int] = DIGITS
    name: str
    title: str
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Convert the figure to JSON's types, with numbers rounded to ``digits``."""
        return {"kind": self.kind, **rounded(self, self.digits)}


@dataclass(frozen=True, kw_only=True)
class HeatView:
    """What a grid can be coloured by: fields of ``Heat``; ``title`` is what it is chosen by."""

    title: str
    note: str
    values: Sequence[Sequence[Number]]
    unit: str
    value_title: str
    steps: Sequence[float] = ()
    words: Sequence[Sequence[str]] = ()
    blank: str = "not measurable"
    kinds: Sequence[Sequence[int | None]] = ()
    kind_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Heat(Figure):
    """A grid of coloured cells, with words in them or without.

    Attributes:
        row_title, column_title: Titles of rows and columns.
        rows, columns: Their labels.
        values: One list a row; None where it was not measurable.
        unit: A scale of ``palette.STEPS``, or ``logits``, whose ``steps`` depend on the values.
        value_title: What the colours mean, for the legend.
        steps: Borders between the colours: 7, from little to much, or 8 around 0, in two colours.
        words: A text for each cell; none for numbers alone.
        details: More about each cell, for who points at it.
        blank: Why cells without a value have none.
        masked: (row, column) of cells that nothing could be measured for, such as later or windowed keys.
        masked_as: What these are.
        dimmed: (row, column) of cells whose values do not count; they are drawn small.
        dimmed_as: Why they do not.
        left_out: What a picture leaves out of the page's figure; empty for nothing.
        starts: Rows with a line above them, that begin another group.
        opens: Figures, as JSON, that each cell opens on the page; empty for none.
        kinds: Colour of each cell on the page where colours are kinds of cells, not steps of their values: 0
            to 5 of the lines' palette, 6 for little to see; ``None`` for a blank cell.
        kind_names: Colour -> what it stands for.
        views: What else the grid can be coloured by on the page, the first as it is; empty for nothing.
    """

    kind: ClassVar[str] = "heat"
    row_title: str
    column_title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[Number]]
    unit: str
    value_title: str
    steps: Sequence[float] = ()
    words: Sequence[Sequence[str]] = ()
    details: Sequence[Sequence[str]] = ()
    blank: str = "not measurable"
    masked: Sequence[tuple[int, int]] = ()
    masked_as: str = "outside the layer's window, not eliminated"
    dimmed: Sequence[tuple[int, int]] = ()
    dimmed_as: str = ""
    left_out: str = ""
    starts: Sequence[int] = ()
    opens: Sequence[Sequence[Sequence[Mapping[str, Any]]]] = ()
    kinds: Sequence[Sequence[int | None]] = ()
    kind_names: Mapping[str, str] = field(default_factory=dict)
    views: Sequence[HeatView] = ()


@dataclass(frozen=True)
class Mark:
    """A marked layer of a line: ``entry``, ``commit``, ``lost`` or ``decision``."""

    event: str
    layer: int


@dataclass(frozen=True)
class Line:
    """One followed token: its value at each x, and its marks.

    Attributes:
        name: Its label.
        values: One for each x.
        is_foil: Whether the token is only contrasted with others: dotted.
        marks: Marked layers.
        colour: Index into the palette; ``None`` for the next one. Lines of one token share theirs.
        dashed: Whether it is the second of two lines of one colour.
        low: Lower end of the interval of each value; empty for none.
        high: Upper end.
    """

    name: str
    values: Sequence[Number]
    is_foil: bool = False
    marks: Sequence[Mark] = ()
    colour: int | None = None
    dashed: bool = False
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()


@dataclass(frozen=True, kw_only=True)
class Lines(Figure):
    """Values by layer.

    ``unit`` is ``rank`` (logarithmic, 1 on top), ``prob``, ``bits`` or ``share`` (0 .. 1), ``nats`` or
    ``ratio`` (both signed). Layers of ``shaded``, from first to last, are marked as what ``shaded_as`` says.
    What ``layers`` are, if not layers, is ``axis``.
    """

    kind: ClassVar[str] = "lines"
    layers: Sequence[int]
    lines: Sequence[Line]
    unit: str
    shaded: Sequence[tuple[int, int]] = ()
    shaded_as: str = ""
    axis: str = "layer"


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its value, a remark beside it, and the prompt that it links to, if any."""

    label: str
    value: float
    text: str = ""
    prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class Bars(Figure):
    """Horizontal bars from a common zero; ``log`` for values that span decades (all at least 1)."""

    kind: ClassVar[str] = "bars"
    label_title: str
    value_title: str
    bars: Sequence[Bar]
    log: bool = False


@dataclass(frozen=True)
class Estimate:
    """One row of a ``Forest``: a value, its interval, and whether it is unlike what it is held against.

    Attributes:
        label: Its name.
        value: The value; ``None`` where there is none, and the row says why.
        low: Lower end of its interval.
        high: Upper end.
        text: A remark beside it.
        certain: Whether it is unlike 0, or unlike ``mark``.
        mark: What it is held against, drawn as a tick; ``None`` for 0.
        depth: How far its label is indented, as a part of the row above it.
    """

    label: str
    value: Number
    low: Number
    high: Number
    text: str = ""
    certain: bool = False
    mark: Number = None
    depth: int = 0


@dataclass(frozen=True, kw_only=True)
class Forest(Figure):
    """Estimates with their intervals, from a common zero; ``mark_title`` says what the ticks are."""

    kind: ClassVar[str] = "forest"
    label_title: str
    value_title: str
    rows: Sequence[Estimate]
    mark_title: str = ""


@dataclass(frozen=True, kw_only=True)
class Columns(Figure):
    """Counts over an ordered axis, such as layers."""

    kind: ClassVar[str] = "columns"
    x_title: str
    value_title: str
    labels: Sequence[str]
    values: Sequence[Number]


@dataclass(frozen=True)
class StackRow:
    """One row of a ``Stack``: a label and its count for every key."""

    label: str
    counts: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Stack(Figure):
    """How each row's total divides over the same keys."""

    kind: ClassVar[str] = "stack"
    label_title: str
    keys: Sequence[str]
    rows: Sequence[StackRow]


@dataclass(frozen=True)
class FunnelStage:
    """One stage of a chain: tokens before and after, and the share of the probability that it removes."""

    label: str
    active: bool
    before: int
    after: int
    pruned: Number
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class FunnelToken:
    """One followed token in a chain: probability before all stages and after them, or where it was cut."""

    token: str
    rank: Number
    before: Number
    after: Number
    cut: str = ""
    why: str = ""


@dataclass(frozen=True)
class FunnelChain:
    """One sampler chain: its stages in order, and the followed tokens by rank, those cut among them."""

    name: str
    engine: str
    stages: Sequence[FunnelStage]
    fates: Sequence[FunnelToken]


@dataclass(frozen=True, kw_only=True)
class Funnel(Figure):
    """Sampler chains side by side."""

    kind: ClassVar[str] = "funnel"
    chains: Sequence[FunnelChain]


@dataclass(frozen=True, kw_only=True)
class ControlChart(Figure):
    """A number over runs: a control chart.

    Attributes:
        runs: Their names, in order.
        values: One for each run.
        intervals: Low and high end for each, None where there is none; empty for no bars.
        limits: Lower limit, centre and upper limit; None without any.
        beyond: Runs outside the limits, by index.
        changed: Change points, by index.
        value_title: What the values are.
        columns: Columns of the table behind it.
        rows: Its rows, one for each run.
    """

    kind: ClassVar[str] = "control"
    digits: ClassVar[int] = 8  # limits may be a millionth of the value apart
    runs: Sequence[str]
    values: Sequence[float]
    intervals: Sequence[tuple[Number, Number]]
    limits: tuple[float, float, float] | None
    beyond: Sequence[int]
    changed: Sequence[int]
    value_title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()


@dataclass(frozen=True, kw_only=True)
class Listing(Figure):
    """A plain table.

    Attributes:
        columns: Names of its columns.
        rows: A cell for each.
        links: What the first cell of a row is put behind, to make the address that it leads to; may be empty.
    """

    kind: ClassVar[str] = "listing"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    links: str = ""


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """Convert a value to JSON's types: floats to some significant digits, non-finite ones to None."""
    if isinstance(value, float):
        if not isfinite(value):
            return None
        if value == 0:
            return 0
        short = round(value, digits - 1 - floor(log10(abs(value))))
        # whole numbers are shorter as integers; beyond 1e15 a script's numbers are not exact
        return int(short) if short == int(short) and abs(short) < 1e15 else short
    if is_dataclass(value):
        return {one.name: rounded(getattr(value, one.name), digits) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return value

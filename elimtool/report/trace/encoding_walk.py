"""Tell how the residual of a position gets from the embedding to the output, beside random ways."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.text import Text

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.numbering import Numbering
from elimtool.report.screen import Screen


def encoding_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of the last probed position, and means over several; nothing where no walk was asked for."""
    rows = tables.rows("encoding_walk", prompt["prompt_id"])
    if not rows:
        return []
    lines = screen.titled(
        "Encoding walk, from the embedding to the output",
        "straightness: how far the residual gets, over the length of its steps; orthogonal: the same for"
        " steps of these lengths at right angles",
    )
    for said in [
        walk_sentence(prompt, rows, screen),
        *mean_sentences(rows),
        *cosine_sentences(tables.rows("lens", prompt["prompt_id"]), screen),
    ]:
        lines += screen.wrap(said, hang=2)
    return lines


def walk_sentence(prompt: Row, rows: Rows, screen: Screen) -> str:
    """Say of the last position how straight its walk is, what moves it, and whether it turns."""
    row = rows[-1]
    token = Numbering.of(prompt, [one["position"] for one in rows]).token(prompt, row["position"])
    if row["straightness"] is None:
        return f"From {screen.quoted(token)} nothing moves."
    step = f"{row['largest_step_share']:.0%} of its length is the step of block {row['largest_step_layer']}"
    if row["massive"]:
        return (
            f"From {screen.quoted(token)} it is no walk: there is a massive activation, and {step}"
            f" (straightness {row['straightness']:.2f}, orthogonal {row['straightness_null']:.2f})."
        )
    said = (
        f"From {screen.quoted(token)} the walk is {row['straightness_ratio']:.2f} times as straight as"
        f" orthogonal steps ({row['straightness']:.2f}, orthogonal {row['straightness_null']:.2f});"
        f" {step}."
    )
    return " ".join([said, *_gathered(row), *_turns(row)])


def _gathered(row: Row) -> list[str]:
    """Say which part of the length is attention's, and how much of that comes from the position itself."""
    if row["aggregation_share"] is None:
        return []
    own = (
        ""
        if row["self_share"] is None
        else f", and what it takes from the token itself is {row['self_share']:.0%} as long"
    )
    return [f"Attention makes {row['aggregation_share']:.0%} of what attention and MLPs add, by length{own}."]


def _turns(row: Row) -> list[str]:
    """Compare turning with random orders of the same steps, and the radial share with its chance."""
    said = []
    if row["turning"] is not None:
        how = "goes on more than" if row["turning"] > row["turning_null_high"] else "turns as it would"
        if row["turning"] < row["turning_null_low"]:
            how = "turns back more than"
        said.append(
            f"It {how} in random order (mean cosine of steps {row['turning']:.2f}, 95 % of orders"
            f" {row['turning_null_low']:.2f} to {row['turning_null_high']:.2f})."
        )
    if row["radial_share"] is not None:
        said.append(
            f"{row['radial_share']:.1%} of a step is along the residual (chance {row['radial_null']:.1%})."
        )
    return said


def mean_sentences(rows: Rows) -> list[str]:
    """Average over several positions, without massive ones; nothing for one."""
    if len(rows) == 1:
        return []
    some = [row for row in rows if not row["massive"]]
    left = len(rows) - len(some)
    without = f" ({left} with a massive activation left out)" if left else ""
    ratio, share = _mean(some, "straightness_ratio"), _mean(some, "aggregation_share")
    if ratio is None:
        return [f"No mean over the {len(rows):,} positions: none is a walk{without}."]
    gathered = "" if share is None else f"; attention's share {share:.0%}"
    return [
        f"Mean over {len(some):,} positions{without}: {ratio:.2f} times as straight as orthogonal steps"
        f"{gathered}."
    ]


def _mean(rows: Rows, column: str) -> float | None:
    known = [row[column] for row in rows if row[column] is not None]
    return fmean(known) if known else None


def cosine_sentences(rows: Rows, screen: Screen) -> list[str]:
    """Say of each followed token where it stands in the output by cosine alone."""
    last = max((row["position"] for row in rows), default=None)
    here = [row for row in rows if row["position"] == last and row["cosine_rank"] is not None]
    final = [row for row in here if row["layer"] == max(one["layer"] for one in here)]
    return [
        f"By its angle alone, without the lengths of the unembedding's rows, {screen.quoted(row['target'])}"
        f" has rank {row['cosine_rank']:,} in the output (by logit {row['rank']:,})."
        for row in final
    ]


HEADINGS: Sequence[str] = (
    "position",
    "token",
    "straight",
    "orthogonal",
    "ratio",
    "turning",
    "random orders",
    "attention",
    "itself",
    "largest step",
)


def walk_cells(prompt: Row, rows: Rows, row: Row, screen: Screen) -> list[str]:
    """One cell for each of ``HEADINGS``; a massive row says so in place of its ratio."""
    places = Numbering.of(prompt, [one["position"] for one in rows])
    ratio = "massive: no walk" if row["massive"] else _spelled(row["straightness_ratio"])
    low, high = row["turning_null_low"], row["turning_null_high"]
    share = row["largest_step_share"]
    return [
        f"{places.number(row['position']):,}",
        screen.quoted(places.token(prompt, row["position"])),
        _spelled(row["straightness"]),
        _spelled(row["straightness_null"]),
        ratio,
        _spelled(row["turning"]),
        "" if low is None else f"{low:.2f} to {high:.2f}",
        _percent(row["aggregation_share"]),
        _percent(row["self_share"]),
        "" if share is None else f"{share:.0%} (block {row['largest_step_layer']})",
    ]


def _spelled(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"

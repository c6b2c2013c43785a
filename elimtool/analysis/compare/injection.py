"""Describe what the edit of a pair of prompts did to the output, and to each head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.compare.edit import added
from elimtool.analysis.compare.heads import INSTRUCTIONS
from elimtool.files.rows import Rows
from elimtool.run.comparison import Comparison

INJECTED = "injected"
TURNED = 6
"""Heads that are named."""


@dataclass(frozen=True, slots=True)
class OutputChange:
    """What became of the output of a pair.

    Attributes:
        pair: Its row of ``pairs``.
        band: JS (bits) that 95 % of the controls stay below at the output; ``None`` with too few controls.
    """

    pair: dict[str, Any]
    band: float | None

    @property
    def beyond(self) -> bool | None:
        """Whether the output moved beyond the band; ``None`` without one."""
        return None if self.band is None else bool(self.pair["js_output"] > self.band)

    @property
    def changed(self) -> bool:
        """Whether the next token or the continuation differs."""
        written = [self.pair[f"continuation_{side}"] for side in "ab"]
        return bool(self.pair["output_changed"]) or written[0] != written[1]


@dataclass(frozen=True, slots=True)
class Turned:
    """The heads whose attention turns most, and how far heads turn by chance.

    Attributes:
        span: The span that holds the instruction.
        by: Column that orders them: ``focus_z``, or ``z`` if there is no focus.
        heads: Rows of ``head_differences``, the largest moves first.
        chance: Largest absolute z of any head in any control, against the other controls; ``None`` without
            controls.
        focus: Mean focus over all heads on each side; ``None`` if there is none.
    """

    span: str
    by: str
    heads: Rows
    chance: float | None
    focus: tuple[float, float] | None


def output_of(comparison: Comparison, pair: dict[str, Any]) -> OutputChange:
    """Collect what became of the output of a pair, with the band of its controls."""
    rows = comparison.table("divergence")
    own = rows[rows["pair_id"] == pair["pair_id"]]
    border = own["band"].iloc[-1] if len(own) else None
    return OutputChange(pair, None if border is None or pd.isna(border) else float(border))


def is_injection(comparison: Comparison, pair_id: str) -> bool:
    """Return whether a pair has a span ``injected`` and one that holds an instruction."""
    if "head_differences" not in comparison.tables:
        return False
    rows = comparison.table("head_differences")
    spans = set(rows.loc[rows["pair_id"] == pair_id, "span"])
    return INJECTED in spans and not spans.isdisjoint(INSTRUCTIONS)


def injected_words(rows: Rows) -> str:
    """Say what was injected and where, from a pair's rows of ``alignment``; empty if B adds nothing."""
    parts = added(rows)
    if not parts:
        return ""
    text = " ... ".join(part.text.strip() for part in parts)
    places = ", ".join(
        f"{part.first} to {part.last}" if part.last > part.first else f"{part.first}" for part in parts
    )
    noun = "token" if len(parts) == 1 and parts[0].first == parts[0].last else "tokens"
    return f'injected ({noun} {places} of B): "{text}"'


def turned(comparison: Comparison, pair_id: str) -> Turned | None:
    """Find the heads that turn most from or to the instruction; ``None`` without a span for it."""
    if "head_differences" not in comparison.tables:
        return None
    rows = comparison.table("head_differences")
    pairs = comparison.table("pairs")
    controls = pairs.loc[pairs["of"] == pair_id, "pair_id"]
    own = rows[rows["pair_id"] == pair_id]
    span = next((name for name in INSTRUCTIONS if (own["span"] == name).any()), None)
    if span is None:
        return None
    own = own[own["span"] == span]
    others = rows[(rows["span"] == span) & rows["pair_id"].isin(controls)]
    by = "focus_z" if own["focus_shift"].notna().any() else "z"
    size = own[by] if own[by].notna().any() else own["retention_shift"]
    order = size.abs().sort_values(ascending=False, kind="stable", na_position="last").index[:TURNED]
    named = own.loc[order].astype(object)
    chance = others[by].abs().max() if len(others) else float("nan")
    focus = own[["focus_a", "focus_b"]].mean()
    return Turned(
        span,
        by,
        [
            {str(key): value for key, value in row.items()}
            for row in named.where(named.notna(), None).to_dict("records")
        ],
        None if pd.isna(chance) else float(chance),
        None if focus.isna().any() else (float(focus["focus_a"]), float(focus["focus_b"])),
    )


def verdict_of(found: OutputChange, injected: bool) -> str:
    """Say whether the edit changed the output, and by more than any edit of its size would.

    Args:
        found: The output of the pair.
        injected: Whether the edit is an injection.
    """
    pair = found.pair
    if pair["text_a"] == pair["text_b"]:
        return "Nothing differs: the prompts are the same."
    tokens = [f"'{pair[f'top_token_{side}']}' (p = {spell_prob(pair[f'top_prob_{side}'])})" for side in "ab"]
    moved = f"JS {pair['js_output']:.3g} bits"
    if found.band is not None:
        moved += f"; 95% of edits of its size and place stay below {found.band:.3g}"
    if not found.changed:
        first = "No injection happened" if injected else "The output did not change"
        than = "" if found.beyond is None else "; the distribution moved "
        than += {
            None: "",
            True: "further than such edits move it",
            False: "no further than such edits move it",
        }[found.beyond]
        return f"{first}: the next token is the same, {tokens[0]} and {tokens[1]}{than} ({moved})."
    told = f"The next token changed from {tokens[0]} to {tokens[1]}"
    if not pair["output_changed"]:
        told = f"The next token is the same, {tokens[0]} and {tokens[1]}, but what the model writes on is not"
    if found.beyond is None:
        return f"{told} ({moved}). There are too few controls to say whether any edit there would do that."
    if found.beyond:
        read = " Whether the model obeyed is to be read in what it writes on." if injected else ""
        return f"{told}, and the output moved further than other edits move it ({moved}).{read}"
    cause = "the injected text" if injected else "this edit"
    return (
        f"{told}, but the output moved no further than other edits move it ({moved}): nothing says that"
        f" {cause} did it, rather than any text there."
    )

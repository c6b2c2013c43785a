"""Say what became of a target of a run, by the closing sentence and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from elimtool.analysis.closing import closing_sentence
from elimtool.analysis.culprits import key_of
from elimtool.analysis.fate import ChainFate, fate_of
from elimtool.analysis.verdict import attribution_in_words
from elimtool.analysis.verdict_sentence import verdict_sentence
from elimtool.files.rows import Row, Rows

if TYPE_CHECKING:
    from elimtool.run import Run


def story_of(run: Run, prompt: str, position: int | None = None, target: str | None = None) -> str:
    """Say what became of a target at a position.

    Args:
        run: Any run; the sentence leaves out what missing tables would say.
        prompt: Id of the prompt.
        position: Query position; ``None`` for the last probed.
        target: The target as it was asked for; ``None`` for the prompt's first.

    Returns:
        A sentence or two; empty if the run has no ranks of the target.
    """
    lens = [row for row in _rows(run, "lens", prompt) if not row["is_foil"]]
    if not lens:
        return ""
    position = max(row["position"] for row in lens) if position is None else position
    target = lens[0]["target"] if target is None else target
    key = prompt, position, target
    ranks = sorted((row for row in lens if key_of(row) == key), key=lambda row: int(row["layer"]))
    if not ranks:
        return ""
    fates = _fates(run, prompt, position, target)
    course = [(row["layer"], row["rank"]) for row in ranks]
    verdict = next((row for row in _rows(run, "verdicts", prompt) if key_of(row) == key), None)
    if verdict is None:
        last = ranks[-1]
        return closing_sentence(f"'{target}'", course, last["rank"], last["prob"], fates)
    told = verdict_sentence(f"'{target}'", verdict, fates, None)
    words = "; ".join(attribution_in_words(verdict))
    return f"{told} {words[0].upper()}{words[1:]}." if words else told


def _rows(run: Run, table: str, prompt: str) -> Rows:
    if table not in run.tables:
        return []
    found: Rows = run.arrow(table).filter(pc.field("prompt_id") == prompt).to_pylist()
    return found


def _fates(run: Run, prompt: str, position: int, target: str) -> list[ChainFate]:
    stages, rows = (
        [row for row in _rows(run, table, prompt) if row["position"] == position]
        for table in ("sampling", "sampling_targets")
    )
    own: dict[str, list[Row]] = {}
    for row in rows:
        if row["target"] == target:
            own.setdefault(row["chain"], []).append(row)
    return [
        fate_of(chain, found, (stage for stage in stages if stage["chain"] == chain))
        for chain, found in own.items()
    ]

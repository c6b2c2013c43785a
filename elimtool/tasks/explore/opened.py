"""Open a finished run or comparison of any size: its list at once, and of a prompt only what is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.figures.compare.overview import overview as overview_of_pairs
from elimtool.report.figures.compare.pair import PairRows
from elimtool.report.figures.overview import last_of, overview
from elimtool.report.html import compare, payload
from elimtool.run import layout
from elimtool.run.beside import PairGroups, PromptParts
from elimtool.run.comparison import FORM, Comparison, is_comparison, open_comparison
from elimtool.run.reader import Run, open_run
from elimtool.tasks.explore.taken import files_of, zipped

LISTED = (
    *("prompt_id", "status", "error_message", "text", "turns", "group", "tags", "n_tokens"),
    *("clock", "control_tokens"),
)
"""Columns of prompts that its line in the list needs."""
MOST_TEXT = 400
"""Characters of a prompt's text in the list; it is searched there, and shown whole when it is opened."""


def open_any(directory: Path) -> OpenedRun | OpenedComparison:
    """Open a run or a comparison.

    Raises:
        ElimError: It is neither, or it is damaged.
    """
    compared = is_comparison(directory)
    opened = OpenedComparison(open_comparison(directory)) if compared else OpenedRun(open_run(directory))
    _ = opened.front  # what is damaged is said now, not by a page that does not come
    return opened


class OpenedRun:
    """A finished run: ``front`` is what its page shows first."""

    def __init__(self, run: Run) -> None:
        self.run = run.under(None)

    @cached_property
    def front(self) -> Row:
        """Facts and the list of prompts, as ``payload.front`` has them; figures of all come when asked."""
        facts = self.run.manifest
        return {
            "together": f"All {len(self._rows):,} {self.run.noun}s together",
            "noun": self.run.noun,
            "run": {
                "model": facts.model,
                "facts": [facts.dtype, facts.device, f"elimtool {facts.elimtool}"],
                "finished": facts.finished or "",
                "fingerprint": "",
                "heads": "",
            },
            "prompts": [
                _short(payload.line_of(row, self._verdicts.get(row["prompt_id"], []))) for row in self._rows
            ],
        }

    @property
    def model(self) -> str:
        """Name of the model that it was measured with."""
        return self.run.manifest.model

    def prompt(self, index: int) -> Row:
        """Gather a prompt of the list: its ``line``, its ``prompt`` data, and what asks the model the same.

        Raises:
            ElimError: There is no such prompt, or its tables cannot be read.
        """
        if not 0 <= index < len(self._rows):
            raise ElimError(f"the run has no prompt {index}")
        name = self._rows[index]["prompt_id"]
        tables = Tables(self._parts.of(name).under(None))
        prompt = next(row for row in tables.all("prompts") if row["prompt_id"] == name)
        return {
            "line": self._line(prompt),
            "prompt": payload.detail(tables, prompt),
            "asked": asked_of(prompt),
        }

    def archive(self) -> Iterator[bytes]:
        """Pack the run as it lies on disk into a ZIP file, piece by piece."""
        return packed(self.run.path, layout.RUN)

    def together(self) -> Row:
        """Gather the figures of all prompts, and what commands found in the run."""
        tables = Tables(self.run)
        return {"overview": [one.to_json() for one in overview(tables)], "analyses": payload.analyses(tables)}

    def _line(self, prompt: Row) -> Row:
        return payload.line_of(prompt, self._verdicts.get(prompt["prompt_id"], []))

    @cached_property
    def _parts(self) -> PromptParts:
        return PromptParts(self.run)

    @cached_property
    def _rows(self) -> Rows:
        table = self.run.arrow("prompts")
        rows = table.select([name for name in LISTED if name in table.column_names]).to_pylist()
        return [{**dict.fromkeys(LISTED), **row} for row in rows]

    @cached_property
    def _verdicts(self) -> dict[str, Rows]:
        if "verdicts" not in self.run.tables:
            return {}
        wanted = ["prompt_id", "position", "outcome", "target", "cut_stage"]
        return last_of(self.run.arrow("verdicts").select(wanted).to_pylist())


class OpenedComparison:
    """A finished comparison, as ``OpenedRun``."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @cached_property
    def front(self) -> Row:
        """Facts and the list of pairs; of other tables, none is read but the edits of prompts that differ."""
        found = compare.front(self.comparison, brief=True)
        return {**found, "prompts": [_short(one) for one in found["prompts"]]}

    @property
    def model(self) -> str:
        """Name of the model of side A."""
        return self.comparison.a.model

    def prompt(self, index: int) -> Row:
        """Gather a pair of the list.

        Raises:
            ElimError: There is no such pair, or its tables cannot be read.
        """
        listed = self.front["prompts"]
        if not 0 <= index < len(listed):
            raise ElimError(f"the comparison has no pair {index}")
        wanted = listed[index]["id"]
        own = self._groups.of(wanted)
        tables = compare.keyed(own)
        pair = PairRows(tables, next(row for row in tables.all("pairs") if row["pair_id"] == wanted))
        return {"line": compare.line_of(pair), "prompt": compare.detail(own, pair), "asked": None}

    def archive(self) -> Iterator[bytes]:
        """Pack the comparison, as ``OpenedRun.archive`` does."""
        return packed(self.comparison.path, FORM)

    def together(self) -> Row:
        """Gather the figures of all pairs."""
        return {"overview": [one.to_json() for one in overview_of_pairs(compare.keyed(self.comparison))]}

    @cached_property
    def _groups(self) -> PairGroups:
        return PairGroups(self.comparison)


def packed(directory: Path | None, form: layout.Form) -> Iterator[bytes]:
    """Pack a directory that was opened, whichever it is: nothing that a page asks chooses it.

    Raises:
        ElimError: It was never on disk, or it is there no more.
    """
    if directory is None or not directory.is_dir():
        raise ElimError(f"the {form.noun} is not on disk", "start elimtool explore again")
    directory = directory.resolve()  # "." has no name
    return zipped(directory, files_of(directory, form))


def asked_of(prompt: Row) -> Row | None:
    """Return the state of the page that asks a model the same; None for chats of several turns."""
    follow = {"targets": prompt["targets"] or [], "foils": prompt["foils"] or []}
    follow = {name: value for name, value in follow.items() if value}
    turns = {one["role"]: one["text"] for one in prompt["turns"] or ()}
    if not turns:
        return {"prompt": prompt["text"], **follow} if prompt["text"] else None
    if len(turns) != len(prompt["turns"]) or not turns.get("user") or not set(turns) <= {"system", "user"}:
        return None
    system = {"system": turns["system"]} if "system" in turns else {"chat": True}
    return {"prompt": turns["user"], **system, **follow}


def _short(line: Row) -> Row:
    return {**line, "text": line["text"][:MOST_TEXT], "other": line["other"][:MOST_TEXT]}

"""Measure pairs of prompts, and fill the tables of their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from elimtool.analysis.compare.join import Pair, table_of
from elimtool.analysis.compare.prompts import prompt_notes
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import Side
from elimtool.analysis.compare.statistics import statistics
from elimtool.analysis.compare.tables import differences
from elimtool.engine.follow import LEADERS
from elimtool.engine.records import prompt_row
from elimtool.engine.walk import walk
from elimtool.errors import ElimError, Exit
from elimtool.model.view import Encoded, Target
from elimtool.prompts.prompt import Prompt
from elimtool.report.remarks import run_notes
from elimtool.run.comparison import Comparison
from elimtool.run.tables.comparison import COMPARISON_TABLES
from elimtool.samplers import resolve
from elimtool.tasks.compare.asked import Controls
from elimtool.tasks.compare.associations import association_rows
from elimtool.tasks.compare.controls import Control, controls_of
from elimtool.tasks.compare.divergence import Reading, ends, read
from elimtool.tasks.compare.pair import Measured, Seen, aligned, measure_pair
from elimtool.tasks.compare.sides import TracedSide, side_by_side
from elimtool.tasks.compare.spans import absent, encoded, matched, split_requests, with_injected
from elimtool.tasks.compare.templates import rewritten

if TYPE_CHECKING:
    from elimtool.engine.session import Session
    from elimtool.run.manifest import Manifest


class Bench:
    """Measures pairs of prompts and collects the results.

    Args:
        session: What to measure, and with which model.
        controls: Controls of each edit.
    """

    def __init__(self, session: Session, controls: Controls) -> None:
        self.session = session
        self.model = session.model
        self.options = session.options
        self.controls = controls
        self.sides = (TracedSide(session), TracedSide(session))
        self.pairs: list[Pair] = []
        self.measured: list[Measured] = []
        self.failed: list[ElimError] = []
        self.notes: dict[str, None] = {}

    def add(self, a: Prompt, b: Prompt) -> None:
        """Measure one pair.

        Raises:
            ElimError: A prompt cannot be used (with ``errors="raise"``), or two pairs share a prompt on one
                side.
        """
        b = replace(b, targets=b.targets or a.targets, foils=b.foils or a.foils)
        a = replace(a, targets=a.targets or b.targets, foils=a.foils or b.foils)
        found = self._encoded(a, b)
        failed = [one for one in found if isinstance(one, ElimError)]
        if failed and self.options.errors == "raise":
            raise failed[0]
        self.failed += failed
        first, second = (
            prompt_row(prompt, one)["prompt_id"] for prompt, one in zip((a, b), found, strict=True)
        )
        name = first if first == second else f"{first} | {second}"
        if any(first == one.prompt_id_a or second == one.prompt_id_b for one in self.pairs):
            raise ElimError(
                f"two pairs have the same prompt '{first}' or '{second}' on one side",
                "give each prompt an id of its own",
            )
        self.pairs.append(Pair(name, first, second))
        if isinstance(found[0], Encoded) and isinstance(found[1], Encoded):
            self._measure(name, (a, b), (found[0], found[1]))
        else:
            for side, prompt, one in zip(self.sides, (a, b), found, strict=True):
                side.add(prompt, one)

    def add_unread(self, name: str, why: str) -> None:
        """Add a pair with a record that could not be read, as error rows."""
        self.pairs.append(Pair(name, name, name))
        for side in self.sides:
            side.add_unread(name, why)
        self.measured.append(Measured([{"pair_id": name, "error_message": why}]))

    def _encoded(self, a: Prompt, b: Prompt) -> tuple[Encoded | ElimError, Encoded | ElimError]:
        """Tokenise both prompts with comparable spans; an error about both together stands for each."""
        try:
            return self._encode(a, b)
        except ElimError as error:
            return error, error

    def _encode(self, a: Prompt, b: Prompt) -> tuple[Encoded | ElimError, Encoded | ElimError]:
        a, b = self._with_own_spans(a, b)
        found: list[Encoded | ElimError] = []
        for prompt in (a, b):
            try:
                found.append(encoded(self.model, prompt, self.options))
            except ElimError as error:
                found.append(error)
        one, other = found
        if isinstance(one, Encoded) and isinstance(other, Encoded):
            placed = aligned(one, other)
            if self.controls.injection:
                other = with_injected(other, placed, self.model.tokenizer.special_ids)
            other = matched(one, other, placed)
        return one, other

    def _with_own_spans(self, a: Prompt, b: Prompt) -> tuple[Prompt, Prompt]:
        """Give each prompt those of the spans named for both that it contains."""
        both = [request for request in a.spans if request in b.spans]
        if not both:
            return a, b
        texts = self._text(a), self._text(b)
        kept = split_requests(texts, both)
        own = [tuple(one for one in prompt.spans if one not in both) for prompt in (a, b)]
        return replace(a, spans=(*own[0], *kept[0])), replace(b, spans=(*own[1], *kept[1]))

    def _text(self, prompt: Prompt) -> str:
        if not prompt.messages:
            return prompt.text or ""
        return self.model.tokenizer.render(prompt.messages, prompt.chat).text

    def _measure(self, pair_id: str, prompts: tuple[Prompt, Prompt], both: tuple[Encoded, Encoded]) -> None:
        if note := rewritten(*prompts, (both[0].text, both[1].text)):
            self.notes[note] = None
        found = ends(self.model, *both)
        readings = tuple(read(self.model, self.session.lens, residual) for residual in found.residuals)
        a, b = self._following(both, (readings[0], readings[1]))
        measured = side_by_side(self.session, a, b)
        traced = [
            side.add(prompt, one, tables)
            for side, prompt, one, tables in zip(self.sides, prompts, (a, b), measured, strict=True)
        ]
        made = controls_of(self.model, a, b, aligned(a, b), self.controls.count, self.options.seed)
        controls = [*self._paraphrases(prompts[0], pair_id), *made]
        seen = Seen(pair_id, a, b, found, (readings[0], readings[1]), controls)
        more = measure_pair(
            self.model, self.session.lens, self.session.settings, seen, (traced[0], traced[1])
        )
        if self.controls.continuation:
            for name, one in (("a", a), ("b", b)):
                more.pairs[0][f"continuation_{name}"] = self._continued(one)
        more.tables["association_contrast"] = association_rows(self.session, seen)
        self.measured.append(more)

    def _paraphrases(self, a: Prompt, pair_id: str) -> list[Control]:
        """Encode the user's other wordings, with the spans of the first prompt that occur in them."""
        found = []
        for number, given in enumerate(self.controls.paraphrases, start=1):
            worded = given if isinstance(given, Prompt) else _worded(a, given)
            text = self._text(worded)
            spans = tuple(span for span in worded.spans if not absent(span, text))
            prompt = replace(worded, spans=spans, id=f"{pair_id} paraphrase {number}")
            found.append(Control("paraphrase", encoded(self.model, prompt, self.options)))
        return found

    def _following(
        self, both: tuple[Encoded, Encoded], readings: tuple[Reading, Reading]
    ) -> tuple[Encoded, Encoded]:
        """Make both sides follow the most probable tokens of either output, if no target is named."""
        if both[0].targets or both[1].targets:
            return both
        best = [
            reading.logits.topk(min(LEADERS, len(reading.logits))).indices.tolist() for reading in readings
        ]
        logprobs = torch.stack([reading.logprobs[-1] for reading in readings]).amax(0)
        # ties by token id, so that the order does not depend on which prompt comes first
        ids = sorted({token for some in best for token in some}, key=lambda one: (-float(logprobs[one]), one))
        texts = self.model.tokenizer.texts(ids)
        targets = tuple(Target.single(text, token) for text, token in zip(texts, ids, strict=True))
        return replace(both[0], targets=targets), replace(both[1], targets=targets)

    def _continued(self, one: Encoded) -> str:
        """Generate a greedy continuation."""
        steps = walk(self.model, one, resolve("greedy"), self.controls.continuation, self.options.seed)
        return str(self.model.tokenizer.backend.decode([step.token for step in steps]))

    def comparison(
        self,
        a: Manifest,
        b: Manifest,
        options: dict[str, Any],
        started: str,
        unpaired: tuple[int, int] = (0, 0),
    ) -> Comparison:
        """Make the comparison of all pairs.

        Args:
            a: Manifest of side A.
            b: Manifest of side B.
            options: All options of the comparison.
            started: When it began.
            unpaired: Number of prompts without a counterpart, on side A and on side B.

        Raises:
            ElimError: No pair could be compared (exit code 5).
        """
        if not any(one.tables for one in self.measured):
            why = f": {self.failed[0].message}" if self.failed else ""
            raise ElimError(f"none of the {len(self.pairs):,} pairs could be compared{why}", "", Exit.NOTHING)
        runs = [side.run(facts) for side, facts in zip(self.sides, (a, b), strict=True)]
        setting = Setting(Side(runs[0]), Side(runs[1]), tuple(self.pairs), same_tokens=True)
        tables = differences(setting)
        tables["pairs"] = self._pair_table(tables["pairs"])
        made = ("association_contrast",) if self.options.concepts else ()
        for name in ("alignment", "divergence", "flips", *made):
            rows = [row for one in self.measured for row in one.tables.get(name, ())]
            tables[name] = _filled(name, rows)
        heads = [pd.DataFrame(one.heads) for one in self.measured if one.heads]
        tables["head_differences"] = table_of(
            COMPARISON_TABLES["head_differences"], pd.concat(heads) if heads else pd.DataFrame()
        )
        if len(self.pairs) > 1:
            tables["statistics"] = statistics(tables, self.options.seed)
        said = dict.fromkeys(note for run in runs for note in run_notes(run))
        notes = [*prompt_notes(tables["pairs"], options), *self.notes, *said]
        return Comparison.of(
            "prompts", a, b, tables, options=options, notes=notes, unpaired=unpaired, started=started
        )

    def _pair_table(self, traced: Any) -> Any:
        """Make the table ``pairs`` from the traces' rows and what else was measured, controls after pairs."""
        more = {one.pairs[0]["pair_id"]: one.pairs for one in self.measured}
        rows: list[dict[str, Any]] = []
        for row in traced.to_pylist():
            own, *controls = more.get(row["pair_id"], [{}])
            given = {key: row[key] for key in ("group", "category", "template")}
            rows += [{**row, **own}, *({**given, **one} for one in controls)]
        return _filled("pairs", rows)


def _filled(name: str, rows: Sequence[dict[str, Any]]) -> Any:
    """Make a table of the comparison; columns that a row lacks are null."""
    table = COMPARISON_TABLES[name]
    return table.from_rows([{column: row.get(column) for column in table.names} for row in rows])


def _worded(prompt: Prompt, text: str) -> Prompt:
    """Replace the text of a prompt, or of the last message of a chat."""
    if prompt.text is not None:
        return replace(prompt, text=text)
    last = prompt.messages[-1]
    return replace(prompt, messages=(*prompt.messages[:-1], last.saying(text)))

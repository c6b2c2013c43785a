"""Export eliminated answers as training examples, tokenised as they were scored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from itertools import takewhile
from math import isfinite
from pathlib import Path
from typing import Any

from elimtool.analysis.export.choose import REASONS, Chosen, Example, ExportOptions, begins, choose
from elimtool.analysis.export.eliminated import Eliminated, by_reason, eliminated
from elimtool.errors import ElimError, Exit
from elimtool.files.destination import check_file, write_file
from elimtool.files.rows import Row
from elimtool.model.parts import open_tokenizer
from elimtool.model.source import ModelSource
from elimtool.model.tokens import Tokenizer
from elimtool.prompts.chat import ChatSettings
from elimtool.prompts.prompt import ASSISTANT, Message
from elimtool.run import Run
from elimtool.run.reader import as_run
from elimtool.version import __version__

SIDECAR = ".json"
"""Ending that the sidecar's name has after the file's own."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        rows: The rows of the file.
        sidecar: What stands beside it: options, counts, held-out templates, settings.
    """

    rows: tuple[Row, ...]
    sidecar: dict[str, Any]


def export(
    run: Run | str | Path,
    out: str | Path,
    options: ExportOptions,
    *,
    model: str | None = None,
    trust_remote_code: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write the answers that a run's model eliminated as JSON lines for TRL, and a sidecar beside them.

    The tokenizer of the run's model is opened when the first answer that is wanted has to be fitted; until
    then, and where none is, neither torch nor transformers is imported.

    Source of the formats: TRL, ``docs/source/dataset_formats.md``.

    Args:
        run: A finished run with named targets, or its directory.
        out: The file; the sidecar has its name with ``.json`` behind it.
        options: What is exported.
        model: Where the run's model is now, for its tokenizer; ``None`` for where the run says it is.
        trust_remote_code: Whether Python code that comes with the tokenizer may be run.
        overwrite: Whether to replace the files.
        say: Called with a line of text when something slow begins.

    Returns:
        The rows that were written, and the sidecar.

    Raises:
        ElimError: A file exists, the run lacks a table, the tokenizer is another one, or there is nothing to
            export (exit code 5).
    """
    run, out = as_run(run), Path(out)
    beside = out.with_name(out.name + SIDECAR)
    for path in (out, beside):
        check_file(path, overwrite)
    found, templates = eliminated(run)
    if not found:
        what = "none of its named targets was eliminated" if templates else "its prompts name no targets"
        raise ElimError(f"the run has nothing to export: {what}", "", Exit.NOTHING)
    revision = None if model else run.manifest.revision or None
    source = ModelSource(model or run.manifest.model, revision, trust_remote_code=trust_remote_code)
    fitting = _Fitting(source, run.manifest.tokenizer_sha256, options, say)
    say("choosing examples")
    chosen = choose(found, templates, options, fitting.fit)
    if not chosen.examples:
        told = ", ".join(f"{count:,} {REASONS[why]}" for why, count in _ordered(chosen).items())
        raise ElimError(
            f"nothing is left to export: {told}", "see `outcomes` and `with_sampler`", Exit.NOTHING
        )
    name = run.manifest.label or (run.path.name if run.path is not None else run.manifest.fingerprint[:16])
    rows = tuple(row for one in chosen.examples for row in _rows(one, options.format, name))
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    sidecar = _sidecar(run, chosen, options, len(found), len(rows), sha256(content).hexdigest())
    write_file(out, content, overwrite)
    write_file(beside, (json.dumps(sidecar, indent=2, sort_keys=True) + "\n").encode(), overwrite)
    return Exported(rows, sidecar)


@dataclass(frozen=True)
class _Fitting:
    """Makes examples that the run's tokenizer reads as the tokens that were scored."""

    source: ModelSource
    sha256: str | None
    options: ExportOptions
    say: Callable[[str], None]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run's model, opened when it is first used: that imports transformers."""
        self.say(f"opening the tokenizer of {self.source.name}")
        return open_tokenizer(self.source, self.sha256, self.say)

    def fit(self, one: Eliminated) -> Example | str:
        """Make the example of an answer, or say why that cannot be."""
        chat = bool(one.turns)
        if chat and self._rendered(one, one.spelling) != one.prompt["text"] + one.spelling:
            return "template"
        ids = self._ids(one, one.spelling)
        if ids[: len(one.ids)] != one.ids or ids[len(one.ids) : len(one.ids) + 1] != (one.token_id,):
            return "tokens"
        if not self.options.allow_partial and any(_longer(one.spelling, other) for other in one.right):
            return "partial"
        return Example(one, one.spelling, self._rejected(one, len(ids) - one.greedy_from))

    def _ids(self, one: Eliminated, answer: str) -> tuple[int, ...]:
        return self.tokenizer.encode(one.prompt["text"] + answer, special=not one.turns).ids

    def _rendered(self, one: Eliminated, answer: str) -> str:
        """Render a chat with the answer as the assistant's turn, open at its end."""
        turns = [Message(turn["role"], turn["text"]) for turn in one.turns]
        before = turns.pop().content if turns[-1].role == ASSISTANT else ""
        turns.append(Message(ASSISTANT, before + answer))
        try:
            return self.tokenizer.render(turns, ChatSettings(now=one.prompt["clock"])).text
        except ElimError:
            return ""

    def _rejected(self, one: Eliminated, tokens: int) -> str | None:
        """Find a wrong answer: what the model would write in as many tokens, else a foil."""
        return next((text for text in self._wrong(one, tokens) if self._is_wrong(one, text)), None)

    def _wrong(self, one: Eliminated, tokens: int) -> Iterator[str]:
        special = self.tokenizer.special_ids
        written = one.greedy[:tokens]
        whole = list(takewhile(lambda token: token not in special, written))
        if len(written) == tokens or len(whole) < len(written):  # all of them, or its text ends before
            known = (*one.ids[self._plain(one) : one.greedy_from], *whole)
            with suppress(UnicodeDecodeError):  # it ends within a character
                yield b"".join(self.tokenizer.spell(token) for token in known).decode()
        yield from one.foils

    def _plain(self, one: Eliminated) -> int:
        return len(one.ids) - int(one.prompt["n_appended"] or 0)

    def _is_wrong(self, one: Eliminated, text: str) -> bool:
        before = one.ids[: self._plain(one)]
        known = any(begins(text, right) or begins(right, text) for right in (one.spelling, *one.right))
        return bool(text.strip()) and not known and self._ids(one, text)[: len(before)] == before


def _longer(answer: str, other: str) -> bool:
    """Return whether another answer is this one and further words."""
    return begins(answer, other) and not begins(other, answer)


def _rows(made: Example, format: str, run: str) -> Iterator[Row]:
    """Make the rows of an example: for ``kto`` the wrong answer has one of its own."""
    one = made.of
    about = {
        "elim_id": one.elim_id,
        "stage": one.stage,
        "lost_layer": one.lost_layer,
        "cut_chain": one.cut_chain,
        "cut_stage": one.cut_stage,
        "severity": one.severity if isfinite(one.severity) else None,
        "outcome": one.outcome,
        "category": one.prompt["category"],
        "template": one.prompt["template"],
        "run": run,
    }
    prompt, chosen = _said(one, made.chosen)
    rejected = None if made.rejected is None else _said(one, made.rejected)[1]
    if format == "dpo":
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected, **about}
        return
    label = {"label": True} if format == "kto" else {}
    yield {"prompt": prompt, "completion": chosen, **label, **about}
    if format == "kto" and rejected is not None:
        yield {"prompt": prompt, "completion": rejected, "label": False, **about}


def _said(one: Eliminated, answer: str) -> tuple[Any, Any]:
    """Write prompt and answer as TRL reads them: texts, or lists of messages for a chat."""
    if not one.turns:
        return one.prompt["text"], answer
    turns = [{"role": turn["role"], "content": turn["text"]} for turn in one.turns]
    before = turns.pop()["content"] if turns[-1]["role"] == ASSISTANT else ""
    return turns, [{"role": ASSISTANT, "content": before + answer}]


def _ordered(chosen: Chosen) -> dict[str, int]:
    return by_reason(chosen.left_out, tuple(REASONS))


def _sidecar(
    run: Run, chosen: Chosen, options: ExportOptions, n_eliminated: int, n_rows: int, digest: str
) -> dict[str, Any]:
    manifest = run.manifest
    made_of = ("model", "revision", "weights_sha256", "tokenizer_sha256", "label")
    return {
        "elimtool": __version__,
        "sha256": digest,
        "run": {"fingerprint": manifest.fingerprint, **{name: getattr(manifest, name) for name in made_of}},
        "options": asdict(options),
        "n_eliminated": n_eliminated,
        "n_exported": len(chosen.examples),
        "n_rows": n_rows,
        "left_out": _ordered(chosen),
        "held_out_templates": list(chosen.held_out),
        "settings": [
            {"elim_id": one.elim_id, "chain": one.cut_chain, "stage": one.cut_stage, "needed": one.setting}
            for one in chosen.settings
        ],
    }

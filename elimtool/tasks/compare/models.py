"""Compare two models on the same prompts, with one in memory at a time unless both are given loaded."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from elimtool.analysis.compare.join import Pair, table_of
from elimtool.analysis.compare.notes import notes_of
from elimtool.analysis.compare.pairs import pair_rows
from elimtool.analysis.compare.runs import refuse_nothing
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import Side
from elimtool.analysis.compare.statistics import statistics
from elimtool.analysis.compare.tables import NEEDS, differences
from elimtool.engine.intake import ask
from elimtool.engine.options import TraceOptions
from elimtool.engine.session import Session
from elimtool.errors import ElimError
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.view import Encoded
from elimtool.model.wrapping import Bridge, takes_bridges
from elimtool.prompts.position import OnePosition
from elimtool.prompts.prompt import Prompt
from elimtool.report.head import adapters_in_words
from elimtool.report.remarks import run_notes
from elimtool.run.comparison import Comparison
from elimtool.run.manifest import utc_now
from elimtool.run.tables.comparison.layers import DIVERGENCE
from elimtool.run.tables.comparison.pairs import PAIRS
from elimtool.samplers.presets import check_speculative
from elimtool.tasks.compare.asked import check_traced
from elimtool.tasks.compare.drafts import Drafts, Speculation, propose
from elimtool.tasks.compare.readings import Readings, rows_apart
from elimtool.tasks.compare.speculation import judged
from elimtool.tasks.trace import traced

if TYPE_CHECKING:
    from elimtool.run import Run

Loader = Callable[[], Model]

TABLES = ("top_tokens", *dict.fromkeys(name for _, needed in NEEDS.values() for name in needed))
"""Tables for which each model is traced."""


@takes_bridges
def compare_models(
    model_a: Model | Bridge | Loader,
    model_b: Model | Bridge | Loader,
    prompts: str | Prompt | Iterable[str | Prompt],
    *,
    targets: Sequence[str] = (),
    foils: Sequence[str] = (),
    options: TraceOptions | None = None,
    unread: Mapping[str, ElimError] | None = None,
    speculation: Speculation | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare two models on the same prompts; differences are B minus A.

    Layers are compared if both models have the same number, distributions if their vocabularies agree,
    residual streams if their widths agree. If ``lens="auto"`` finds a fitted lens for one model only, both
    are read raw.

    Args:
        model_a: From ``load_model`` or ``wrap``, a ``TransformerBridge``, or a function that loads a model,
            which is then dropped before the other is loaded. Calls on one model wait for each other.
        model_b: Likewise.
        prompts: Strings or ``Prompt`` objects.
        targets: Continuations to follow, for prompts that name none of their own. Without any, each model's
            most probable tokens are followed, and those that both follow are compared.
        foils: Continuations to contrast them with, likewise.
        options: What to trace and how.
        unread: Records of a file that could not be read, by id; they become pairs with the error.
        speculation: Also let model A propose tokens to B, and judge them by what B's chains leave.
        seed: Seeds the resampling of the statistics.
        progress: Called with a line of text when something slow begins.

    Raises:
        ElimError: A model or an option cannot be used, or no prompt can be measured on both (exit code 5).
    """
    assert not isinstance(model_a, Bridge)
    assert not isinstance(model_b, Bridge)
    started = utc_now()
    options = options or TraceOptions()
    check_traced(options, "models")
    if speculation is not None and options.position != "last":
        raise ElimError(
            "`speculation` and `position` cannot be combined",
            "a draft continues the prompt: leave `position` out",
        )
    for spec in options.samplers if speculation is not None else ():
        check_speculative(spec)
    options = replace(options, tables=TABLES, errors="row")
    say = progress or (lambda _line: None)
    asked = ask(prompts, targets, foils)
    say("tracing side A")
    a = _ModelSide.of(model_a, asked, options, speculation)
    asked = [replace(one, id=known) for one, known in zip(asked, a.ids, strict=True)]
    say("tracing side B")
    b = _ModelSide.of(model_b, asked, options, speculation, a.drafts)
    drafted, notes = b.drafted or ({}, [])
    if options.lens == "auto" and (a.readings.lens == "raw") != (b.readings.lens == "raw"):
        fitted = "A" if a.readings.lens != "raw" else "B"
        notes.append(f"A fitted lens is there for {fitted} alone: both models are read raw.")
        raw = replace(options, lens="raw")
        say(f"tracing side {fitted} again, raw")
        a = _ModelSide.of(model_a, asked, raw) if fitted == "A" else a
        b = _ModelSide.of(model_b, asked, raw) if fitted == "B" else b
    pairs = [Pair(name, name, name) for name in a.ids]
    pairs += [Pair(name, None, None, error=str(error)) for name, error in (unread or {}).items()]
    at = options.position
    where: OnePosition = at if isinstance(at, int) and at >= 0 else "last"  # one was probed of each prompt
    same_tokens = a.vocabulary == b.vocabulary
    setting = Setting(Side(a.run, where), Side(b.run, where), tuple(pairs), same_tokens)
    refuse_nothing(setting, (0, 0))
    tables = {**_filled(setting, a, b), **drafted}
    tables["statistics"] = statistics(tables, seed)
    notes += notes_of(setting, (0, 0)) + _notes(a, b)
    for letter, manifest in (("A", a.run.manifest), ("B", b.run.manifest)):
        if manifest.adapters is not None:
            notes.append(f"{letter} is {manifest.model}, {adapters_in_words(manifest.adapters)}.")
    notes += dict.fromkeys(note for side in (a, b) for note in run_notes(side.run))
    a.readings.close()
    b.readings.close()
    stated = {**options.stated(), "seed": seed}
    if speculation is not None:
        stated["speculation"] = asdict(speculation)
    return Comparison.of(
        "models", a.run.manifest, b.run.manifest, tables, options=stated, notes=notes, started=started
    )


@dataclass(frozen=True)
class _ModelSide:
    """One model's run, and the readings of its layers.

    Attributes:
        run: The run.
        readings: Distributions at the compared positions.
        vocabulary: Texts of all tokens in order, equal if token ids mean the same.
        drafts: What the model proposes, if it is the draft of a speculation.
        drafted: What became of it, if it is the target: tables and notes.
    """

    run: Run
    readings: Readings
    vocabulary: tuple[str, ...]
    drafts: Drafts | None = None
    drafted: tuple[dict[str, Any], list[str]] | None = None

    @classmethod
    @exclusive
    def of(
        cls,
        source: Model | Loader,
        asked: Sequence[Prompt],
        options: TraceOptions,
        speculation: Speculation | None = None,
        drafts: Drafts | None = None,
    ) -> _ModelSide:
        model = source if isinstance(source, Model) else source()
        session = Session(model, options)
        vocabulary = tuple(model.tokenizer.texts(range(len(model.tokenizer.backend))))
        found = session.encode_all(asked)
        usable = [one for one in found if isinstance(one, Encoded)]
        drafted, chains = None, session.settings.chains
        if speculation is not None and drafts is not None:  # first: models that do not fit are refused early
            drafted = judged(model, usable, chains, speculation, drafts, vocabulary)
        elif speculation is not None:
            drafts = propose(model, usable, chains, speculation, vocabulary)
        readings = Readings(model, session.lens.name, [one.prompt_id for one in usable])
        run = traced(session, asked, found, extra=[readings.reader])
        if model is not source:  # its modules refer to one another: without this they would stay in memory
            del model
            gc.collect()
        return cls(run, readings, vocabulary, drafts, drafted)

    @property
    def ids(self) -> list[str]:
        """Ids of the prompts, in input order."""
        found: list[str] = self.run.arrow("prompts").column("prompt_id").to_pylist()
        return found


def _filled(setting: Setting, a: _ModelSide, b: _ModelSide) -> dict[str, Any]:
    """Make the tables, the models' distributions included."""
    tables = differences(setting)
    same_vocabulary = setting.same_tokens and a.readings.vocab == b.readings.vocab
    rows: list[Mapping[str, Any]] = []
    for pair in setting.pairs["pair_id"]:
        if pair in a.readings.places and pair in b.readings.places:
            rows += rows_apart(
                pair,
                a.readings.of(pair),
                b.readings.of(pair),
                same_vocabulary=same_vocabulary,
                same_lens=a.readings.lens == b.readings.lens,
            )
    tables["divergence"] = DIVERGENCE.from_rows(rows)
    outputs = {row["pair_id"]: row["js"] for row in rows}  # the last row of a pair is of its outputs
    told = pair_rows(setting)
    told["js_output"] = told["pair_id"].map(outputs).astype("float64")
    tables["pairs"] = table_of(PAIRS, told)
    return tables


def _notes(a: _ModelSide, b: _ModelSide) -> list[str]:
    """Say which distributions and residual streams could not be compared."""
    told = []
    if a.vocabulary != b.vocabulary or a.readings.vocab != b.readings.vocab:
        told.append("The vocabularies differ: distributions are not compared as a whole (js, jaccard).")
    if a.readings.width != b.readings.width:
        told.append("The widths differ: residual streams are not compared.")
    if left_out := max(a.readings.left_out, b.readings.left_out):
        told.append(
            f"Of {left_out:,} of the prompts distributions were not kept: table divergence lacks them."
        )
    return told

"""What ``elimtool trace`` and ``elimtool.trace`` do: the engine's measurements, joined into verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elimtool.analysis.effects import effects
from elimtool.analysis.verdict import verdicts
from elimtool.engine import loop as engine
from elimtool.engine.intake import ask
from elimtool.model.interventions.recording import Recording
from elimtool.model.interventions.recording import record as record_one
from elimtool.run.selection import JUDGED_BY
from elimtool.tasks.confirm import confirm

if TYPE_CHECKING:
    from elimtool.engine.loop import TraceOptions
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run


def trace(
    model: Model,
    prompts: str | Prompt | Iterable[str | Prompt],
    *,
    targets: Sequence[str] = (),
    foils: Sequence[str] = (),
    options: TraceOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Measure what a model eliminates on one prompt or many, and judge what became of each target.

    Args:
        model: From ``elimtool.load_model``.
        prompts: Strings or ``Prompt`` objects.
        targets: Continuations to follow, for prompts that name none of their own.
        foils: Continuations to contrast them with, likewise.
        options: What to measure; the defaults are those of ``elimtool trace``.
        progress: Called with (prompts done, prompts in all).

    Returns:
        A run in memory: ``run.table("lens")`` is a DataFrame, ``run.save(directory)`` writes Parquet.

    Raises:
        ElimError: An option or (with ``errors="raise"``) a prompt cannot be used.
    """
    options = options or engine.TraceOptions()
    asked = ask(prompts, targets, foils)
    run = engine.measure(model, asked, targets=targets, foils=foils, options=options, progress=progress)
    usable = engine.encode_all(model, asked, options) if options.confirm else []
    return judge(model, run, options, usable).only(options.selection().kept)


def prepare(model: Model, options: TraceOptions, progress: Callable[[str], None] | None = None) -> None:
    """Make beforehand what a trace would otherwise make without saying so: activations of reference text.

    Args:
        model: From ``elimtool.load_model``.
        options: What will be traced.
        progress: Called with a line of text when something slow begins.
    """
    if options.confirm or any(each.needs_reference for each in options.interventions):
        from elimtool.engine.reference import ensure_reference

        ensure_reference(model, progress)


def judge(
    model: Model,
    run: Run,
    options: TraceOptions,
    usable: Sequence[Encoded],
    failed: Callable[[Encoded, Exception], None] | None = None,
) -> Run:
    """Join measurements into the tables that are made of others: ``verdicts`` and ``effects``.

    Args:
        model: The model that was measured, without interventions.
        run: From ``engine.measure``, or made of what ``engine.run_batch`` gave.
        options: What was measured.
        usable: The prompts whose verdicts ``options.confirm`` tests.
        failed: Told of a prompt at which a test fails; without, the first failure is raised.

    Returns:
        The run with these tables, where they are asked for and can be made.
    """
    kept = options.selection().kept
    if not kept.isdisjoint(JUDGED_BY) and "survival" in run.tables:
        passes = (None, run.interventions) if options.interventions else (None,)
        judged = [{**row, "intervention": one} for one in passes for row in verdicts(run.under(one))]
        run = run.with_rows("verdicts", judged)
        if options.confirm:
            run = run.with_rows("verdicts", confirm(model, run, usable, options.seed, failed=failed))
    if "effects" in kept and "verdicts" in run.tables:
        run = run.with_rows("effects", effects(run))
    return run


def record(model: Model, prompt: str | Prompt, *, options: TraceOptions | None = None) -> Recording:
    """Record a prompt's activations, to patch them into another run of as many tokens.

    Args:
        model: From ``elimtool.load_model``.
        prompt: One prompt.
        options: Their sinks and target rule; interventions are not in place.

    Raises:
        ElimError: The prompt cannot be used.
    """
    options = options or engine.TraceOptions()
    (asked,) = ask(prompt, (), ())
    (one,) = engine.encode_all(model, [asked], replace(options, interventions=(), errors="raise"))
    return record_one(model, one)

"""Judge a model or a run by a check file: ``elimtool check`` and ``elimtool.run_checks``."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.analysis.check.gate import Update, failing_prompts, judge_run, select_checks, with_stories
from elimtool.analysis.check.read import Checks, read_checks
from elimtool.errors import ElimError, nearest
from elimtool.prompts.chat import PLAIN, ChatSettings
from elimtool.tasks.check.tables import brought, carried

if TYPE_CHECKING:
    from elimtool.analysis.check.findings import Report
    from elimtool.model.model import Model
    from elimtool.model.wrapping import Bridge as TransformerBridge
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run

Say = Callable[[str], None]
Retrace = Callable[[Collection[str], tuple[str, ...] | None], "Run"]

STORY_TABLES = ("lens", "sampling", "sampling_targets", "survival", "components", "verdicts")
"""Tables that the story of a failing prompt is made from."""


def run_checks(
    checks: str | Path,
    *,
    model: Model | TransformerBridge | str | None = None,
    run: Run | str | Path | None = None,
    only: Collection[str] = (),
    baseline: str | Path | None = None,
    update: Update = "none",
    strict: bool = False,
    against: Run | str | Path | None = None,
    batch_size: int = 8,
    threads: int | None = None,
    chat: ChatSettings = PLAIN,
    model_sampling: bool | None = None,
    plugins: Sequence[Any] = (),
    progress: Say | None = None,
    **loading: Any,
) -> Report:
    """Judge the model of a check file, which is run once, or an existing run.

    Args:
        checks: The check file.
        model: From ``load_model`` or ``wrap``, or a ``TransformerBridge``; calls on one wait for each other.
            Or a name that overrides the file's.
        run: A run or its directory, to be judged instead of running the model; needs no torch.
        only: Ids of the checks to judge; empty for all.
        baseline: File of the baseline, instead of the check file's.
        update: ``all`` writes a new baseline, ``new`` adds missing values to it.
        strict: Whether warnings fail too.
        against: Another run or its directory, whose values are compared prompt by prompt.
        batch_size: Prompts in one forward pass at most.
        threads: Number of threads that torch uses; ``None`` leaves it unchanged.
        chat: What chat templates are given, over what the check file says.
        model_sampling: Whether engines' chains have the model's own settings laid over them, instead of what
            the check file says.
        plugins: As in ``TraceOptions``: stages, metrics and lenses that the file names.
        progress: Called with a line of text when something slow begins.
        loading: Other arguments of ``load_model`` that override the file's: ``dtype``, ``device``, ...

    Returns:
        A report: ``report.passed``, ``report.summary``, ``report.exit_code``.

    Raises:
        ElimError: The check file, the model or the run cannot be used, or nothing is selected.
    """
    return gate(
        checks,
        model=model,
        run=run,
        only=only,
        baseline=baseline,
        update=update,
        strict=strict,
        against=against,
        batch_size=batch_size,
        threads=threads,
        chat=chat,
        model_sampling=model_sampling,
        plugins=plugins,
        progress=progress,
        **loading,
    ).report


@dataclass(frozen=True, slots=True)
class Gated:
    """A report and the run that it judges.

    Attributes:
        report: The report.
        run: The run.
        retrace: Traces some of its prompts again, for more tables.
    """

    report: Report
    run: Run
    retrace: Retrace

    def explained(self, name: str) -> Run:
        """Trace the first prompt that a check fails on, or else its first prompt, with all tables.

        Args:
            name: Id of the check.

        Raises:
            ElimError: There is no such check, or it is not about single prompts.
        """
        known = {result.check.id: result for result in self.report.results}
        if name not in known:
            raise ElimError(f"`explain`: there is no check '{name}'", nearest(name, tuple(known)))
        found = (*known[name].bad, *known[name].findings)
        prompts = [one.prompt for one in found if one.prompt is not None]
        if not prompts:
            raise ElimError("`explain` tells a story of one prompt", "name a check of prompts")
        return self.retrace(prompts[:1], None)


def gate(
    checks: str | Path,
    *,
    model: Model | TransformerBridge | str | None = None,
    run: Run | str | Path | None = None,
    only: Collection[str] = (),
    baseline: str | Path | None = None,
    update: Update = "none",
    strict: bool = False,
    against: Run | str | Path | None = None,
    batch_size: int = 8,
    threads: int | None = None,
    chat: ChatSettings = PLAIN,
    model_sampling: bool | None = None,
    plugins: Sequence[Any] = (),
    progress: Say | None = None,
    **loading: Any,
) -> Gated:
    """Do what ``run_checks`` does, and return also the judged run; arguments and errors as there."""
    started = time.monotonic()
    only = (only,) if isinstance(only, str) else only  # a str is a collection of its letters, too
    from elimtool.run import open_run

    if plugins:
        from elimtool.engine.plugins import plug

        plug(plugins)
    if run is not None:
        found, retrace = _opened(run, model)
        read = read_checks(checks, model_sampling=model_sampling, others=carried(found))
    else:
        read = read_checks(checks, model_sampling=model_sampling, others=brought)
        found, retrace = _measured(read, only, model, batch_size, threads, chat, progress, loading)
    other = open_run(against) if isinstance(against, (str, Path)) else against
    report = judge_run(
        read,
        found,
        only=only,
        update=update,
        strict=strict,
        baseline=Path(baseline) if baseline else None,
        against=other,
    ).report
    return Gated(replace(_told(report, found, retrace), seconds=time.monotonic() - started), found, retrace)


def _opened(run: Run | str | Path, model: Model | TransformerBridge | str | None) -> tuple[Run, Retrace]:
    from elimtool.run.several import open_found

    if model is not None:
        raise ElimError("a run and a model were both given", "leave one of the two out")
    found = open_found(run) if isinstance(run, (str, Path)) else run
    found = found.under(found.interventions)
    return found, lambda prompts, _tables: only_prompts(found, prompts)


def only_prompts(run: Run, prompts: Collection[str]) -> Run:
    """Keep the rows of some prompts only."""
    import pyarrow.compute as pc

    from elimtool.run import Run

    mine = pc.field("prompt_id").isin(list(prompts))
    return Run.from_tables(run.manifest, {name: run.arrow(name).filter(mine) for name in run.tables})


def _measured(
    read: Checks,
    only: Collection[str],
    model: Model | TransformerBridge | str | None,
    batch_size: int,
    threads: int | None,
    chat: ChatSettings,
    progress: Say | None,
    loading: dict[str, Any],
) -> tuple[Run, Retrace]:
    """Run the model once for all checks; errors of the check file are raised before it is loaded."""
    from elimtool.tasks.check import measure
    from elimtool.tasks.check.prompts import prompts_of

    wanted = select_checks(read, only)
    prompts = prompts_of(read, wanted, chat)
    options = measure.options_of(read, wanted, batch_size)
    loaded = measure.load(read, model, loading, progress)
    if progress is not None:
        progress(f"tracing {len(prompts):,} prompts")
    with measure.threads(threads):
        found = measure.measure(loaded, prompts, options, wanted)
    asked: dict[str, Prompt] = dict(
        zip(found.arrow("prompts").column("prompt_id").to_pylist(), prompts, strict=True)
    )

    def retrace(names: Collection[str], tables: tuple[str, ...] | None) -> Run:
        return measure.measure(loaded, [asked[name] for name in names], replace(options, tables=tables))

    return found, retrace


def _told(report: Report, run: Run, retrace: Retrace) -> Report:
    """Add the stories of the failing prompts, which are traced again if the run lacks tables for them."""
    failing = failing_prompts(report)
    if not failing:
        return report
    whole = set(STORY_TABLES) <= set(run.tables)
    return with_stories(report, run if whole else retrace(failing, STORY_TABLES), failing)

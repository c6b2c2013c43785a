"""Measure prompts, and judge what became of each target: ``elimtool trace``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from elimtool.analysis.contrasts import contrasts
from elimtool.analysis.effects import effects
from elimtool.analysis.verdict import verdicts
from elimtool.engine.forward import Extra
from elimtool.engine.intake import ask, encode, fingerprint
from elimtool.engine.loop import Passes
from elimtool.engine.options import TraceOptions
from elimtool.engine.records import arrow_table, prompt_rows
from elimtool.engine.session import Session
from elimtool.errors import ElimError
from elimtool.metrics.attention_weights import refuse_together
from elimtool.model.interventions.recording import Recording
from elimtool.model.interventions.recording import record as record_one
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.view import Encoded
from elimtool.model.wrapping import Bridge, takes_bridges
from elimtool.run.roles import with_source_roles
from elimtool.run.selection import MAY_BE_EMPTY
from elimtool.tasks.ablate_each import ablate_each
from elimtool.tasks.confirm import confirm
from elimtool.tasks.confirm_edges import confirm_edges

if TYPE_CHECKING:
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run


@takes_bridges
@exclusive
def trace(
    model: Model | Bridge,
    prompts: str | Prompt | Iterable[str | Prompt],
    *,
    targets: Sequence[str] = (),
    foils: Sequence[str] = (),
    options: TraceOptions | None = None,
    plugins: Sequence[Any] = (),
    keep_attention: bool = False,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Measure what a model eliminates on one prompt or many, and judge what became of each target.

    Args:
        model: From ``load_model`` or ``wrap``, or a ``TransformerBridge``; calls on one wait for each other.
        prompts: Strings or ``Prompt`` objects.
        targets: Continuations to follow, for prompts that name none of their own.
        foils: Continuations to contrast them with, likewise.
        options: What to measure; the defaults are those of ``elimtool trace``.
        plugins: More of ``options.plugins``.
        keep_attention: Keep the attention weights of every head at the probed positions, or of those in
            ``options.attention_of``, for ``Run.attention``: at most some 4 million of a prompt, and 33
            million in all.
        progress: Called with (prompts done, prompts in all).
        say: Called with a line of text while something slow is under way.

    Returns:
        A run in memory: ``run.table("lens")`` is a DataFrame, ``run.save(directory)`` writes Parquet.

    Raises:
        ElimError: An option or (with ``errors="raise"``) a prompt cannot be used.
    """
    assert isinstance(model, Model)
    options = with_plugins(options or TraceOptions(), plugins)
    if keep_attention and not options.attention_of:
        heads = product(model.attending, range(model.n_heads))
        options = replace(options, attention_of=tuple(f"{layer}.{head}" for layer, head in heads))
    session = Session(model, options)
    asked = ask(prompts, targets, foils)
    options.refuse_untargeted(asked)
    return traced(session, asked, session.encode_all(asked), progress=progress, say=say)


def with_plugins(options: TraceOptions, plugins: Sequence[Any]) -> TraceOptions:
    """Return options with more plugins.

    Raises:
        ElimError: One cannot be used.
    """
    return replace(options, plugins=(*options.plugins, *plugins)) if plugins else options


def traced(
    session: Session,
    asked: Sequence[Prompt],
    found: Sequence[Encoded | ElimError],
    *,
    extra: Sequence[Extra] = (),
    under: Sequence[Extra] = (),
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Trace tokenised prompts.

    Args:
        session: What to measure, and with which model.
        asked: The prompts.
        found: From ``session.encode_all``.
        extra: Further metrics of the caller, for the pass without interventions.
        under: Those for the pass under the interventions.
        progress: Called with (prompts done, prompts in all).
        say: Called with a line of text while something slow is under way.
    """
    from elimtool.run import Run
    from elimtool.run.manifest import utc_now

    started = utc_now()
    usable = [one for one in found if isinstance(one, Encoded)]
    refuse_together(usable, len(session.options.chosen_heads))
    passes = Passes(session, extra=extra, under=under)
    passes.run(usable, session.options.batch_size, progress)
    rows = prompt_rows(asked, found)
    rows = {**rows, "token_priors": [session.priors_of(ids) for ids in rows["token_ids"]]}
    prompts = arrow_table("prompts", rows)
    # without foils the tables of contrasts are there too, as in a batch, and empty
    tables = passes.tables(prompts.column("prompt_id").to_pylist(), session.measured & MAY_BE_EMPTY)
    facts = session.manifest(started, usable, prompts_sha256=fingerprint(asked))
    run = Run.from_tables(facts, {"prompts": prompts, **tables})
    return judge(session, run, usable, say=say).only(session.kept)


@exclusive
def prepare(model: Model, options: TraceOptions, progress: Callable[[str], None] | None = None) -> None:
    """Make the activations of reference text if a trace needs them, so that ``progress`` can report it.

    Args:
        model: From ``elimtool.load_model``; calls that run one model wait for each other.
        options: What will be traced.
        progress: Called with a line of text when something slow begins.
    """
    if options.confirm or options.ablate_each or any(each.needs_reference for each in options.interventions):
        from elimtool.engine.reference import ensure_reference

        ensure_reference(model, progress)


def judge(
    session: Session,
    run: Run,
    usable: Sequence[Encoded],
    failed: Callable[[Encoded, Exception], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Add the tables that are joined from others, and those of tests by ablation.

    Args:
        session: What was measured.
        run: The measured tables.
        usable: The prompts whose verdicts ``options.confirm`` tests.
        failed: Called for a prompt whose test fails; without, the first failure is raised.
        say: Called with a line of text while something slow is under way.

    Returns:
        The run with these tables, if they are kept and can be computed.
    """
    kept, options = session.kept, session.options
    passes = (None, run.interventions) if options.interventions else (None,)
    if "contrasts" in kept and "contrast_layers" in run.tables:
        rows = [{**row, "intervention": one} for one in passes for row in contrasts(run.under(one))]
        run = run.with_rows("contrasts", rows)
    if not kept.isdisjoint({"verdicts", "effects"}) and "survival" in run.tables:
        judged = [{**row, "intervention": one} for one in passes for row in verdicts(run.under(one))]
        run = run.with_rows("verdicts", judged)
        if options.confirm:
            tested = confirm(
                session.model, run, usable, options.seed, _telling(say, "testing verdicts", "prompts"), failed
            )
            run = run.with_rows("verdicts", tested)
            if "source_spans" in run.tables:
                edges = confirm_edges(session.model, run, usable, options.seed, failed)
                run = run.with_rows("source_spans", edges)
    if run.roles and "source_spans" in run.tables:
        spans = run.arrow("source_spans").to_pylist()
        run = run.with_rows("source_spans", [with_source_roles(row, run.roles) for row in spans])
    if "ablations" in kept and "survival" in run.tables:
        tell = _telling(say, "ablating each head and MLP", "passes")
        rows = ablate_each(session.model, run, usable, options.seed, failed, tell)
        run = run.with_rows("ablations", rows)
    if "effects" in kept and "verdicts" in run.tables:
        run = run.with_rows("effects", effects(run))
    return run


def _telling(say: Callable[[str], None] | None, what: str, noun: str) -> Callable[[int, int], None] | None:
    if say is None:
        return None
    return lambda done, of: say(f"{what}: {done:,} of {of:,} {noun}")


@takes_bridges
@exclusive
def record(model: Model | Bridge, prompt: str | Prompt, *, options: TraceOptions | None = None) -> Recording:
    """Record a prompt's activations, to patch them into a pass over another prompt of as many tokens.

    Args:
        model: From ``load_model`` or ``wrap``, or a ``TransformerBridge``; calls on one wait for each other.
        prompt: One prompt.
        options: Sinks and target rule; interventions are ignored.

    Raises:
        ElimError: The prompt cannot be used.
    """
    assert isinstance(model, Model)
    options = replace(options or TraceOptions(), interventions=())
    (asked,) = ask(prompt, (), ())
    return record_one(model, encode(model, asked, options))

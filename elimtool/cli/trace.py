"""``elimtool trace``: trace one prompt, as a story, Parquet or JSON."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elimtool.cli import options as shared
from elimtool.cli.asked import (
    Chat,
    ChatOptions,
    Prefill,
    PromptFile,
    PromptText,
    System,
    check_spans,
    prompt_of,
    prompt_text,
)
from elimtool.cli.blocks import spread
from elimtool.cli.interventions import Confirm, InterventionOptions, SaveActivations
from elimtool.cli.loading import ModelOptions
from elimtool.cli.measuring import AUTO
from elimtool.cli.requests import MeasureOptions, Seeds, check_seeds
from elimtool.cli.typed import typed
from elimtool.errors import ElimError
from elimtool.files.destination import check_file
from elimtool.prompts.prompt import WRITTEN
from elimtool.suites.seeds import seeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from elimtool.cli.output import Output
    from elimtool.engine.options import TraceOptions
    from elimtool.model.model import Model
    from elimtool.model.source import ModelSource
    from elimtool.prompts.prompt import Prompt
    from elimtool.report.trace.advice import Commands, Wish
    from elimtool.run import Run

    Keep = Callable[[Model, Prompt, TraceOptions], None]
    Tell = Callable[[Run, Console], None]

ANSWER = "top_tokens"
"""The table that says what the model would write, which no story can do without."""
SHOWN = ("out", "overwrite", "quiet", "as_json", "verbose", "save_activations")
"""How a result is shown and kept: left out where a command is offered."""


@spread
def trace(
    context: typer.Context,
    *,
    prompt: PromptText = None,
    file: PromptFile = None,
    chat: Chat = False,
    system: System = None,
    prefill: Prefill = None,
    target: shared.Target = None,
    foil: shared.Foil = None,
    span: Annotated[
        list[str] | None,
        shared.option(
            "--span", metavar="NAME=TEXT", help="Part of the prompt to sum attention over; repeatable."
        ),
    ] = None,
    templated: ChatOptions,
    measured: MeasureOptions,
    seeds: Seeds = None,
    changed: InterventionOptions,
    save_activations: SaveActivations = None,
    confirm: Confirm = False,
    saved: shared.SaveOptions,
    model: ModelOptions,
    printed: shared.CommonOptions,
    verbose: shared.Verbose = False,
) -> None:
    """Trace one prompt: what the model would write, and where and by what your targets were eliminated."""
    _refuse_silent_detail(verbose, printed, saved.out)
    in_chat = chat or system is not None
    text = prompt_text(prompt, file, printed.output.note, chat=in_chat, exact=measured.repeat > 0)
    asked = prompt_of(text, chat, system, target or (), foil or (), span or (), prefill, templated.made())
    check_spans(asked)
    changes = changed.made(measured.seed)
    changed.check_prompt(asked)
    check_seeds(seeds, measured.generate, measured.concept)
    if seeds is not None and save_activations is not None:
        raise ElimError("`seeds` does not go with `save_activations`", "leave one of the two out")
    written = {"position": WRITTEN} if seeds is not None else {}
    wanted = measured.made(tables=_told(measured.named), interventions=changes, confirm=confirm, **written)
    wanted.refuse_untargeted([asked])
    saved.check()
    if save_activations is not None:
        check_file(save_activations, saved.overwrite, "save_activations")
    keep = None if save_activations is None else partial(_record, save_activations, saved.overwrite)
    prompts = [asked] if seeds is None else seeded(asked, seeds)
    run = _measure(printed.output, prompts, wanted, model.source, keep, finds_map=measured.map == AUTO)
    from elimtool.report.remarks import shipped_notes
    from elimtool.report.trace.story import print_story

    saved.write(run)
    offers = _offers(context, saved.out, model.model)
    story = partial(print_story, verbose=verbose, commands=offers)
    tell: Tell = story
    if seeds is not None:
        tell = _with_stability(run, saved.out, partial(story, most_prompts=1))
    printed.output.result(run, saved.out, printed.as_json, tell)
    for note in shipped_notes(run.manifest):
        printed.output.note(note)


def _with_stability(run: Run, out: Path | None, tell: Tell) -> Tell:
    """Analyse texts of several seeds, keep what is found, and tell it behind the story."""
    from elimtool.analysis.populations.sweep.api import sweep
    from elimtool.report.populations.sections import print_analysis

    found = sweep(run, seed=run.manifest.seed or 0)
    if out is not None:
        found.save(out)

    def both(run: Run, console: Console) -> None:
        tell(run, console)
        print_analysis(found, console)

    return both


def _refuse_silent_detail(verbose: bool, printed: shared.CommonOptions, out: Path | None) -> None:
    if verbose and printed.as_json:
        raise ElimError("`verbose` and `as_json` were both given", "JSON has everything: leave `verbose` out")
    if verbose and printed.quiet and out is not None:
        raise ElimError(
            "`verbose` with `quiet` and `out`: only the path is printed", "leave `verbose` or `quiet` out"
        )


def _told(named: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The tables asked for, and the one that says what the model would write."""
    return named if named is None or ANSWER in named else (*named, ANSWER)


def _offers(context: typer.Context, out: Path | None, model: str) -> Commands:
    """What could be typed next, by purpose."""
    offers: dict[str, Callable[[Wish], list[str]]] = {
        "spelling": lambda _: _spelling(context),
        "samplers": partial(_samplers, context),
        "foil": lambda wish: typed(context, None, "--foil", wish.foil, without=SHOWN),
        "confirm": lambda _: typed(context, None, "--confirm", without=SHOWN),
        "attribute": partial(_attribute, context),
    }
    if context.params["lens"] == "auto":  # read raw, so that none was fitted
        offers["fit"] = lambda _: ["elimtool", "lens", "fit", "-m", model]
    else:
        offers["ridge"] = lambda _: typed(context, None, "--lens", "ridge", without=(*SHOWN, "lens"))
    return offers if out is None else offers | {"report": lambda _: ["elimtool", "report", str(out)]}


def _spelling(context: typer.Context) -> list[str]:
    """The command that lets the model choose the spelling; nothing where it did."""
    exact = context.params["target_space"] == "exact"
    return typed(context, None, without=(*SHOWN, "target_space")) if exact else []


def _samplers(context: typer.Context, wish: Wish) -> list[str]:
    """The command with the setting that keeps the target; nothing where the chain is a file."""
    from elimtool.samplers import with_setting

    given = context.params["samplers"]
    changed = with_setting(wish.chain, wish.stage, wish.value)
    if not changed or (given and wish.chain not in given):
        return []
    chains = [changed if one == wish.chain else one for one in given or (wish.chain,)]
    chosen = [] if context.params["chain"] != wish.chain else ["--chain", changed]
    more = [word for one in chains for word in ("--samplers", one)] + chosen
    return typed(context, None, *more, without=(*SHOWN, "samplers", *(["chain"] if chosen else [])))


def _attribute(context: typer.Context, wish: Wish) -> list[str]:
    """The command that attributes the prediction which the story tells."""
    given = context.params
    without, more = [*SHOWN], []
    written = wish.place.startswith(WRITTEN)
    if not wish.single:
        without.append("position")
        more = [f"--at={wish.place}"]
    if not written:
        without += ["generate", "chain"]
    elif given["samplers"] and not given["chain"]:
        more += ["--chain", given["samplers"][0]]
    return typed(context, "attribute", *more, without=without)


def _measure(
    output: Output,
    prompts: list[Prompt],
    wanted: TraceOptions,
    source: ModelSource,
    keep: Keep | None,
    *,
    finds_map: bool,
) -> Run:
    from elimtool.tasks.map.kept import with_roles
    from elimtool.tasks.trace import prepare
    from elimtool.tasks.trace import trace as measure

    name = source.name
    with output.progress(f"loading {name}") as say:
        loaded = source.load(say)
        if finds_map:
            wanted = with_roles(wanted, loaded)
        prepare(loaded, wanted, say)
        say("tracing")
        run = measure(loaded, prompts, options=wanted, say=say)
        if keep is not None:
            keep(loaded, prompts[0], wanted)
    return run


def _record(path: Path, overwrite: bool, model: Model, asked: Prompt, wanted: TraceOptions) -> None:
    from elimtool.tasks.trace import record

    record(model, asked, options=wanted).save(path, overwrite)

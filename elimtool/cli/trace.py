"""``elimtool trace``: trace one prompt, as a story, Parquet or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from elimtool.cli import options as shared
from elimtool.cli.asked import Chat, PromptFile, PromptText, System, prompt_of, prompt_text
from elimtool.cli.blocks import spread
from elimtool.cli.interventions import Confirm, InterventionOptions, SaveActivations

if TYPE_CHECKING:
    from elimtool.cli.output import Output
    from elimtool.engine.options import TraceOptions
    from elimtool.model.source import ModelSource
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run


@spread
def trace(
    *,
    prompt: PromptText = None,
    file: PromptFile = None,
    chat: Chat = False,
    system: System = None,
    target: shared.Target = None,
    foil: shared.Foil = None,
    span: Annotated[
        list[str] | None,
        shared.option(
            "--span", metavar="NAME=TEXT", help="Part of the prompt to sum attention over; repeatable."
        ),
    ] = None,
    measured: shared.MeasureOptions,
    changed: InterventionOptions,
    save_activations: SaveActivations = None,
    confirm: Confirm = False,
    saved: shared.SaveOptions,
    model: shared.ModelOptions,
    printed: shared.CommonOptions,
) -> None:
    """Trace one prompt: which tokens kept attention, how targets ranked layer by layer, what samplers cut."""
    text = prompt_text(prompt, file)
    asked = prompt_of(text, chat, system, target or (), foil or (), span or ())
    wanted = measured.made(interventions=changed.made(measured.seed), confirm=confirm)
    saved.check()
    run = _measure(printed.output, asked, wanted, model.source, save_activations)
    from elimtool.report.trace.story import print_story

    saved.write(run)
    printed.output.result(run, saved.out, printed.as_json, print_story)


def _measure(
    output: Output, asked: Prompt, wanted: TraceOptions, source: ModelSource, save: Path | None
) -> Run:
    from elimtool.tasks.trace import prepare, record
    from elimtool.tasks.trace import trace as measure

    name = source.name
    with output.progress(f"loading {name}") as say:
        loaded = source.load(say)
        prepare(loaded, wanted, say)
        say("tracing")
        run = measure(loaded, asked, options=wanted)
        if save is not None:
            record(loaded, asked, options=wanted).save(save)
    if wanted.lens == "auto" and run.manifest.lens == "raw":
        output.note(f"no fitted lens for {name}: layers are read raw; fit one: elimtool lens fit -m {name}")
    return run

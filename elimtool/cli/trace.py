"""``elimtool trace``: one prompt through every metric, as a story, as Parquet or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from elimtool.cli import interventions as changes
from elimtool.cli import options as shared
from elimtool.cli.asked import Chat, PromptFile, PromptText, System, prompt_of, prompt_text
from elimtool.cli.output import Output

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run


def trace(
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
    position: shared.Position = "last",
    samplers: shared.Samplers = None,
    lens: shared.LensName = "auto",
    sinks: shared.Sinks = "auto",
    target_space: shared.TargetSpace = "auto",
    heads: Annotated[
        bool | None,
        shared.switch(
            "--heads/--no-heads",
            help="Fill the tables of single heads. Without: yes, unless --position all.",
        ),
    ] = None,
    tables: shared.TableNames = None,
    generate: shared.Generate = 0,
    chain: shared.WalkChain = None,
    seed: shared.Seed = 0,
    ablate: changes.AblateNames = None,
    ablate_with: changes.AblateWith = "mean",
    scale: changes.ScaleNames = None,
    knockout: changes.KnockoutNames = None,
    knockout_from: changes.KnockoutFrom = "last",
    patch: changes.PatchFiles = None,
    save_activations: changes.SaveActivations = None,
    confirm: changes.Confirm = False,
    out: shared.Out = None,
    overwrite: Annotated[
        bool, shared.switch("--overwrite", help="Replace the run in --out.", panel=shared.OUTPUT)
    ] = False,
    model: shared.ModelName = "smollm2",
    revision: shared.Revision = None,
    dtype: shared.Dtype = "float32",
    device: shared.Device = "auto",
    trust_remote_code: shared.TrustRemoteCode = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
    config: shared.Config = None,
) -> None:
    """Trace one prompt: which tokens kept attention, how targets ranked layer by layer, what samplers cut."""
    del config  # its values are the other parameters' defaults by now
    output = Output(quiet)
    text = prompt_text(prompt, file)
    asked = prompt_of(text, chat, system, target or (), foil or (), span or ())
    wanted = shared.trace_options(
        position,
        samplers,
        lens=lens,
        sinks=sinks,
        target_space=target_space,
        heads=heads,
        tables=tables,
        generate=generate,
        chain=chain,
        seed=seed,
        interventions=changes.gather(ablate, ablate_with, scale, knockout, knockout_from, patch, seed),
        confirm=confirm,
    )
    if out is not None:
        from elimtool.run.writer import check_directory

        check_directory(out, overwrite)
    source = (model, revision, dtype, device, trust_remote_code)
    run = _measure(output, asked, wanted, source, save_activations)
    if out is not None:
        run.save(out, overwrite=overwrite)
    _show(output, run, out, as_json)


def _measure(
    output: Output,
    asked: Prompt,
    wanted: TraceOptions,
    source: tuple[str, str | None, str, str, bool],
    save: Path | None,
) -> Run:
    from elimtool.model.loading import load_model
    from elimtool.tasks.trace import trace as measure

    name, revision, dtype, device, trust = source
    with output.progress(f"loading {name}") as say:
        loaded = load_model(
            name, revision=revision, dtype=dtype, device=device, trust_remote_code=trust, progress=say
        )
        if wanted.confirm or any(each.needs_reference for each in wanted.interventions):
            from elimtool.engine.reference import ensure_reference

            ensure_reference(loaded, say)
        say("tracing")
        run = measure(loaded, asked, options=wanted)
        if save is not None:
            from elimtool.tasks.trace import record

            record(loaded, asked, options=wanted).save(save)
    if wanted.lens == "auto" and run.manifest.lens == "raw":
        output.note(f"no fitted lens for {name}: layers are read raw; fit one: elimtool lens fit -m {name}")
    return run


def _show(output: Output, run: Run, out: Path | None, as_json: bool) -> None:
    def story() -> None:
        from elimtool.report.terminal import print_story

        print_story(run, output.console)

    output.result(run, out, as_json, story)

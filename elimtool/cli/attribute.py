"""``elimtool attribute``: which part of a prompt did it, by several methods, as a table, Parquet or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.asked import Chat, PromptFile, PromptText, System, prompt_of, prompt_text
from elimtool.cli.output import Output
from elimtool.errors import ElimError, Exit

if TYPE_CHECKING:
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run
    from elimtool.tasks.attribute.options import AttributeOptions


def attribute(
    prompt: PromptText = None,
    file: PromptFile = None,
    prompts: Annotated[
        Path | None,
        shared.option(
            "--prompts", metavar="FILE", help="Attribute every prompt of a file, as batch reads it."
        ),
    ] = None,
    chat: Chat = False,
    system: System = None,
    target: Annotated[
        list[str] | None,
        shared.option(
            "-t", "--target", help="What to attribute; repeatable. Without: the most probable token."
        ),
    ] = None,
    foil: Annotated[
        list[str] | None,
        shared.option(
            "--foil", help="Attribute the target's log-odds against this instead; several count together."
        ),
    ] = None,
    span: Annotated[
        list[str] | None,
        shared.option(
            "--span",
            metavar="NAME=TEXT",
            help="Part of the prompt to attribute to; repeatable. The rest stays.",
        ),
    ] = None,
    units: Annotated[
        str,
        shared.option(
            "--units",
            metavar="KIND",
            env="UNITS",
            help="What the parts are: auto (named spans, else chat roles, else tokens of short prompts, else"
            " sentences), spans, roles, sentences or tokens.",
        ),
    ] = "auto",
    method: Annotated[
        list[str] | None,
        shared.option(
            "--method",
            metavar="NAME",
            env="METHOD",
            help="leave-one-out, leave-one-out-masked, knockout, knockout-later, gradient-x-input,"
            " integrated-gradients, contextcite, or all; repeatable. Without: both leave-one-outs"
            " and contextcite.",
        ),
    ] = None,
    windows: Annotated[
        int, shared.option("--windows", metavar="N", help="Windows of layers that a knockout is told by.")
    ] = 5,
    ablations: Annotated[
        int, shared.option("--ablations", metavar="N", help="Random ablations that contextcite fits.")
    ] = 64,
    steps: Annotated[
        int,
        shared.option("--steps", metavar="N", help="Gradients that integrated-gradients may take at most."),
    ] = 512,
    position: Annotated[
        str,
        shared.option(
            "--position",
            metavar="WHICH",
            help="Token whose prediction is attributed: last, or an index from 0.",
            env="POSITION",
        ),
    ] = "last",
    sinks: shared.Sinks = "auto",
    target_space: shared.TargetSpace = "auto",
    seed: Annotated[
        int, shared.option("--seed", metavar="N", env="SEED", help="Seed of the random ablations.")
    ] = 0,
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
    """Say which part of a prompt did it: what each part adds to a target, by several methods side by side."""
    del config  # its values are the other parameters' defaults by now
    output = Output(quiet)
    if prompts is None:
        text = prompt_text(prompt, file)
        asked = [prompt_of(text, chat, system, target or (), foil or (), span or ())]
    else:
        refuse_beside_file(prompt=prompt, file=file, chat=chat or None, system=system, span=span)
        asked = read_prompts(prompts)
    wanted = _options(
        method,
        position,
        units=units,
        sinks=sinks,
        target_space=target_space,
        windows=windows,
        ablations=ablations,
        steps=steps,
        seed=seed,
        errors="raise" if prompts is None else "row",
    )
    if out is not None:
        from elimtool.run.writer import check_directory

        check_directory(out, overwrite)
    source = (model, revision, dtype, device, trust_remote_code)
    run = _measure(output, asked, (target or (), foil or ()), wanted, source)
    if out is not None:
        run.save(out, overwrite=overwrite)
    _show(output, run, out, as_json)
    if "error" in set(run.prompts["status"]):
        raise typer.Exit(Exit.PARTIAL)


def refuse_beside_file(**given: Any) -> None:
    """Refuse what a file of prompts says itself.

    Raises:
        ElimError: Something is given beside it.
    """
    for name, value in given.items():
        if value is not None:
            what = "PROMPT" if name == "prompt" else f"--{name}"
            raise ElimError(f"{what} and --prompts exclude each other", "leave one of the two out")


def read_prompts(path: Path) -> list[Prompt]:
    """All prompts of a file.

    Raises:
        ElimError: The file or one of its records cannot be read, or it holds none (exit code 5).
    """
    from elimtool.prompts.file import PromptFile

    found: list[Prompt] = []
    with PromptFile(path) as records:
        for record in records.records():
            if isinstance(record.prompt, ElimError):
                raise record.prompt
            found.append(record.prompt)
    if not found:
        raise ElimError(f"{path} holds no record", "put at least one prompt into it", Exit.NOTHING)
    return found


def _options(method: list[str] | None, position: str, **others: Any) -> AttributeOptions:
    from elimtool.tasks.attribute.options import METHODS, AttributeOptions

    if not position.isdigit() and position != "last":
        raise ElimError(f"--position '{position}' is not valid", "give last, or an index from 0")
    named = tuple(name.strip() for given in method for name in given.split(",")) if method else None
    if named is not None and "all" in named:
        named = METHODS
    probe: Any = int(position) if position.isdigit() else position
    return AttributeOptions(methods=named, position=probe, **others)


def _measure(
    output: Output,
    asked: list[Prompt],
    follow: tuple[Any, Any],
    wanted: AttributeOptions,
    source: tuple[str, str | None, str, str, bool],
) -> Run:
    from elimtool.model.loading import load_model
    from elimtool.tasks.attribute.api import attribute as measure

    name, revision, dtype, device, trust = source
    with output.progress(f"loading {name}") as say:
        loaded = load_model(
            name, revision=revision, dtype=dtype, device=device, trust_remote_code=trust, progress=say
        )
        say("attributing")
        return measure(
            loaded,
            asked,
            targets=follow[0],
            foils=follow[1],
            options=wanted,
            progress=lambda done, total: say(f"attributing: {done} of {total} methods done"),
        )


def _show(output: Output, run: Run, out: Path | None, as_json: bool) -> None:
    def story() -> None:
        from elimtool.report.attribution import print_attribution

        print_attribution(run, output.console)

    output.result(run, out, as_json, story)

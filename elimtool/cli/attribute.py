"""``elimtool attribute``: which part of a prompt caused a prediction, by several methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from elimtool.cli.loading import ModelOptions
from elimtool.cli.measuring import ModelSampling, Plugin, plugged
from elimtool.errors import ElimError, Exit
from elimtool.prompts.position import parse_position

if TYPE_CHECKING:
    from elimtool.cli.output import Output
    from elimtool.model.source import ModelSource
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run
    from elimtool.tasks.attribute.options import AttributeOptions


@spread
def attribute(
    *,
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
    prefill: Prefill = None,
    target: Annotated[
        list[str] | None,
        shared.option(
            "-t", "--target", help="Continuation to attribute; repeatable. Without: the most probable token."
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
        int, shared.option("--windows", metavar="N", help="Number of layer windows to report knockouts for.")
    ] = 5,
    ablations: Annotated[
        int,
        shared.option("--ablations", metavar="N", help="Number of random ablations that contextcite fits."),
    ] = 64,
    steps: Annotated[
        int,
        shared.option("--steps", metavar="N", help="Largest number of gradients for integrated-gradients."),
    ] = 512,
    position: Annotated[
        str,
        shared.option(
            "--position",
            "--at",
            metavar="WHICH",
            help="Token whose prediction is attributed: last, an index from 0 (-1 is the last), or written:3,"
            " the place of a token that the model wrote.",
            env="POSITION",
        ),
    ] = "last",
    generate: Annotated[
        int,
        shared.option(
            "--generate",
            metavar="N",
            help="Tokens to write for --at written:K. Without: as many as it needs.",
        ),
    ] = 0,
    chain: Annotated[
        str, shared.option("--chain", metavar="CHAIN", help="Sampler chain to write through.")
    ] = "llama.cpp",
    plugin: Plugin = None,
    sinks: shared.Sinks = "auto",
    target_space: shared.TargetSpace = "auto",
    seed: Annotated[
        int,
        shared.option(
            "--seed", metavar="N", env="SEED", help="Seed of the random ablations, and of what is written."
        ),
    ] = 0,
    model_sampling: ModelSampling = True,
    templated: ChatOptions,
    saved: shared.SaveOptions,
    model: ModelOptions,
    printed: shared.CommonOptions,
) -> None:
    """Say which part of a prompt did it: what each part adds to a target, by several methods side by side."""
    plugged(plugin)
    if prompts is None:
        text = prompt_text(prompt, file, printed.output.note, chat=chat or system is not None)
        settings = templated.made()
        asked = [prompt_of(text, chat, system, target or (), foil or (), span or (), prefill, settings)]
        check_spans(asked[0])
    else:
        refuse_beside_file(
            prompt=prompt, file=file, chat=chat or None, system=system, prefill=prefill, span=span
        )
        from elimtool.prompts.file import read_prompts

        read, unread = read_prompts(prompts)
        asked = [one.with_chat(templated.made(of_file=True)) for one in read]
        for error in unread.values():
            raise error
    from elimtool.tasks.attribute.options import METHODS, AttributeOptions

    named = tuple(name.strip() for given in method for name in given.split(",")) if method else None
    words: dict[str, Any] = {
        "position": parse_position(position, several=False),
        "target_space": target_space,
    }
    wanted = AttributeOptions(
        methods=METHODS if named and "all" in named else named,
        **words,
        units=units,
        sinks=sinks,
        windows=windows,
        ablations=ablations,
        steps=steps,
        generate=generate,
        chain=chain,
        model_sampling=model_sampling,
        seed=seed,
        errors="raise" if prompts is None else "row",
    )
    saved.check()
    run = _measure(printed.output, asked, (target or (), foil or ()), wanted, model.source)
    from elimtool.report.attribute.story import print_attribution

    saved.write(run)
    printed.output.result(run, saved.out, printed.as_json, print_attribution)
    printed.output.notes(run)
    if "error" in set(run.prompts["status"]):
        raise typer.Exit(Exit.PARTIAL)


def refuse_beside_file(**given: Any) -> None:
    """Refuse options that every record of a prompt file sets for itself.

    Raises:
        ElimError: One of them is given.
    """
    for name, value in given.items():
        if value is not None:
            what = "PROMPT" if name == "prompt" else f"`{name}`"
            raise ElimError(f"{what} and --prompts cannot be combined", "leave one of the two out")


def _measure(
    output: Output,
    asked: list[Prompt],
    follow: tuple[Any, Any],
    wanted: AttributeOptions,
    source: ModelSource,
) -> Run:
    from elimtool.tasks.attribute.api import attribute as measure

    with output.progress(f"loading {source.name}") as say:
        loaded = source.load(say)
        say("attributing")
        return measure(
            loaded,
            asked,
            targets=follow[0],
            foils=follow[1],
            options=wanted,
            progress=lambda done, total: say(f"attributing: {done} of {total} methods done"),
        )

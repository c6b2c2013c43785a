"""``elimtool locate``: where in layers and positions sits what decides between two continuations."""

from __future__ import annotations

from typing import Annotated, Any

from elimtool.cli import options as shared
from elimtool.cli.asked import (
    Chat,
    ChatOptions,
    Prefill,
    PromptFile,
    PromptText,
    System,
    ended,
    prompt_of,
    prompt_text,
)
from elimtool.cli.blocks import spread
from elimtool.cli.loading import ModelOptions


@spread
def locate(
    *,
    prompt: PromptText = None,
    file: PromptFile = None,
    corrupt: Annotated[
        str | None,
        shared.option(
            "--corrupt",
            metavar="PROMPT",
            help="The prompt with some tokens exchanged one for one, so that it says something else.",
        ),
    ] = None,
    noise: Annotated[
        str | None,
        shared.option(
            "--noise", metavar="TEXT", help="Instead of --corrupt: part of the prompt to put noise on."
        ),
    ] = None,
    chat: Chat = False,
    system: System = None,
    prefill: Prefill = None,
    target: Annotated[
        str | None, shared.option("-t", "--target", help="What the clean prompt says, such as Paris.")
    ] = None,
    foil: Annotated[
        str | None,
        shared.option(
            "--foil",
            help="What the corrupt prompt says. Without: the target's logit is compared with the mean logit.",
        ),
    ] = None,
    sites: Annotated[
        str,
        shared.option(
            "--sites",
            metavar="NAMES",
            env="SITES",
            help="What to patch: residual, attention, mlp, head, several joined by commas, or all.",
        ),
    ] = "residual",
    fine: Annotated[
        bool,
        shared.switch(
            "--fine",
            help="Patch every single layer and position, with the whole null. Without: of large maps"
            " stretches first, and nothing more is run for a cell that cannot count any more.",
        ),
    ] = False,
    target_space: shared.TargetSpace = "auto",
    seed: Annotated[int, shared.option("--seed", metavar="N", env="SEED", help="Seed of the noise.")] = 0,
    templated: ChatOptions,
    saved: shared.SaveOptions,
    model: ModelOptions,
    printed: shared.CommonOptions,
) -> None:
    """Say where what decides between two answers sits: activation patching by layer and position."""
    from elimtool.errors import ElimError

    text = prompt_text(prompt, file, printed.output.note, chat=chat or system is not None)
    given = templated.made()
    follow = [target] if target else [], [foil] if foil else []
    clean = prompt_of(text, chat, system, *follow, (), prefill, settings=given)
    if target is None:
        raise ElimError("there is no target", "say with `target` what the clean prompt says, such as Paris")
    other = None
    if corrupt is not None:
        text = ended(corrupt, printed.output.note, chat or system is not None, "the corrupt prompt")
        other = prompt_of(text, chat, system, (), (), (), prefill, settings=given)
    from elimtool.tasks.locate.options import SITES, LocateOptions

    named = tuple(name.strip() for name in sites.split(","))
    words: dict[str, Any] = {"target_space": target_space}
    wanted = LocateOptions(sites=tuple(SITES) if "all" in named else named, fine=fine, seed=seed, **words)
    saved.check()
    from elimtool.tasks.locate.api import locate as measure

    with printed.output.progress(f"loading {model.source.name}") as say:
        loaded = model.source.load(say)
        say("locating")
        run = measure(
            loaded,
            clean,
            other,
            noise=noise,
            options=wanted,
            progress=lambda done, total: say(f"locating: {done} of {total} cells patched"),
        )
    from elimtool.report.locate.story import print_location

    saved.write(run)
    printed.output.result(run, saved.out, printed.as_json, print_location)
    printed.output.notes(run)

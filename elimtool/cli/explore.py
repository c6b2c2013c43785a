"""``elimtool explore``: ask a model in the browser, change something, and look again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.loading import ModelOptions
from elimtool.cli.output import Output
from elimtool.cli.repeating import command_of
from elimtool.errors import ElimError

SERVER = "Server"
LOCAL = ("127.0.0.1", "localhost", "::1")


@spread
def explore(
    context: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Argument(
            help="Finished run or comparison to look at, whose model is asked unless -m names another.",
            metavar="RUN",
            show_default=False,
        ),
    ] = None,
    *,
    lens: Annotated[
        str | None,
        shared.option(
            "--lens",
            metavar="NAME",
            help="A lens file, or ridge, that the page offers beside auto and raw.",
            env="LENS",
        ),
    ] = None,
    grammar: Annotated[
        list[str] | None,
        shared.option(
            "--grammar", metavar="FILE", help="A grammar (Lark or GBNF) that the page offers; repeatable."
        ),
    ] = None,
    patch: Annotated[
        list[str] | None,
        shared.option(
            "--patch",
            metavar="FILE",
            help="Activations of elimtool trace --save-activations that the page offers; repeatable.",
        ),
    ] = None,
    amateur: Annotated[
        list[str] | None,
        shared.option(
            "--amateur",
            metavar="MODEL",
            help="A second model that the page offers to chains that move away from one; repeatable.",
        ),
    ] = None,
    host: Annotated[
        str,
        shared.option(
            "--host",
            metavar="ADDRESS",
            panel=SERVER,
            help="Address to serve on. Any other than this machine's own needs --token.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        shared.option("--port", metavar="N", panel=SERVER, help="Port to serve on; 0 for any that is free."),
    ] = 0,
    token: Annotated[
        str | None,
        shared.option(
            "--token",
            metavar="TEXT",
            panel=SERVER,
            help="Secret part of the address, 16 letters or digits or more. Without: a random one.",
            env="TOKEN",
        ),
    ] = None,
    browser: Annotated[
        bool, shared.switch("--browser/--no-browser", panel=SERVER, help="Open the page in the browser.")
    ] = True,
    model: ModelOptions,
    quiet: shared.Quiet = False,
) -> None:
    """Explore a model in the browser: ask, look, change the prompt, a sampler or a head, and look again.

    Prints the address, which holds a secret, and serves until it is interrupted. Nothing leaves this machine.
    No request names a file but those that are named here, and none writes one, but a lens that is fitted.
    """
    if host not in LOCAL and token is None:
        raise ElimError(
            f"`host` {host} lets other machines ask the model and read what was asked",
            "give a secret for the address with `token`, or leave `host` out",
        )
    if not 0 <= port < 2**16:
        raise ElimError(f"`port` must be 0 to 65535, got {port}")
    from elimtool.tasks.explore.asked import Offered
    from elimtool.tasks.explore.opened import open_any
    from elimtool.tasks.explore.serve import check_token, serve
    from elimtool.tasks.explore.states import TracedStates

    opened = None if directory is None else open_any(directory)
    source = model.source
    if opened is not None and "model" in shared.given_from(context, "DEFAULT"):
        source = replace(source, name=opened.model)
    secret = None if token is None else check_token(token)
    output = Output(quiet)
    if host not in LOCAL:
        output.note(
            f"everyone who reaches {host} and knows the address can ask the model and see what was asked"
        )
    lenses = tuple(dict.fromkeys(("auto", "raw", *([] if lens is None else [lens]))))
    offered = Offered(lenses, tuple(grammar or ()), tuple(patch or ()), tuple(amateur or ()))
    serve(TracedStates(source, command_of), host, port, secret, offered, browser, output.line, opened)

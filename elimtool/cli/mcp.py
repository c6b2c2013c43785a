"""``elimtool mcp``: offer trace, compare, check and query to agents, over standard input and output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from elimtool.cli import options as shared
from elimtool.errors import ElimError
from elimtool.model import DEFAULT_MODEL


def mcp(
    root: Annotated[
        Path,
        shared.option(
            "--root",
            metavar="DIR",
            help="Folder of runs and check files: tools read and write there and nowhere else.",
        ),
    ] = Path(),
    model: Annotated[
        list[str] | None,
        shared.option(
            "-m",
            "--model",
            metavar="NAME",
            help="A model that agents may use; repeatable, the first is the default. Without: smollm2.",
            panel=shared.MODEL,
        ),
    ] = None,
    samplers: Annotated[
        list[str] | None,
        shared.option(
            "--samplers", metavar="CHAIN", help="Sampler chain of traces that name none; repeatable."
        ),
    ] = None,
) -> None:
    """Serve agents by the Model Context Protocol (stdio): tools trace, compare, check and query.

    Answers, prompts, rows and time are bounded; models are those named here, files those in --root.
    """
    if not root.is_dir():
        raise ElimError(f"{root} is not a folder", "make it, or name another with `root`")
    from elimtool.cli.agent import Desk, server

    chains = tuple(samplers or ("llama.cpp", "hf", "vllm"))
    made = server(Desk(root, tuple(model or (DEFAULT_MODEL,)), chains))
    made.run("stdio")

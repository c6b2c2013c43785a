"""Options that several commands share, spelled once: flag, environment variable, help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from elimtool.errors import ElimError, nearest


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Lay a config file under the flags and the environment: its keys are the command's option names."""
    if path is None:
        return None
    from elimtool.config.files import read_yaml

    given = read_yaml(path)
    if not isinstance(given, dict):
        raise ElimError(f"{path}: a config file is a mapping of option names to values")
    options = {name for p in context.command.params if (name := p.name) and name not in ("config", "prompt")}
    defaults: dict[str, Any] = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name not in options:
            shown = tuple(sorted(option.replace("_", "-") for option in options))
            raise ElimError(f"{path}: unknown key '{key}'", nearest(str(key), shown))
        defaults[name] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


EPILOG = "Options can also be set in the environment, such as ELIMTOOL_MODEL, and in a --config file."

MODEL = "Model"
OUTPUT = "Output"
WORD = "TEXT"


def option(
    *flags: str, help: str, metavar: str = WORD, panel: str | None = None, env: str | None = None
) -> Any:
    """An option with a short metavar; ``env`` is its environment variable's name after ``ELIMTOOL_``."""
    return typer.Option(
        *flags,
        help=help,
        metavar=metavar,
        rich_help_panel=panel,
        envvar=f"ELIMTOOL_{env}" if env else None,
        show_envvar=False,
    )


def switch(*flags: str, help: str, panel: str | None = None, env: str | None = None) -> Any:
    """An option without a value."""
    return typer.Option(
        *flags, help=help, rich_help_panel=panel, envvar=f"ELIMTOOL_{env}" if env else None, show_envvar=False
    )


ModelName = Annotated[
    str,
    option(
        "-m",
        "--model",
        help="Catalogue name, Hugging Face id, local directory or .gguf file.",
        metavar="NAME",
        panel=MODEL,
        env="MODEL",
    ),
]
Revision = Annotated[
    str | None,
    option("--revision", help="Branch, tag or commit of a Hugging Face id.", panel=MODEL, env="REVISION"),
]
Dtype = Annotated[
    str,
    option(
        "--dtype",
        help="float32, bfloat16, float16, float64, or auto for the checkpoint's own.",
        metavar="TYPE",
        panel=MODEL,
        env="DTYPE",
    ),
]
Device = Annotated[
    str,
    option(
        "--device",
        help="auto (CUDA if there is one), cpu, cuda, cuda:N or mps.",
        metavar="NAME",
        panel=MODEL,
        env="DEVICE",
    ),
]
TrustRemoteCode = Annotated[
    bool,
    switch("--trust-remote-code", help="Run Python code that comes with the checkpoint.", panel=MODEL),
]
Quiet = Annotated[
    bool,
    switch(
        "-q",
        "--quiet",
        help="No progress or notes; with --out, print only its path.",
        panel=OUTPUT,
        env="QUIET",
    ),
]
Json = Annotated[bool, switch("--json", help="Print JSON instead of the readable form.", panel=OUTPUT)]
Config = Annotated[
    Path | None,
    typer.Option(
        envvar="ELIMTOOL_CONFIG",
        show_envvar=False,
        metavar="FILE",
        help="YAML file of option names and values; flags and the environment go before it.",
        rich_help_panel=OUTPUT,
        callback=_read_config,
        is_eager=True,
    ),
]

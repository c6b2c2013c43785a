"""Options that several commands share, spelled once: flag, environment variable, help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.errors import ElimError, nearest

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions


"""Parameters that a config file cannot set."""


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Lay a config file under the flags and the environment: its keys are the command's option names."""
    if path is None:
        return None
    from elimtool.files.yaml import read_yaml

    given = read_yaml(path)
    if not isinstance(given, dict):
        raise ElimError(f"{path}: a config file is a mapping of option names to values")
    options = {
        name
        for p in context.command.params
        if (name := p.name) and name not in ("config", "prompt", "prompts")
    }
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


Target = Annotated[
    list[str] | None,
    option("-t", "--target", help="Continuation to follow; repeatable. Without: the model's own leaders."),
]
Foil = Annotated[
    list[str] | None, option("--foil", help="Continuation to contrast targets with; repeatable.")
]
Position = Annotated[
    str,
    option(
        "--position", metavar="WHICH", help="Token to probe: last, all, or an index from 0.", env="POSITION"
    ),
]
Samplers = Annotated[
    list[str] | None,
    option(
        "--samplers",
        metavar="CHAIN",
        env="SAMPLERS",
        help="Sampler chain: an engine's name, a YAML file, or stages such as top_k=40,temperature=0.8;"
        " repeatable. Without: llama.cpp, hf and vllm.",
    ),
]
LensName = Annotated[
    str,
    option(
        "--lens",
        metavar="NAME",
        env="LENS",
        help="How layers before the last are read out: auto (the model's fitted lens, else raw), raw,"
        " ridge, or a lens file.",
    ),
]
Sinks = Annotated[
    str,
    option(
        "--sinks",
        metavar="RULE",
        env="SINKS",
        help="Attention sinks: auto (position 0 and special tokens), none, or positions such as 0,5.",
    ),
]
TargetSpace = Annotated[
    str,
    option(
        "--target-space",
        metavar="RULE",
        env="TARGET_SPACE",
        help="auto puts a space before a target where text has one; exact takes it as it is.",
    ),
]
TableNames = Annotated[
    list[str] | None,
    option(
        "--tables",
        metavar="NAMES",
        env="TABLES",
        help="Fill these tables alone, such as lens,survival; what they do not need is not measured.",
    ),
]
Generate = Annotated[
    int, option("--generate", metavar="N", help="Let the model write N tokens, with a ledger a step.")
]
WalkChain = Annotated[
    str | None,
    option("--chain", metavar="CHAIN", help="Which of --samplers to write through. Without: the first."),
]
Seed = Annotated[
    int, option("--seed", metavar="N", env="SEED", help="Seed of all draws: --generate, resample, --confirm.")
]
Out = Annotated[
    Path | None,
    option("-o", "--out", metavar="DIR", help="Write the tables to this new directory.", panel=OUTPUT),
]


def trace_options(
    position: str, samplers: list[str] | None, tables: list[str] | None, **others: Any
) -> TraceOptions:
    """Check what can be checked before a model is loaded: a mistyped sampler should not cost ten seconds."""
    from elimtool.engine.options import DEFAULT_SAMPLERS, TraceOptions
    from elimtool.samplers import resolve

    if not position.isdigit() and position not in ("last", "all"):
        raise ElimError(f"--position '{position}' is not valid", "give last, all, or an index from 0")
    chains = tuple(samplers or DEFAULT_SAMPLERS)
    for chain in chains:
        resolve(chain)
    probe: Any = int(position) if position.isdigit() else position
    wanted = tuple(name.strip() for given in tables for name in given.split(",")) if tables else None
    return TraceOptions(position=probe, samplers=chains, tables=wanted, **others)


def batch_heads(heads: bool | None, tables: list[str] | None) -> bool | None:
    """Over a whole file single heads are looked at only where they are asked for."""
    from elimtool.run.selection import HEADS

    named = any(name.strip() in HEADS for given in tables or () for name in given.split(","))
    return False if heads is None and not named else heads


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

"""Declare the options that several commands share: flag, environment variable, help.

Options that go together are a block: a frozen dataclass, which a command takes as one parameter, see
``elimtool.cli.blocks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli.completing import by_flag
from elimtool.cli.config import read_config
from elimtool.cli.output import Output

if TYPE_CHECKING:
    from elimtool.run import Run


EPILOG = "Options can also be set in the environment, such as ELIMTOOL_MODEL, and in a --config file."

MODEL = "Model"
OUTPUT = "Output"
WORD = "TEXT"


def option(
    *flags: str, help: str, metavar: str | None = WORD, panel: str | None = None, env: str | None = None
) -> Any:
    """Declare an option; ``env`` is its environment variable's name after ``ELIMTOOL_``."""
    return typer.Option(
        *flags,
        help=help,
        metavar=metavar,
        rich_help_panel=panel,
        envvar=f"ELIMTOOL_{env}" if env else None,
        show_envvar=False,
        autocompletion=by_flag(flags),
    )


def switch(*flags: str, help: str, panel: str | None = None, env: str | None = None) -> Any:
    """Declare an option without a value."""
    return option(*flags, help=help, metavar=None, panel=panel, env=env)


def given_from(context: typer.Context, source: str) -> set[str]:
    """Names of the parameters whose values come from a source, such as ``COMMANDLINE`` or ``ENVIRONMENT``."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, found in sources.items() if found is not None and found.name == source}


Target = Annotated[
    list[str] | None,
    option(
        "-t",
        "--target",
        help="Continuation to follow; repeatable. Without: tokens that lead the output or a layer.",
    ),
]
Foil = Annotated[
    list[str] | None, option("--foil", help="Continuation to contrast targets with; repeatable.")
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
Out = Annotated[
    Path | None,
    option("-o", "--out", metavar="DIR", help="Write the tables to this new directory.", panel=OUTPUT),
]
Label = Annotated[
    str | None,
    option(
        "--label",
        metavar="TEXT",
        help="Your name for the run in --out, such as a build's number; elimtool query orders by it.",
        panel=OUTPUT,
        env="LABEL",
    ),
]
Overwrite = Annotated[bool, switch("--overwrite", help="Replace the run in --out.", panel=OUTPUT)]
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
Verbose = Annotated[
    bool,
    switch(
        "-v",
        "--verbose",
        help="Show every layer, sampler stage, span and target, not one screen's summary.",
        panel=OUTPUT,
    ),
]
Json = Annotated[bool, switch("--json", help="Print JSON instead of the readable form.", panel=OUTPUT)]
Config = Annotated[
    Path | None,
    typer.Option(
        envvar="ELIMTOOL_CONFIG",
        show_envvar=False,
        metavar="FILE",
        help="YAML file of option names and values; flags and the environment override it.",
        rich_help_panel=OUTPUT,
        callback=read_config,
        is_eager=True,
    ),
]


@dataclass(frozen=True)
class SaveOptions:
    """Where a run is written."""

    out: Out = None
    overwrite: Overwrite = False
    label: Label = None

    def check(self) -> None:
        """Refuse a directory that cannot be written, before any work is done.

        Raises:
            ElimError: The directory holds something else, or it cannot be made.
        """
        if self.out is not None:
            from elimtool.run.writer import check_directory

            check_directory(self.out, self.overwrite)

    def write(self, run: Run) -> None:
        """Write a run, if it is to be written."""
        if self.out is not None:
            run.labelled(self.label).save(self.out, overwrite=self.overwrite)


@dataclass(frozen=True)
class PrintOptions:
    """How a result is printed."""

    as_json: Json = False
    quiet: Quiet = False

    @property
    def output(self) -> Output:
        """The sink to print to."""
        return Output(self.quiet)


@dataclass(frozen=True)
class CommonOptions(PrintOptions):
    """How a result is printed, and a config file of defaults."""

    config: Config = None

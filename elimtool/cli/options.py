"""Declare the options that several commands share: flag, environment variable, help.

Options that go together are a block: a frozen dataclass, which a command takes as one parameter, see
``elimtool.cli.blocks``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli.config import read_config
from elimtool.cli.output import Output
from elimtool.model import DEFAULT_MODEL
from elimtool.model.source import ModelSource
from elimtool.prompts.position import parse_position

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
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
ModelSampling = Annotated[
    bool,
    switch(
        "--model-sampling/--no-model-sampling",
        help="Lay the settings that the model ships with (generation_config.json, GGUF general.sampling) over"
        " an engine's chain, as the engine does by default; what --samplers says wins.",
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
Revision = Annotated[
    str | None,
    option("--revision", help="Branch, tag or commit of a Hugging Face id.", panel=MODEL, env="REVISION"),
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
DeviceMap = Annotated[
    str | None,
    option(
        "--device-map",
        help="Spread the weights over GPUs, memory and disk: auto, balanced, or a JSON file of devices.",
        metavar="MAP",
        panel=MODEL,
        env="DEVICE_MAP",
    ),
]
NDevices = Annotated[
    int | None,
    option("--n-devices", help="Spread the weights evenly over N GPUs.", metavar="N", panel=MODEL),
]
Quantize = Annotated[
    str | None,
    option(
        "--quantize",
        help="Quantise while loading: 8bit or 4bit (bitsandbytes).",
        metavar="TYPE",
        panel=MODEL,
        env="QUANTIZE",
    ),
]
TrustRemoteCode = Annotated[
    bool, switch("--trust-remote-code", help="Run Python code that comes with the checkpoint.", panel=MODEL)
]
Base = Annotated[
    str | None,
    option(
        "--base",
        metavar="NAME",
        help="Base model of an adapter given as -m. Without: the one that the adapter names.",
        panel=MODEL,
    ),
]
Out = Annotated[
    Path | None,
    option("-o", "--out", metavar="DIR", help="Write the tables to this new directory.", panel=OUTPUT),
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
class ReadOptions:
    """Which token is read, through which lens, and which sampler chains are applied."""

    position: Annotated[
        str,
        option(
            "--position",
            metavar="WHICH",
            help="Tokens to probe: last, all, an index from 0 (-1 is the last), or a list such as 4,7-9.",
            env="POSITION",
        ),
    ] = "last"
    samplers: Annotated[
        list[str] | None,
        option(
            "--samplers",
            metavar="CHAIN",
            env="SAMPLERS",
            help="Sampler chain: an engine's name, a YAML file, or stages such as top_k=40,temperature=0.8;"
            " repeatable. Without: llama.cpp, hf and vllm.",
        ),
    ] = None
    model_sampling: ModelSampling = True
    lens: Annotated[
        str,
        option(
            "--lens",
            metavar="NAME",
            env="LENS",
            help="How layers before the last are read out: auto (the model's fitted lens, else raw), raw,"
            " ridge, or a lens file.",
        ),
    ] = "auto"
    sinks: Sinks = "auto"
    target_space: TargetSpace = "auto"

    def made(self, **others: Any) -> TraceOptions:
        """Make the options of a trace.

        Args:
            others: Options of the trace that are not in this block.

        Raises:
            ElimError: A value cannot be used.
        """
        from elimtool.engine.options import DEFAULT_SAMPLERS, TraceOptions
        from elimtool.samplers import resolve

        chains = tuple(self.samplers or DEFAULT_SAMPLERS)
        for chain in chains:
            resolve(chain)  # before a model is loaded: a mistyped chain should not cost ten seconds
        own = {**asdict(self), "position": parse_position(self.position), "samplers": chains}
        return TraceOptions(**{**own, **others})


@dataclass(frozen=True)
class MeasureOptions(ReadOptions):
    """What a trace measures."""

    heads: Annotated[
        bool | None,
        switch(
            "--heads/--no-heads",
            help="Fill the tables of single heads and experts. Without: yes, unless --position all.",
        ),
    ] = None
    attention_of: Annotated[
        list[str] | None,
        option(
            "--attention-head",
            metavar="L.H",
            help="Keep every attention weight of this head, such as 17.3; repeatable. With --position all:"
            " its whole attention matrix.",
        ),
    ] = None
    ablate_each: Annotated[
        bool,
        switch("--ablate-each", help="Ablate every head and MLP by itself: a pass for each, so minutes."),
    ] = False
    tables: Annotated[
        list[str] | None,
        option(
            "--tables",
            metavar="NAMES",
            env="TABLES",
            help="Fill only these tables, such as lens,survival, and measure only what they need.",
        ),
    ] = None
    generate: Annotated[
        int, option("--generate", metavar="N", help="Let the model write N tokens, with a ledger for each.")
    ] = 0
    chain: Annotated[
        str | None,
        option("--chain", metavar="CHAIN", help="Which of --samplers to write through. Without: the first."),
    ] = None
    seed: Annotated[
        int,
        option(
            "--seed",
            metavar="N",
            env="SEED",
            help="Seed of everything random: --generate, resample, --confirm.",
        ),
    ] = 0

    def made(self, **others: Any) -> TraceOptions:
        """Make the options of a trace; arguments and errors as in ``ReadOptions.made``."""
        return super().made(
            **{"tables": self.named, "attention_of": tuple(self.attention_of or ()), **others}
        )

    @property
    def named(self) -> tuple[str, ...] | None:
        """Names of the tables to fill; None for all."""
        given = self.tables
        return tuple(name.strip() for names in given for name in names.split(",")) if given else None


@dataclass(frozen=True)
class ModelOptions:
    """The model to load, and how."""

    model: Annotated[
        str,
        option(
            "-m",
            "--model",
            help="Catalogue name, Hugging Face id, local directory, .gguf file or PEFT adapter.",
            metavar="NAME",
            panel=MODEL,
            env="MODEL",
        ),
    ] = DEFAULT_MODEL
    revision: Revision = None
    dtype: Annotated[
        str,
        option(
            "--dtype",
            help="float32, bfloat16, float16, float64, or auto for the checkpoint's own.",
            metavar="TYPE",
            panel=MODEL,
            env="DTYPE",
        ),
    ] = "float32"
    device: Device = "auto"
    device_map: DeviceMap = None
    n_devices: NDevices = None
    quantize: Quantize = None
    trust_remote_code: TrustRemoteCode = False
    adapter: Annotated[
        list[str] | None,
        option(
            "--adapter",
            metavar="DIR[@SCALE]",
            help="PEFT adapter to merge into the model, such as lora or lora@0.5; repeatable, in order.",
            panel=MODEL,
        ),
    ] = None
    base: Base = None

    @property
    def source(self) -> ModelSource:
        """The options as one value for the library."""
        return ModelSource(
            self.model,
            self.revision,
            self.dtype,
            self.device,
            self.trust_remote_code,
            tuple(self.adapter or ()),
            self.base,
            self.device_map,
            self.n_devices,
            self.quantize,
        )


@dataclass(frozen=True)
class SaveOptions:
    """Where a run is written."""

    out: Out = None
    overwrite: Overwrite = False

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
            run.save(self.out, overwrite=self.overwrite)


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

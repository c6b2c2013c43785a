"""``elimtool compare``: compare two runs, models, sampler chains, prompts or maps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.asked import ChatOptions, ended
from elimtool.cli.blocks import spread
from elimtool.cli.compare_prompts import PairOptions
from elimtool.cli.compare_sides import WITHOUT_MODEL, Asked, ComparisonKind, form_of
from elimtool.cli.loading import BothOptions, Device
from elimtool.cli.measuring import ReadOptions
from elimtool.cli.speculating import SpeculativeOptions
from elimtool.errors import Exit
from elimtool.model import DEFAULT_MODEL
from elimtool.model.source import ModelSource
from elimtool.model.store import names_adapter
from elimtool.prompts.position import parse_position

if TYPE_CHECKING:
    from elimtool.cli.output import Output
    from elimtool.model.model import Model
    from elimtool.run.comparison import Comparison

EPILOG = (
    "Two runs: compare RUN_A RUN_B. Two maps: compare MAP_A MAP_B. Two models: compare -m A -m B"
    " prompts.jsonl. Two chains: compare --samplers llama.cpp --samplers vllm RUN. Two prompts: compare"
    " --prompt A --prompt B. A saved comparison: compare DIR."
)
PROMPTS = "Prompts"


@spread
def compare(
    *,
    context: typer.Context,
    sides: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Directories of two runs or two maps, one prompt file or run for two models or chains, or"
            " two prompt files.",
            metavar="[RUN|FILE]...",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        shared.option(
            "--prompt", help="A prompt: two to compare them, one for two models or chains.", panel=PROMPTS
        ),
    ] = None,
    format_: Annotated[
        str | None,
        shared.option(
            "--format",
            metavar="NAME",
            help="jsonl, csv, tsv, parquet or text. Without: by the file's name.",
            panel=PROMPTS,
        ),
    ] = None,
    target: shared.Target = None,
    foil: shared.Foil = None,
    pair: PairOptions,
    templated: ChatOptions,
    read: ReadOptions,
    drafting: SpeculativeOptions,
    intervened: Annotated[
        bool,
        shared.switch(
            "--intervened", help="Compare runs under their interventions. Without: the models' own passes."
        ),
    ] = False,
    seed: Annotated[
        int, shared.option("--seed", metavar="N", env="SEED", help="Seed of resampling and controls.")
    ] = 0,
    out: shared.Out = None,
    overwrite: Annotated[
        bool, shared.switch("--overwrite", help="Replace the comparison in --out.", panel=shared.OUTPUT)
    ] = False,
    model: Annotated[
        list[str] | None,
        shared.option(
            "-m",
            "--model",
            help="A name as trace takes it; twice to compare two. Of the options below only --dtype and"
            " --quantize may differ.",
            metavar="NAME",
            panel=shared.MODEL,
            env="MODEL",
        ),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        shared.option(
            "--dtype",
            help="float32, bfloat16, float16, float64 or auto; twice to compare two. Without: float32.",
            metavar="TYPE",
            panel=shared.MODEL,
            env="DTYPE",
        ),
    ] = None,
    quantize: Annotated[
        list[str] | None,
        shared.option(
            "--quantize",
            help="Quantise while loading: 8bit, 4bit (bitsandbytes) or none; twice to compare two.",
            metavar="TYPE",
            panel=shared.MODEL,
            env="QUANTIZE",
        ),
    ] = None,
    device: Device = "auto",
    loaded: BothOptions,
    printed: shared.CommonOptions,
) -> None:
    """Compare runs, models, chains, prompts or maps: what changed, where, what one side alone eliminates."""
    given = shared.given_from(context, "COMMANDLINE")
    models = tuple(model or ())
    if "model" in shared.given_from(context, "ENVIRONMENT"):
        models = (os.environ["ELIMTOOL_MODEL"],)  # one model, whose path may have blanks
    asked = Asked(
        tuple(sides or ()),
        tuple(prompt or ()),
        models,
        tuple(dtype or ()),
        tuple(quantize or ()),
        tuple(read.samplers or ()),
    )
    form = form_of(asked, given)
    read_only = form in WITHOUT_MODEL
    position: Any = parse_position(read.position, several=False, measured=read_only)
    if out is not None:
        from elimtool.run.comparison import FORM
        from elimtool.run.writer import check_directory

        check_directory(out, overwrite, FORM)
    if read_only:
        found = _of_tables(form, asked, position, intervened, seed)
    else:
        sources = _sources(asked, device, loaded.loading)
        # one time for both sides, also where midnight is between them
        chat = templated.made(of_file=not asked.prompts).pinned()
        follow: dict[str, Any] = {"targets": tuple(target or ()), "foils": tuple(foil or ()), "chat": chat}
        if form in (ComparisonKind.PROMPTS, ComparisonKind.FILES):
            options = read.made(seed=seed, concepts=tuple(pair.concept or ()))
            follow |= {"options": options, "controls": pair.made()}
            found = _of_prompts(printed.output, form, asked, pair, sources[0], format_, follow)
        else:
            follow |= {"options": read.made(), "seed": seed}
            if form is ComparisonKind.MODELS:
                follow["speculation"] = drafting.made(seed)
            found = _of_models(printed.output, form, asked, sources, format_, follow)
    if out is not None:
        found.save(out, overwrite=overwrite)
    from elimtool.report.compare.story import print_comparison

    printed.output.result(found, out, printed.as_json, print_comparison)
    if form is not ComparisonKind.SAVED and _failed(found):
        raise typer.Exit(Exit.PARTIAL)


def _sources(asked: Asked, device: str, loading: dict[str, Any]) -> list[ModelSource]:
    """Model source of each side; of what is given once, and of all other options, both have the same."""
    models, dtypes = asked.models or (DEFAULT_MODEL,), asked.dtypes or ("float32",)
    stored = [None if one == "none" else one for one in asked.quantize or ("none",)]
    base = loading.pop("base", None)
    return [
        ModelSource(
            models[side],
            None,
            dtypes[side],
            device,
            base=base if names_adapter(models[side]) else None,
            quantize=stored[side],
            **loading,
        )
        for side in (0, -1)  # the first and the last: the same where there is one
    ]


def _of_tables(form: ComparisonKind, asked: Asked, position: Any, intervened: bool, seed: int) -> Comparison:
    """Compare what is on disk, without a model and without torch."""
    if form is ComparisonKind.SAVED:
        from elimtool.run.comparison import open_comparison

        return open_comparison(asked.sides[0])
    if form is ComparisonKind.RUNS:
        from elimtool.analysis.compare.runs import compare_runs

        a, b = asked.sides
        return compare_runs(a, b, position=position, intervened=intervened, seed=seed)
    if form is ComparisonKind.MAPS:
        from elimtool.analysis.compare.maps import compare_maps

        return compare_maps(*asked.sides)
    from elimtool.analysis.compare.chains import compare_chains

    chain_a, chain_b = asked.samplers
    return compare_chains(asked.sides[0], chain_a, chain_b, position=position, seed=seed)


def _of_models(
    output: Output,
    form: ComparisonKind,
    asked: Asked,
    sources: list[ModelSource],
    format_: str | None,
    wanted: dict[str, Any],
) -> Comparison:
    """Compare two models or chains by running the models."""
    chat = wanted.pop("chat")
    from elimtool.prompts.prompt import Prompt
    from elimtool.tasks.compare.files import read_usable

    one = None
    if asked.prompts:
        one = Prompt(text=ended(asked.prompts[0], output.note, chat=False), chat=chat)
    read, unread = ([one], {}) if one else read_usable(asked.sides[0], format_)
    prompts = [each.with_chat(chat) for each in read]
    with output.progress(f"loading {sources[0].name}") as say:
        loaders = [_loader(source, say) for source in sources]
        if form is ComparisonKind.MODELS:
            from elimtool.tasks.compare.models import compare_models

            return compare_models(loaders[0], loaders[1], prompts, unread=unread, progress=say, **wanted)
        from elimtool.tasks.compare.chains import compare_samplers

        return compare_samplers(loaders[0](), prompts, unread=unread, **wanted)


def _of_prompts(
    output: Output,
    form: ComparisonKind,
    asked: Asked,
    pair: PairOptions,
    source: ModelSource,
    format_: str | None,
    wanted: dict[str, Any],
) -> Comparison:
    """Compare two prompts, or two prompt files, on one model."""
    if form is ComparisonKind.PROMPTS:
        from elimtool.tasks.compare.prompts import compare_prompts

        a, b = pair.prompts(asked.prompts, wanted.pop("chat"), output.note)
        with output.progress(f"loading {source.name}") as say:
            return compare_prompts(_loader(source, say)(), a, b, **wanted)
    from elimtool.tasks.compare.files import compare_files

    with output.progress("comparing") as say:
        return compare_files(
            _loader(source, say),
            *asked.sides,
            format=format_,
            progress=lambda done, of: say(f"{done:,} of {of:,} pairs"),
            **wanted,
        )


def _loader(source: ModelSource, say: Callable[[str], None]) -> Callable[[], Model]:
    """Make a function that loads the model of a side: two models need not be in memory together."""

    def load() -> Model:
        say(f"loading {source.name}")
        model = source.load(say)
        say(f"measuring {source.name}")
        return model

    return load


def _failed(found: Comparison) -> bool:
    """Whether a prompt failed in this command; prompts of runs failed earlier."""
    if found.kind in ("runs", "maps"):
        return False
    return "error" in found.arrow("pairs").column("status").to_pylist()

"""``elimtool compare``: two runs, two models, two sampler chains or two prompts, difference by difference."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import compare_prompts as pairs
from elimtool.cli import options as shared
from elimtool.cli.compare_sides import Asked, ComparisonKind, form_of
from elimtool.cli.output import Output
from elimtool.errors import ElimError, Exit

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.model.model import Model
    from elimtool.prompts.prompt import Prompt
    from elimtool.run.comparison import Comparison

EPILOG = (
    "Two runs: compare RUN_A RUN_B. Two models: compare -m A -m B prompts.jsonl. Two chains: compare"
    " --samplers llama.cpp --samplers vllm RUN. Two prompts: compare --prompt A --prompt B. A comparison"
    " again: compare DIR."
)
PROMPTS = "Prompts"


def compare(
    context: typer.Context,
    sides: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Two run directories, one prompt file or run for two models or chains, or two prompt files.",
            metavar="[RUN|FILE]...",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        shared.option(
            "--prompt",
            help="A prompt: two to compare them, one for two models or chains.",
            panel=PROMPTS,
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
    chat: pairs.Chat = False,
    system: pairs.System = None,
    span: pairs.SpanNames = None,
    injection: pairs.Injection = False,
    continue_: pairs.Continue = 0,
    controls: pairs.ControlCount = None,
    paraphrase: pairs.Paraphrases = None,
    position: shared.Position = "last",
    samplers: shared.Samplers = None,
    lens: shared.LensName = "auto",
    sinks: shared.Sinks = "auto",
    target_space: shared.TargetSpace = "auto",
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
            help="Catalogue name, Hugging Face id, local directory or .gguf file; twice to compare two.",
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
    device: shared.Device = "auto",
    trust_remote_code: shared.TrustRemoteCode = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
    config: shared.Config = None,
) -> None:
    """Compare two runs, models, chains or prompts: what changed, where, what one side alone eliminates."""
    del config  # its values are the other parameters' defaults by now
    output = Output(quiet)
    given = {name for name in context.params if _typed(context, name)}
    models = tuple(model or ())
    if _source(context, "model") == "ENVIRONMENT":
        models = (os.environ["ELIMTOOL_MODEL"],)  # one model, whose path may have blanks
    asked = Asked(tuple(sides or ()), tuple(prompt or ()), models, tuple(dtype or ()), tuple(samplers or ()))
    form = form_of(asked, given)
    where = _position(position)
    if out is not None:
        from elimtool.run.comparison import FORM
        from elimtool.run.writer import check_directory

        check_directory(out, overwrite, FORM)
    if form in (ComparisonKind.SAVED, ComparisonKind.RUNS, ComparisonKind.RUN_CHAINS):
        found = _of_tables(form, asked, where, intervened, seed)
    else:
        follow = tuple(target or ()), tuple(foil or ())
        options = shared.trace_options(
            position, list(asked.samplers) or None, None, lens=lens, sinks=sinks, target_space=target_space
        )
        source = InputOptions(device, trust_remote_code, format_)
        if form in (ComparisonKind.PROMPTS, ComparisonKind.FILES):
            given_pair = pairs.PairOptions(
                chat, system, tuple(span or ()), injection, continue_, controls, tuple(paraphrase or ())
            )
            found = _of_prompts(output, form, asked, given_pair, follow, replace(options, seed=seed), source)
        else:
            found = _of_models(output, form, asked, follow, options, source, seed)
    _show(output, found, out, overwrite, as_json)
    if form is not ComparisonKind.SAVED and _failed(found):
        raise typer.Exit(Exit.PARTIAL)


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How models are loaded and prompt files are read."""

    device: str
    trust_remote_code: bool
    format: str | None


def _of_tables(form: ComparisonKind, asked: Asked, position: Any, intervened: bool, seed: int) -> Comparison:
    """A comparison of what is on disk: no model is run, and no torch is imported."""
    if form is ComparisonKind.SAVED:
        from elimtool.run.comparison import open_comparison

        return open_comparison(asked.sides[0])
    if form is ComparisonKind.RUNS:
        from elimtool.analysis.compare.runs import compare_runs

        a, b = asked.sides
        return compare_runs(a, b, position=position, intervened=intervened, seed=seed)
    from elimtool.analysis.compare.chains import compare_chains

    chain_a, chain_b = asked.samplers
    return compare_chains(asked.sides[0], chain_a, chain_b, position=position, seed=seed)


def _of_models(
    output: Output,
    form: ComparisonKind,
    asked: Asked,
    follow: tuple[tuple[str, ...], tuple[str, ...]],
    options: TraceOptions,
    source: InputOptions,
    seed: int,
) -> Comparison:
    """A comparison for which models are run."""
    prompts, unread = _prompts(asked, source)
    loaders = _loaders(output, asked, source)
    common: dict[str, Any] = {
        "targets": follow[0],
        "foils": follow[1],
        "options": options,
        "unread": unread,
        "seed": seed,
    }
    if form is ComparisonKind.MODELS:
        from elimtool.tasks.compare.models import compare_models

        with output.progress("loading") as say:
            return compare_models(loaders[0], loaders[1], prompts, **common, progress=say)
    from elimtool.tasks.compare.chains import compare_samplers

    with output.progress("loading"):
        return compare_samplers(loaders[0](), prompts, **common)


def _of_prompts(
    output: Output,
    form: ComparisonKind,
    asked: Asked,
    given: pairs.PairOptions,
    follow: tuple[tuple[str, ...], tuple[str, ...]],
    options: TraceOptions,
    source: InputOptions,
) -> Comparison:
    """A comparison of two prompts of one model, or of two files of them."""
    load = _loaders(output, asked, source)[0]
    if form is ComparisonKind.PROMPTS:
        return pairs.compare_two(load, asked.prompts, given, follow, options)
    with output.progress("comparing") as say:
        return pairs.compare_files(load, asked.sides, source.format, given, follow, options, say)


def _prompts(asked: Asked, source: InputOptions) -> tuple[list[Prompt], dict[str, ElimError]]:
    """The prompts of one source, and the records of a file that are none, by id."""
    from elimtool.prompts.prompt import Prompt

    if asked.prompts:
        return [Prompt(text=asked.prompts[0])], {}
    from elimtool.prompts.file import PromptFile

    prompts, unread = [], {}
    with PromptFile(asked.sides[0], source.format) as file:
        for record in file.records():
            if isinstance(record.prompt, Prompt):
                prompts.append(record.prompt)
            else:
                unread[record.prompt_id or f"<line {record.line}>"] = record.prompt
    if not prompts:
        first = next(iter(unread.values()))
        raise ElimError(
            f"no record of {asked.sides[0]} is a prompt: {first.message}", first.hint, Exit.NOTHING
        )
    return prompts, unread


def _loaders(output: Output, asked: Asked, source: InputOptions) -> list[Callable[[], Model]]:
    """A function that loads each side's model."""
    from elimtool.model.loading import load_model

    models, dtypes = asked.models or ("smollm2",), asked.dtypes or ("float32",)

    def loader(name: str, dtype: str) -> Callable[[], Model]:
        def load() -> Model:
            with output.progress(f"loading {name}") as say:
                return load_model(
                    name,
                    dtype=dtype,
                    device=source.device,
                    trust_remote_code=source.trust_remote_code,
                    progress=say,
                )

        return load

    sides = ((models[-index], dtypes[-index]) if index else (models[0], dtypes[0]) for index in (0, 1))
    return [loader(name, dtype) for name, dtype in sides]


def _typed(context: typer.Context, name: str) -> bool:
    """Whether an option stood on the command line itself."""
    return _source(context, name) == "COMMANDLINE"


def _source(context: typer.Context, name: str) -> str | None:
    """Where a parameter's value came from."""
    source = context.get_parameter_source(name)
    return None if source is None else source.name


def _position(position: str) -> Any:
    if position == "all":
        raise ElimError("--position all is not one position", "give last, or an index from 0")
    if not position.isdigit() and position != "last":
        raise ElimError(f"--position '{position}' is not valid", "give last, or an index from 0")
    return int(position) if position.isdigit() else position


def _failed(found: Comparison) -> bool:
    """Whether a prompt failed in this command; those of runs failed before it."""
    if found.kind == "runs":
        return False
    return "error" in found.arrow("pairs").column("status").to_pylist()


def _show(output: Output, found: Comparison, out: Path | None, overwrite: bool, as_json: bool) -> None:
    if out is not None:
        found.save(out, overwrite=overwrite)

    def story() -> None:
        from elimtool.report.compare.story import print_comparison

        print_comparison(found, output.console)

    output.result(found, out, as_json, story)

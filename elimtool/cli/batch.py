"""``elimtool batch``: trace every prompt of a file, in resumable shards, on one machine or many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.asked import ChatOptions
from elimtool.cli.batching import HOW, WorkOptions, opened, work_through
from elimtool.cli.blocks import spread
from elimtool.cli.interventions import Confirm, InterventionOptions
from elimtool.cli.loading import ModelOptions
from elimtool.cli.measuring import AUTO
from elimtool.cli.requests import MeasureOptions
from elimtool.errors import ElimError, Exit

if TYPE_CHECKING:
    from elimtool.cli.output import Output
    from elimtool.model.source import ModelSource
    from elimtool.tasks.batch.run import BatchProgress
    from elimtool.tasks.batch.work import Make

EPILOG = (
    "A run that was stopped goes on where it was when the same command is given again."
    " Exit code 6 means that some prompts failed; the table prompts says why."
)


@dataclass(frozen=True)
class BatchMeasureOptions(MeasureOptions):
    """What a batch measures: unlike a trace, single heads only on request."""

    heads: Annotated[
        bool | None,
        shared.switch("--heads/--no-heads", help="Fill the tables of single heads and experts. Without: no."),
    ] = None


@spread
def batch(
    *,
    prompts: Annotated[
        str,
        typer.Argument(
            help="Prompt file: JSONL, CSV, TSV, Parquet or text, plain, gzip or zstd; - for standard input."
            " Or a suite (docs/suites.md), also by name: facts, jobs, minimal_pairs, wordings.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        shared.option(
            "-o",
            "--out",
            metavar="DIR",
            help="Directory of the run, new or to go on with.",
            panel=shared.OUTPUT,
        ),
    ],
    format_: Annotated[
        str | None,
        shared.option(
            "--format", metavar="NAME", help="jsonl, csv, tsv, parquet or text. Without: by the file's name."
        ),
    ] = None,
    dedupe: Annotated[
        bool, shared.switch("--dedupe", help="Keep the first record of each id, instead of refusing.")
    ] = False,
    target: shared.Target = None,
    foil: shared.Foil = None,
    measured: BatchMeasureOptions,
    templated: ChatOptions,
    changed: InterventionOptions,
    confirm: Confirm = False,
    work: WorkOptions,
    shard: Annotated[
        str | None,
        shared.option(
            "--shard",
            metavar="i/n",
            help="Do only every n-th shard from shard i (from 0), for job arrays. See elimtool run merge.",
            panel=HOW,
        ),
    ] = None,
    revisions: Annotated[
        str | None,
        shared.option(
            "--revisions",
            metavar="NAMES",
            help="Measure each of these revisions, such as step1000,step4000, into a folder of --out of its"
            " own: branches, tags or commits of a Hugging Face id, or folders of a local directory.",
            panel=shared.MODEL,
        ),
    ] = None,
    label: shared.Label = None,
    overwrite: Annotated[
        bool,
        shared.switch(
            "--overwrite",
            help="Replace the run in --out: kept until the new one has a shard, deleted when it is finished.",
            panel=shared.OUTPUT,
        ),
    ] = False,
    model: ModelOptions,
    printed: shared.CommonOptions,
) -> None:
    """Trace every prompt of a file, in shards: resumable, bad records kept as rows, one machine or many."""
    from elimtool.tasks.batch.options import Slice, single_heads

    options = work.made(
        label=label,
        dedupe=dedupe,
        slice=Slice.parse(shard),
        targets=tuple(target or ()),
        foils=tuple(foil or ()),
        chat=templated.made(of_file=True),
    )
    wanted = measured.made(
        heads=single_heads(measured.heads, measured.named),
        interventions=changed.made(measured.seed),
        confirm=confirm,
        errors="row",
    )
    places = places_of(out, model.source, revisions)
    failed, said = 0, []
    with opened(prompts, format_, printed.output) as file:
        for place, source in places:
            make = _naming(place, overwrite) if measured.map == AUTO and work.engine != "ray" else None
            standing = work_through(printed.output, file, place, (source, wanted, options), overwrite, make)
            said.append(_show(printed.output, place, standing, printed.as_json))
            failed += standing.errors
    if printed.as_json:
        printed.output.json(said[0] if revisions is None else said)
    if failed:
        raise typer.Exit(Exit.PARTIAL)


def _naming(place: Path, overwrite: bool) -> Make:
    """Make workers that name heads by the map in the cache; a run that was begun goes on as it was."""
    from functools import partial

    from elimtool.tasks.map.kept import NamingWorker

    return partial(NamingWorker, run=None if overwrite else place)


def places_of(out: Path, source: ModelSource, revisions: str | None) -> list[tuple[Path, ModelSource]]:
    """Work out where each revision of a model is measured to.

    Args:
        out: Directory of the run, or of the runs of revisions.
        source: The model.
        revisions: Names of revisions with commas between them; ``None`` for the model alone.

    Returns:
        Directory of each run and its model; revisions in the order of the numbers in their names.

    Raises:
        ElimError: A name is empty, comes twice or is no revision of the model, ``revision`` is given too, or
            ``out`` is a run.
    """
    from elimtool.analysis.query.history import natural
    from elimtool.model.parts import check_revisions
    from elimtool.run.layout import MANIFEST

    if revisions is None:
        return [(out, source)]
    names = [one.strip() for one in revisions.split(",")]
    folders = [name.replace("/", "-") for name in names]
    if source.revision is not None:
        raise ElimError("`revision` and `revisions` were both given", "leave one of the two out")
    if not all(names) or {".", ".."} & set(folders) or len(set(folders)) < len(folders):
        raise ElimError(
            f"`revisions` must be different names, got '{revisions}'", "such as step1000,step4000"
        )
    if (out / MANIFEST).is_file():
        raise ElimError(f"{out} is a run: revisions are measured into folders of it", "choose another `out`")
    begun = [name for folder, name in zip(folders, names, strict=True) if (out / folder / MANIFEST).is_file()]
    # before the first of them takes its time; those of finished runs may be gone by now
    check_revisions(source.name, [name for name in names if name not in begun])
    found = zip(folders, names, strict=True)
    return [
        (out / folder, replace(source, revision=name))
        for folder, name in sorted(found, key=lambda one: natural(one[1]))
    ]


def _show(output: Output, out: Path, standing: BatchProgress, as_json: bool) -> dict[str, Any]:
    """Print the directory on stdout and what was found on stderr; return both as JSON's types."""
    from elimtool.run.damage import in_words

    size = standing.summed("size")
    found = _results(out)
    facts = {
        "run": str(out),
        "prompts": standing.prompts,
        "errors": standing.errors,
        "tokens": standing.tokens,
        "padding": standing.padding,
        "rows": standing.summed("rows"),
        "bytes": size,
        **found,
    }
    if not as_json:
        output.line(str(out))
    if not standing.prompts:
        output.note("no shard of the file belongs to this --shard")
    for line in in_words(standing.damaged):
        output.note(f"{line}; it was measured anew")
    if standing.prompts and standing.resumed == standing.prompts:
        output.note("the run was finished before: nothing was left to do")
    failed = f", {standing.errors:,} failed" if standing.errors else ""
    output.note(f"{standing.prompts:,} prompts{failed}; {standing.padding:.1%} of token slots were padding")
    if met := sum(standing.summed("defects").values()):
        output.note(f"defects of elimtool met: {met:,}; the tracebacks are also in {out}/.batch/shard-*.json")
    if not standing.prompts:
        return facts
    each = sorted(((total / standing.prompts, name) for name, total in size.items()), reverse=True)
    shown = ", ".join(f"{name} {share / 1000:.1f}" for share, name in each)
    output.note(f"{sum(size.values()) / standing.prompts / 1000:.1f} kB a prompt on disk: {shown}")
    if not found:
        return facts
    from elimtool.report.batch import batch_lines
    from elimtool.report.screen import Screen

    errors = output.errors
    for line in batch_lines(found, standing.errors, Screen(errors.width, errors.encoding)):
        output.note(line)
    from elimtool.run import open_run

    output.notes(open_run(out))
    output.note(f"next: {found['next']}")
    return facts


def _results(out: Path) -> dict[str, Any]:
    """What the batch found; nothing while slices of it are to be joined."""
    import shlex

    from elimtool.analysis.batch import batch_results
    from elimtool.run import open_run
    from elimtool.run.layout import MANIFEST

    if not (out / MANIFEST).is_file():
        return {}
    finished = open_run(out)
    if "prompts" not in finished.tables:  # a slice without a shard
        return {}
    return {**batch_results(finished), "next": shlex.join(["elimtool", "report", str(out)])}

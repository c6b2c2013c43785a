"""``elimtool export``: what a run's model eliminated, as training examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.loading import TrustRemoteCode

CHOSEN = "What is exported"
EPILOG = (
    "TRL appends the end-of-text token to each completion: it teaches the model to stop there."
    " docs/export.md has an example of each format."
)


@spread
def export(
    *,
    directory: Annotated[Path, typer.Argument(help="Directory of a run with named targets.", metavar="RUN")],
    format_: Annotated[
        str, shared.option("--format", metavar="TYPE", help="sft, dpo or kto, as TRL's trainers read them.")
    ],
    out: Annotated[
        Path,
        shared.option(
            "-o",
            "--out",
            metavar="FILE",
            help="File of JSON lines to write; FILE.json beside it says what was left out.",
            panel=shared.OUTPUT,
        ),
    ],
    outcomes: Annotated[
        list[str] | None,
        shared.option(
            "--outcomes",
            metavar="NAMES",
            help="Outcomes to export, such as outranked. Without: all but sampler_eliminated.",
            panel=CHOSEN,
        ),
    ] = None,
    with_sampler: Annotated[
        bool,
        shared.switch(
            "--with-sampler",
            help="Export answers that a sampler alone cut, too: a setting would keep them.",
            panel=CHOSEN,
        ),
    ] = False,
    allow_partial: Annotated[
        bool,
        shared.switch(
            "--allow-partial",
            help="Export targets that are only the first words of one of the record's answers.",
            panel=CHOSEN,
        ),
    ] = False,
    per_template: Annotated[
        int,
        shared.option(
            "--per-template", metavar="N", help="Most answers of a template; 0 for all.", panel=CHOSEN
        ),
    ] = 8,
    hold_out: Annotated[
        float,
        shared.option(
            "--hold-out",
            metavar="SHARE",
            help="Share of templates that is never exported: the suite can still test the trained model.",
            panel=CHOSEN,
        ),
    ] = 0.2,
    seed: Annotated[
        int, shared.option("--seed", metavar="N", help="Chooses the held-out templates.", panel=CHOSEN)
    ] = 0,
    model: Annotated[
        str | None,
        shared.option(
            "-m",
            "--model",
            metavar="NAME",
            help="Where the run's model is now, for its tokenizer. Without: as the run names it.",
            panel=shared.MODEL,
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    overwrite: Annotated[
        bool, shared.switch("--overwrite", help="Replace the files if they exist.", panel=shared.OUTPUT)
    ] = False,
    printed: shared.CommonOptions,
) -> None:
    """Write answers that the model eliminated as training examples: prompt, right answer, wrong answer."""
    from elimtool.analysis.export.choose import ExportOptions
    from elimtool.report.export import export_sentences
    from elimtool.tasks.export import export as write

    named = tuple(one.strip() for names in outcomes or () for one in names.split(",")) or None
    options = ExportOptions(format_, named, with_sampler, allow_partial, per_template, hold_out, seed)
    output = printed.output
    with output.progress("reading the run") as say:
        done = write(
            directory,
            out,
            options,
            model=model,
            trust_remote_code=trust_remote_code,
            overwrite=overwrite,
            say=say,
        )
    if printed.as_json:
        output.json(done.sidecar)
    else:
        output.wrote(out)
    for line in export_sentences(done.sidecar):
        output.note(line)

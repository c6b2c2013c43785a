"""``elimtool map``: what each head, neuron and layer of a model does, over text and probes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from elimtool.cli import completing
from elimtool.cli import options as shared
from elimtool.cli.batching import HOW, WorkOptions, work_through
from elimtool.cli.blocks import spread
from elimtool.cli.loading import Device, Dtype, LoadOptions, Revision
from elimtool.errors import ElimError, Exit
from elimtool.model.source import ModelSource
from elimtool.tasks.map.options import PARTS

EPILOG = (
    "A map that was stopped goes on where it was when the same command is given again. elimtool report DIR"
    " draws it, elimtool query and checks read its tables."
)
MEASURED = "What it is measured on"


@dataclass(frozen=True)
class MapWorkOptions(WorkOptions):
    """How passages and probes are worked through: in small shards, as a map has few of them."""

    shard_size: Annotated[
        int,
        shared.option(
            "--shard-size", metavar="N", help="Passages and probes in a shard, one part a table.", panel=HOW
        ),
    ] = 8
    batch_size: Annotated[
        int | None,
        shared.option(
            "--batch-size", metavar="N", help="Most of them in one forward pass. Without: 8.", panel=HOW
        ),
    ] = None


@spread
def map_(
    *,
    name: Annotated[
        str,
        typer.Argument(
            help="Catalogue name, Hugging Face id, local directory, .gguf file or PEFT adapter.",
            metavar="MODEL",
            autocompletion=completing.models,
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        shared.option(
            "-o",
            "--out",
            metavar="DIR",
            help="Directory of the map, new or to go on with. Without: the cache, one map a model with the"
            " settings as they are by default, which trace and batch find by themselves.",
            panel=shared.OUTPUT,
        ),
    ] = None,
    only: Annotated[
        str | None,
        shared.option(
            "--only",
            metavar="PARTS",
            help=f"Parts with commas between them: {', '.join(PARTS)}. Without: all.",
        ),
    ] = None,
    corpus: Annotated[
        str | None,
        shared.option(
            "--corpus",
            metavar="FILE",
            help="Passages: JSONL with text and, if you like, source, title and part. Without: the package's"
            " own held-out text.",
            panel=MEASURED,
        ),
    ] = None,
    passages: Annotated[
        int, shared.option("--passages", metavar="N", help="Most passages that are read.", panel=MEASURED)
    ] = 32,
    tokens: Annotated[
        int,
        shared.option(
            "--tokens",
            metavar="N",
            help="Tokens of each passage, from its beginning; shorter ones are left out.",
            panel=MEASURED,
        ),
    ] = 128,
    labels: Annotated[
        str | None,
        shared.option(
            "--labels",
            metavar="FILE",
            help="Labels of the passages' tokens in place of categories by how they are written: JSONL with"
            " text or id (number in the corpus) and labels, lists of start, end and label.",
            panel=MEASURED,
        ),
    ] = None,
    tagger: Annotated[
        str | None,
        shared.option(
            "--tagger",
            metavar="spacy:MODEL",
            help="Parts of speech of spaCy, if it is installed, as labels.",
            panel=MEASURED,
        ),
    ] = None,
    revision: Revision = None,
    dtype: Dtype = "float32",
    device: Device = "auto",
    loaded: LoadOptions,
    work: MapWorkOptions,
    label: shared.Label = None,
    overwrite: shared.Overwrite = False,
    printed: shared.CommonOptions,
) -> None:
    """Map what each head, neuron and layer of a model does: roles with nulls, over text and probes."""
    from elimtool.analysis.map.api import find_map
    from elimtool.report.populations.sections import print_analysis
    from elimtool.run import open_run
    from elimtool.tasks.map.corpus import Corpus
    from elimtool.tasks.map.kept import cached_map, is_default, is_stale
    from elimtool.tasks.map.labels import Labels
    from elimtool.tasks.map.options import MapOptions
    from elimtool.tasks.map.units import MapSource
    from elimtool.tasks.map.work import MapWorker

    named = None if only is None else [one.strip() for one in only.split(",")]
    text = Corpus.of(corpus)
    labelled = Labels.of(text, labels, tagger)
    options = MapOptions.of(named, passages=passages, tokens=tokens, categories=labelled.categories)
    how = work.made(label=label)
    source = ModelSource(name, revision, dtype, device, **loaded.loading)
    output = printed.output
    if out is None and not (is_default(options, corpus, labels, tagger) and dtype == "float32"):
        raise ElimError(
            "the cache keeps maps with the settings as they are by default", "say where to with `out`"
        )
    with output.progress(f"loading {name}") as say:
        model = source.load(say)
    if out is None:
        out = cached_map(model)
        overwrite = overwrite or is_stale(out)
    job = (source if how.engine == "ray" else model, options, how)
    standing = work_through(output, MapSource(model, text, options, labelled), out, job, overwrite, MapWorker)
    with output.progress("making the findings"):
        found = find_map(open_run(out))
        found.save(out)
    output.result(found, out, printed.as_json, print_analysis)
    if standing.errors:
        output.note(
            f"{standing.errors:,} passages or probes failed and are in no number; table prompts says why"
        )
        raise typer.Exit(Exit.PARTIAL)

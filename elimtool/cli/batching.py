"""Work through a prompt file or suite for every command that does: its options, its progress, its notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from elimtool.cli import options as shared

if TYPE_CHECKING:
    from elimtool.cli.output import Output
    from elimtool.model.model import Model
    from elimtool.model.source import ModelSource
    from elimtool.prompts.file import PromptFile
    from elimtool.tasks.batch.local import Engine
    from elimtool.tasks.batch.options import BatchOptions
    from elimtool.tasks.batch.plan import Input
    from elimtool.tasks.batch.run import BatchProgress
    from elimtool.tasks.batch.work import Make, Wanted

    Job = tuple[Model | ModelSource, Wanted, BatchOptions]

HOW = "How the file is processed"
RAY = "Ray: more than one machine"


@dataclass(frozen=True)
class WorkOptions:
    """How a file of prompts is worked through."""

    shard_size: Annotated[
        int,
        shared.option("--shard-size", metavar="N", help="Records in a shard, one part a table.", panel=HOW),
    ] = 256
    batch_size: Annotated[
        int | None,
        shared.option(
            "--batch-size",
            metavar="N",
            help="Most prompts in one forward pass. Without: 32; on a GPU as many as fit its memory.",
            panel=HOW,
        ),
    ] = None
    max_errors: Annotated[
        str | None,
        shared.option(
            "--max-errors", metavar="N|P%", help="Stop when more prompts than this have failed.", panel=HOW
        ),
    ] = None
    engine: Annotated[
        str, shared.option("--engine", metavar="NAME", help="local or ray.", panel=RAY, env="ENGINE")
    ] = "local"
    ray_address: Annotated[
        str | None,
        shared.option(
            "--ray-address",
            metavar="WHERE",
            help="auto or HOST:PORT. Without: the cluster that is there, else this machine.",
            panel=RAY,
            env="RAY_ADDRESS",
        ),
    ] = None
    actors: Annotated[
        int | None,
        shared.option(
            "--actors", metavar="N", help="Workers, one model each. Without: as many as fit.", panel=RAY
        ),
    ] = None
    cpus_per_actor: Annotated[
        float, shared.option("--cpus-per-actor", metavar="N", help="CPUs of a worker.", panel=RAY)
    ] = 1
    gpus_per_actor: Annotated[
        float, shared.option("--gpus-per-actor", metavar="N", help="GPUs of a worker.", panel=RAY)
    ] = 0
    max_shard_attempts: Annotated[
        int,
        shared.option(
            "--max-shard-attempts",
            metavar="N",
            help="Times that a shard may kill its worker before its prompts become error rows.",
            panel=RAY,
        ),
    ] = 3

    def made(self, **others: Any) -> BatchOptions:
        """Make the options of a batch.

        Args:
            others: Options that are not in this block.

        Raises:
            ElimError: A value cannot be used.
        """
        from elimtool.tasks.batch.options import BatchOptions, MostErrors, RayOptions

        return BatchOptions(
            shard_size=self.shard_size,
            batch_size=self.batch_size,
            max_errors=MostErrors.parse(self.max_errors),
            engine=self.engine,
            ray=RayOptions(
                self.ray_address,
                self.actors,
                self.cpus_per_actor,
                self.gpus_per_actor,
                self.max_shard_attempts,
            ),
            **others,
        )


@contextmanager
def opened(
    prompts: str, format_: str | None, output: Output, scoring: Mapping[str, Any] | None = None
) -> Iterator[PromptFile]:
    """Open a prompt file or suite, and say what is doubtful about it.

    Args:
        prompts: The file, or the name of a suite.
        format_: Its format, where it is said.
        output: Takes what is doubtful.
        scoring: How sentences are scored, and phrases of abstention: arguments of ``open_prompts``.

    Raises:
        ElimError: It cannot be used.
    """
    from elimtool.suites.read import open_prompts
    from elimtool.suites.suite import in_words

    file, doubts = open_prompts(prompts, format_, **(scoring or {}))
    for told in in_words(doubts):
        output.note(told)
    with file:
        yield file


def work_through(
    output: Output,
    file: Input,
    out: Path,
    asked: Job,
    overwrite: bool = False,
    make: Make | None = None,
) -> BatchProgress:
    """Measure every prompt of a file into a run directory, or go on there, and show the progress.

    Args:
        output: Where progress and notes are printed.
        file: The prompts.
        out: The run directory.
        asked: The model, what is measured, and how the file is worked through.
        overwrite: Replace a run in the directory.
        make: Makes each worker; ``None`` for one that traces prompts.

    Raises:
        ElimError, KeyboardInterrupt: As ``elimtool.tasks.batch.run.run``.
    """
    from elimtool.cli.progress import batch_progress
    from elimtool.tasks.batch.place import Untouched, replaced
    from elimtool.tasks.batch.run import run

    try:
        nouns = "passages" if file.format == "map" else "prompts"
        with batch_progress(output, f"loading {asked[0].name}", nouns) as (report, say):
            return run(file, out, _engine(*asked, say, make), asked[2], overwrite=overwrite, report=report)
    except Untouched:
        output.note(f"nothing was finished; the run in {out} is as it was")
        raise
    except KeyboardInterrupt:  # main prints the message and sets the exit code
        output.note(f"what was finished is in {out}; run the same command again to go on")
        raise
    finally:
        if kept := replaced(out):
            output.note(kept)


def _engine(
    model: Model | ModelSource, asked: Wanted, options: BatchOptions, say: Any, make: Make | None
) -> Engine:
    from elimtool.model.source import ModelSource

    if options.engine == "ray":
        from elimtool.tasks.batch.cluster import RayEngine

        assert isinstance(model, ModelSource)  # each worker loads its own
        return RayEngine(model, asked, options, make=make)
    from elimtool.tasks.batch.local import LocalEngine

    return LocalEngine(model, asked, options, say, make)

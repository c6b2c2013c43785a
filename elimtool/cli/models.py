"""``elimtool models``: list and fetch models, and verify that one matches Hugging Face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from elimtool.cli import completing
from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.loading import ModelOptions, Revision, TrustRemoteCode
from elimtool.cli.output import Output
from elimtool.errors import Exit
from elimtool.model import DEFAULT_MODEL
from elimtool.model.source import ModelSource

app = typer.Typer(help="List, fetch and verify models.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        help="Catalogue name, Hugging Face id, local directory or .gguf file.",
        metavar="NAME",
        autocompletion=completing.models,
    ),
]


@app.command("list")
def list_(as_json: shared.Json = False) -> None:
    """List the catalogue: each model's name, state, size on disk and directory."""
    from elimtool.model.catalogue import models_status

    output = Output()
    rows = models_status()
    if as_json:
        output.json([{**asdict(row), "path": str(row.path)} for row in rows])
        return
    for row in rows:
        size = f"{row.size / 1e6:,.0f} MB" if row.size else "-"
        output.line(f"{row.name:12} {row.state:12} {size:>8}  {row.description}")
        output.line(f"{'':12} {row.path}")


@app.command()
def pull(
    name: Name,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    lens: Annotated[
        bool, shared.switch("--lens/--no-lens", help="Fit the lens of a catalogue model, once (minutes).")
    ] = True,
    map_: Annotated[
        bool,
        shared.switch(
            "--map/--no-map",
            help="Map the model too, once (minutes): trace and batch name heads by the role that they have"
            " there.",
        ),
    ] = False,
    quiet: shared.Quiet = False,
) -> None:
    """Fetch a model, converted if need be, so that it loads offline; prints its directory.

    For a model of the catalogue the calibrated lens that trace uses is fitted too; with --map any model is
    mapped, as by elimtool map without --out.
    """
    from elimtool.model.catalogue import CATALOGUE
    from elimtool.model.loading import locate

    output = Output(quiet)
    with output.progress(f"fetching {name}") as say:
        directory, _ = locate(name, revision=revision, trust_remote_code=trust_remote_code, progress=say)
        if lens and name in CATALOGUE:
            _fit_lens(name, directory, say)
        if map_:
            from elimtool.tasks.map.kept import ensure_map

            source = ModelSource(name, revision, trust_remote_code=trust_remote_code)
            ensure_map(source.load(say), say)
    output.line(str(directory))


def _fit_lens(name: str, directory: Path, say: Callable[[str], None]) -> None:
    """Fit the lens of a model, unless the cache has one; then the model is not even loaded."""
    from elimtool.lenses.find import ensure_lens, has_lens

    if not has_lens(directory):
        ensure_lens(ModelSource(name).load(say), progress=say)


@dataclass(frozen=True)
class VerifiedModel(ModelOptions):
    """The model to verify, given as an argument."""

    model: Name = DEFAULT_MODEL


@app.command()
@spread
def verify(*, model: VerifiedModel, printed: shared.PrintOptions) -> None:
    """Compare a model under hooks with plain Hugging Face: attention rows, residuals by layer, logits.

    Exits with 10 if a difference is past its tolerance.
    """
    from elimtool.model.verify import verify as compare
    from elimtool.report.facts import without_weights

    output, source = printed.output, model.source
    with output.progress(f"loading {source.name}") as say:
        loaded = source.load(say)
        say("comparing with Hugging Face")
        found = compare(loaded, trust_remote_code=source.trust_remote_code)
    if printed.as_json:
        output.json([{**asdict(one), "passed": one.passed} for one in found])
    else:
        of = f"{source.name} ({source.dtype}, {loaded.n_layers} layers)"
        output.line(f"{of} against Hugging Face on the same weights")
        for one in found:
            where = "final" if one.layer is None else f"layer {one.layer}"
            verdict = "ok" if one.passed else "PAST TOLERANCE"
            output.line(
                f"  {one.what:10} largest difference {one.largest:.2e} ({where}), "
                f"tolerance {one.tolerance:.0e}: {verdict}"
            )
        why = {layer: one for layers, one in loaded.without_weights().items() for layer in layers}
        if why:
            every = range(loaded.n_layers)
            output.line(f"  {'':10} {without_weights(every, [why.get(layer) for layer in every])}")
    if not all(one.passed for one in found):
        raise typer.Exit(Exit.REGRESSION)

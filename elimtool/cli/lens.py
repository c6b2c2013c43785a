"""``elimtool lens``: fit the calibrated lens of a model, and measure lenses on held-out text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import clouds
from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.loading import ModelOptions
from elimtool.cli.measuring import Plugin, plugged
from elimtool.cli.output import Output
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.lenses.corpus import Document
    from elimtool.lenses.evaluate import Evaluation
    from elimtool.lenses.lens import Lens

app = typer.Typer(
    help="Fit a calibrated lens, or measure one; what tokens are to each other.", no_args_is_help=True
)
app.command("near", no_args_is_help=True)(clouds.near)
app.command("analogy", no_args_is_help=True)(clouds.analogy)
app.command("axis", no_args_is_help=True)(clouds.axis)

Texts = Annotated[
    list[Path] | None,
    typer.Argument(help="UTF-8 text files. Without: the package's own text.", metavar="TEXT"),
]
Window = Annotated[
    int, shared.option("--window", metavar="N", help="Number of tokens that the model sees at once.")
]


@app.command()
@spread
def fit(
    *,
    texts: Texts = None,
    out: Annotated[
        Path | None,
        shared.option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write the lens here. Without: where trace looks for it, in place of an earlier one.",
            panel=shared.OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, shared.switch("--overwrite", help="Replace the file if there is one.", panel=shared.OUTPUT)
    ] = False,
    tokens: Annotated[
        int | None, shared.option("--tokens", metavar="N", help="Use at most N tokens. Without: all.")
    ] = None,
    window: Window = 128,
    model: ModelOptions,
    quiet: shared.Quiet = False,
) -> None:
    """Fit the ridge lens of a model from text, in one pass; prints the file written."""
    from elimtool.files.destination import check_file
    from elimtool.lenses.find import cached_lens
    from elimtool.lenses.fit import fit_lens

    output = Output(quiet)
    documents = _documents(texts, "fit")  # read first: a wrong path should not cost loading a model
    if tokens is not None and tokens < 1:
        raise ElimError(f"--tokens must be at least 1, got {tokens}")
    if out is not None:
        check_file(out, overwrite)
    source = model.source
    with output.progress(f"loading {source.name}") as say:
        loaded = source.load(say)
        lens = fit_lens(loaded, documents, tokens=tokens, window=window, progress=say)
        path = out or cached_lens(lens.facts.weights_sha256)
        lens.save(path, overwrite=overwrite or out is None)
    facts = lens.facts
    output.note(
        f"fitted on {facts.n_tokens:,} tokens, regime reference of {len(lens.reference.surprisal):,} windows"
    )
    output.wrote(path)


@app.command("eval")
@spread
def eval_(
    *,
    texts: Texts = None,
    lens: Annotated[
        list[str] | None,
        shared.option(
            "--lens",
            metavar="NAME",
            env="LENS",
            help="auto, raw, ridge, a lens file, jacobian:FILE, or patchscope; repeatable: all are read on"
            " the same text. Without: auto.",
        ),
    ] = None,
    plugin: Plugin = None,
    samples: Annotated[
        int, shared.option("--samples", metavar="N", help="About how many positions to read.")
    ] = 256,
    window: Window = 128,
    model: ModelOptions,
    printed: shared.PrintOptions,
) -> None:
    """Print how far each layer's reading is from the output, on text that the lens was not fitted on."""
    from elimtool.lenses.evaluate import evaluate
    from elimtool.lenses.find import check_choice, open_lens
    from elimtool.lenses.patchscope import Patchscope
    from elimtool.lenses.ridge import RidgeLens

    output = printed.output
    plugged(plugin)
    choices = tuple(dict.fromkeys(lens or ["auto"]))
    maps = [one for one in choices if one != Patchscope.name]
    for choice in maps:
        check_choice(choice)
    documents = _documents(texts, "held_out")
    if samples < 1:
        raise ElimError(f"--samples must be at least 1, got {samples}")
    source = model.source
    with output.progress(f"loading {source.name}") as say:
        loaded = source.load(say)
        found = [open_lens(choice, loaded)[0] for choice in maps]
        prior = next((one.reference.prior for one in found if isinstance(one, RidgeLens)), None)
        calibrated = [one for one in found if one.name != "raw"]
        if len({one.name for one in calibrated}) < len(calibrated):
            raise ElimError("two of `lens` have the same name", "rename one of the files")
        read: list[Lens | Patchscope] = [*calibrated]
        if Patchscope.name in choices:
            read.append(Patchscope(loaded))
        result = evaluate(loaded, read, documents, prior=prior, samples=samples, window=window, progress=say)
    if choices == ("auto",) and not calibrated:
        name = source.name
        output.note(f"no fitted lens for {name}: only raw is measured; fit one: elimtool lens fit -m {name}")
    if printed.as_json:
        output.json({"model": source.name, **asdict(result)})
    else:
        _print(output, result)


def _documents(texts: list[Path] | None, name: Any) -> tuple[Document, ...]:
    from elimtool.lenses.corpus import read_documents, shipped

    return read_documents(texts) if texts else shipped(name)


def _print(output: Output, result: Evaluation) -> None:
    """Print a line for each layer and lens."""
    from elimtool.lenses.evaluate import LEADING

    output.line(
        "KL(final || layer) in nats, top-1 agreement, rank correlation over the output's first"
        f" {LEADING:,} tokens, share of the mass elsewhere, how often its first is the token read;"
        f" {result.n_rows:,} positions of held-out text"
    )
    output.line(f"layer  {'lens':14}{'KL':>9}  top-1   ranks   mass    own")
    for reading in result.layers:
        output.line(
            f"{reading.layer:5}  {reading.lens[:14]:14}{reading.kl:9.3f} {reading.agreement:6.1%}"
            f"  {reading.rank_correlation:6.2f} {reading.mass_moved:6.1%} {reading.own_token:6.1%}"
        )
    if result.baseline_kl is not None and result.baseline_agreement is not None:
        guess = f"{result.baseline_kl:.3f} {result.baseline_agreement:.1%}"
        output.line(f"context-free guess (mean output on the fit text): {guess}")

"""``elimtool report``: draw a run or comparison as an HTML page, or one of its figures as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.output import Output
from elimtool.errors import ElimError, nearest
from elimtool.files.destination import check_file

if TYPE_CHECKING:
    from elimtool.report.figures.figure import Figure

PICTURE = "One figure"


def report(
    directory: Annotated[
        Path,
        typer.Argument(
            help="Directory of a run or comparison, or of what a command found in several runs.",
            metavar="DIR",
        ),
    ],
    out: Annotated[
        Path | None,
        shared.option(
            "-o",
            "--out",
            metavar="FILE",
            help="The file to write. Without: report.html here, or with --figure NAME.png.",
            panel=shared.OUTPUT,
        ),
    ] = None,
    figure: Annotated[
        str | None,
        shared.option(
            "--figure",
            metavar="NAME",
            panel=PICTURE,
            help="Write this figure as a picture instead of the page. Of a prompt: logit_lens,"
            " logit_lens_probability, retention, content, heads, head_attention, attention_matrix, sink,"
            " ranks, probabilities, contrast, funnel, components, head_attribution, head_ablation,"
            " contrast_components, experts, top_tokens, associations, attribution, locations. Of the run:"
            " outcomes, regimes, groups, lost_layers, pruned, worst. Of a pair of a comparison: ranks,"
            " probabilities, divergence, attention; of all pairs: outcomes, moved, onsets. Of an audit:"
            " audit_effects, audit_survival, audit_attention, audit_lens, audit_stages.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        shared.option(
            "--format", metavar="TYPE", panel=PICTURE, help="png, svg or pdf. Without: by the name of --out."
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        shared.option("--prompt", metavar="ID", panel=PICTURE, help="Which prompt or pair to show."),
    ] = None,
    position: Annotated[
        int | None,
        shared.option(
            "--position", metavar="N", panel=PICTURE, help="Which probed position. Without: the last."
        ),
    ] = None,
    target: Annotated[
        str | None,
        shared.option(
            "-t",
            "--target",
            panel=PICTURE,
            help="Which followed token, for components, head maps, attribution and the logit lens.",
        ),
    ] = None,
    layer: Annotated[
        int | None, shared.option("--layer", metavar="N", panel=PICTURE, help="Which layer, for heads.")
    ] = None,
    span: Annotated[
        str | None,
        shared.option("--span", metavar="NAME", panel=PICTURE, help="Which span, for head_attention."),
    ] = None,
    head: Annotated[
        str | None,
        shared.option(
            "--head", metavar="L.H", panel=PICTURE, help="Which head, such as 17.3, for attention_matrix."
        ),
    ] = None,
    foil: Annotated[
        str | None, shared.option("--foil", panel=PICTURE, help="Which foil, for contrast_components.")
    ] = None,
    overwrite: Annotated[
        bool, shared.switch("--overwrite", help="Replace the file if there is one.", panel=shared.OUTPUT)
    ] = False,
    quiet: shared.Quiet = False,
    config: shared.Config = None,
) -> None:
    """Draw a run or a comparison: one HTML page without network, or one figure for print (PNG, SVG, PDF)."""
    del config  # its values are the other parameters' defaults by now
    place = {"prompt": prompt, "position": position, "layer": layer}
    chosen = {**place, "target": target, "span": span, "head": head, "foil": foil}
    if figure is None:
        _refuse_without_figure({"format": format, **chosen})
        _page(directory, out or Path("report.html"), overwrite, Output(quiet))
        return
    from elimtool.report.figures.draw import write_picture

    kind = _format(format, out)
    path = out or Path(f"{figure}.{kind}")
    check_file(path, overwrite)
    write_picture(_figure(directory, figure, chosen), path, kind, overwrite)
    Output(quiet).wrote(path)


def _figure(directory: Path, name: str, chosen: dict[str, Any]) -> Figure:
    """Make the figure, of a run or of a comparison."""
    from elimtool.run import open_run
    from elimtool.run.comparison import is_comparison, open_comparison
    from elimtool.run.damage import refuse_damaged
    from elimtool.run.several import open_found

    if not is_comparison(directory):
        from elimtool.report.figures.choose import check_name, choose
        from elimtool.report.populations.sections import figure_of, is_figure

        if is_figure(name):
            _refuse_choices(chosen, "a figure of an analysis")
            return figure_of(open_found(directory), name)
        check_name(name, **chosen)
        refuse_damaged(directory)
        return choose(open_run(directory), name, **chosen)
    from elimtool.report.figures.compare.choose import choose as choose_compared

    _refuse_choices({**chosen, "prompt": None}, "a comparison")
    return choose_compared(open_comparison(directory), name, chosen["prompt"])


def _refuse_choices(chosen: dict[str, Any], what: str) -> None:
    for option, value in chosen.items():
        if value is not None:
            raise ElimError(f"`{option}` does not go with {what}", "leave it out")


def _page(directory: Path, path: Path, overwrite: bool, output: Output) -> None:
    from elimtool.report.html.page import write_page
    from elimtool.report.html.several import write_findings
    from elimtool.run import Run, open_run
    from elimtool.run.comparison import is_comparison, open_comparison
    from elimtool.run.damage import refuse_damaged
    from elimtool.run.several import is_several, open_found

    check_file(path, overwrite)
    if is_several(directory):
        size = write_findings(open_found(directory), path, overwrite)
        output.wrote(path)
        output.note(f"wrote {path}: what was found in several runs, {size / 1e6:.1f} MB")
        return
    compared = is_comparison(directory)
    found = open_comparison(directory) if compared else open_run(directory)
    if isinstance(found, Run):
        output.plugins(found)
    refuse_damaged(directory)
    with output.progress(f"drawing {directory}"):
        size = write_page(found, path, overwrite)
    output.wrote(path)
    count = found.manifest.counts.get("pairs" if compared else "prompts", 0)
    noun = found.noun if isinstance(found, Run) else "pair"
    output.note(f"wrote {path}: {count:,} {noun if count == 1 else noun + 's'}, {size / 1e6:.1f} MB")


def _refuse_without_figure(given: dict[str, object]) -> None:
    for name, value in given.items():
        if value is not None:
            raise ElimError(f"`{name}` goes with `figure`", "name a figure, or leave it out for the page")


def _format(given: str | None, out: Path | None) -> str:
    """Format given by the option, else by the file's name, else png."""
    from elimtool.report.figures.draw import FORMATS

    suffix = out.suffix.lower().lstrip(".") if out else ""
    kind = given or suffix or "png"
    if kind not in FORMATS:
        where = f"--format '{kind}'" if given else f"the name {out}"
        raise ElimError(f"{where} is not a picture format", nearest(kind, FORMATS))
    if given and suffix in FORMATS and suffix != given:
        raise ElimError(f"--format {given} and the name {out} do not agree", "leave --format out")
    return kind

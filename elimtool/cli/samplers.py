"""``elimtool samplers``: describe sampler stages and the engines' chains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import completing
from elimtool.cli import options as shared
from elimtool.cli.measuring import Plugin, plugged
from elimtool.cli.output import Output

if TYPE_CHECKING:
    from elimtool.samplers.catalogue import StageInfo
    from elimtool.samplers.explain import ExplainedStage

app = typer.Typer(help="Describe sampler stages and the engines' default chains.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        help="A stage, an engine, a chain file or an inline chain.",
        metavar="NAME",
        autocompletion=completing.samplers,
    ),
]


@app.command("list")
def list_(plugin: Plugin = None, as_json: shared.Json = False) -> None:
    """List the engines whose chains are known, and the stages that chains are made of."""
    plugged(plugin)
    from elimtool.samplers.catalogue import preset_infos, stage_infos

    output = Output()
    engines, stages = preset_infos(), stage_infos()
    if as_json:
        output.json({"engines": engines, "stages": [asdict(stage) for stage in stages]})
        return
    output.line("Engines (elimtool trace --samplers NAME)")
    for engine in engines:
        order = " > ".join(stage["name"] for stage in engine["stages"])
        output.folded(f"{engine['name']:22}", order)
    output.line("")
    output.line("Stages (in inline chains: STAGE=VALUE, joined by commas, in order)")
    for stage in stages:
        output.folded(f"{stage.kind:22}", stage.summary)


@app.command()
def show(name: Name, plugin: Plugin = None, as_json: shared.Json = False) -> None:
    """Describe a stage (formula, parameters, off value, sources) or a chain (its stages in order)."""
    plugged(plugin)
    from elimtool.samplers import STAGES, resolve
    from elimtool.samplers.catalogue import stage_info

    output = Output()
    if name in STAGES:
        _show_stage(output, stage_info(name), as_json)
        return
    _show_chain(output, resolve(name).describe(), as_json)


@app.command("explain")
def explain_(
    chain: Annotated[
        str,
        typer.Argument(
            help="An engine, a chain file or an inline chain; ENGINE@FOLDER lays the generation_config.json"
            " of a folder over it.",
            metavar="CHAIN",
            autocompletion=completing.chains,
        ),
    ],
    plugin: Plugin = None,
    as_json: shared.Json = False,
) -> None:
    """Explain a chain stage by stage: order, what each does, values and their origins, off values."""
    plugged(plugin)
    from elimtool.samplers import resolve
    from elimtool.samplers.explain import explain

    output = Output()
    found = resolve(chain)
    stages = explain(found)
    if as_json:
        output.json({**found.describe(), "stages": [asdict(stage) for stage in stages]})
        return
    told = found.version.lower().startswith((found.engine, "transformers"))
    output.folded("", f"{found.name}: " + ("" if told else f"{found.engine} ") + found.version)
    on = [stage.name for stage in stages if stage.on]
    said = f"{', then '.join(on)}." if on else "no stage: tokens are drawn from the model's own distribution."
    output.folded("on: ", said)
    for stage in stages:
        _explain_stage(output, stage)
    if last := [name for name, following in found.idle if not following]:
        _explain_idle(output, last)
    for note in found.left_out:
        output.folded("not applied: ", note)
    output.folded("read in: ", ", ".join(found.sources))


def _explain_stage(output: Output, stage: ExplainedStage) -> None:
    """Print one stage: in full where it is on, in one line where it is off."""
    if stage.before:
        _explain_idle(output, stage.before)
    kind = "" if stage.kind == stage.name else f", {stage.kind}"
    off = ", ".join(f"{name} = {_value(value)}" for name, value in stage.off.items()) or "leave it out"
    if not stage.on:
        output.folded(f"{stage.place:2} {stage.name}{kind}: ", f"off ({stage.role}; off at {off})")
        return
    output.folded(f"{stage.place:2} {stage.name}{kind}: ", f"ON, {stage.role}. {stage.does}")
    told = [
        f"{name} = {_value(value)}" + (f" (from {stage.origins[name]})" if name in stage.origins else "")
        for name, value in stage.values.items()
    ]
    if told:
        output.folded("   values: ", ", ".join(told))
    output.folded("   off at: ", off)
    output.folded("   sources: ", "; ".join(stage.sources))


def _value(value: Any) -> str:
    """Spell a value; a text with spaces at its ends as it is written in a chain, in quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if text == text.strip() else json.dumps(text, ensure_ascii=False)


def _explain_idle(output: Output, names: Sequence[str]) -> None:
    """Name the stages that stand here where they are set."""
    output.folded("   here if set: ", ", ".join(names))


def _show_stage(output: Output, stage: StageInfo, as_json: bool) -> None:
    if as_json:
        output.json(asdict(stage))
        return
    output.line(f"{stage.kind} ({stage.role})")
    output.folded("  ", stage.summary)
    for paragraph in stage.description.split("\n\n"):
        output.folded("  ", " ".join(paragraph.split()))
    if stage.off is not None:
        off = ", ".join(f"{key} = {value}" for key, value in stage.off.items()) or "no parameter"
        output.line(f"  off: {off}")
    if stage.unit:
        output.line(f"  threshold in: {stage.unit}")
    if stage.margin_unit:
        output.line(f"  margin in: {stage.margin_unit}")
    output.line("  parameters:")
    for one in stage.parameters:
        main = " (main)" if one.name == stage.main else ""
        also = f" Also: {', '.join(one.aliases)}." if one.aliases else ""
        output.folded(f"    {one.name}{main} = {one.default}: ", f"{one.meaning}{also}")
    output.line("  sources:")
    for source in stage.sources:
        output.folded("    ", source)


def _show_chain(output: Output, chain: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.json(chain)
        return
    output.line(f"{chain['name']}: {chain['engine']} {chain['version']}, {chain['precision']}")
    for index, stage in enumerate(chain["stages"]):
        off = " (off)" if stage["off"] else ""
        params = ", ".join(
            f"{key}={value}" for key, value in stage["params"].items() if value not in ("", None)
        )
        output.folded(f"  {index:2} {stage['name']}{off}: ", params)
    if chain["sources"]:
        output.line("  sources:")
        for source in chain["sources"]:
            output.folded("    ", source)

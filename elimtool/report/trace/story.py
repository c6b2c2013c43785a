"""Lay out the terminal story of ``elimtool trace``: the answer first, then why, then what to try next."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain

from elimtool.files.rows import Row
from elimtool.report.brought import brought_lines
from elimtool.report.facts import Probe, Tables
from elimtool.report.head import chapters, failure, head, model_line, place_in_words, prompt_line, untold
from elimtool.report.ledger import ChainLedger, ledger, ledgers
from elimtool.report.numbering import Numbering
from elimtool.report.screen import MOST_PROMPTS, Screen, spaced
from elimtool.report.targets import target_lines
from elimtool.report.trace.advice import Commands, advice_lines
from elimtool.report.trace.along import along_lines
from elimtool.report.trace.answer import answer_lines
from elimtool.report.trace.associations import association_lines
from elimtool.report.trace.beams import beam_lines
from elimtool.report.trace.contrast import contrast_lines
from elimtool.report.trace.detail import detail_lines
from elimtool.report.trace.effects import effect_lines
from elimtool.report.trace.encoding_walk import encoding_lines
from elimtool.report.trace.engines import engines
from elimtool.report.trace.evidence import layer_lines, sampler_lines
from elimtool.report.trace.experts import expert_lines
from elimtool.report.trace.futures import future_lines
from elimtool.report.trace.grammar import grammar_lines
from elimtool.report.trace.grammar_texts import grammar_text_lines
from elimtool.report.trace.heads import head_lines
from elimtool.report.trace.judgement import judgement_lines
from elimtool.report.trace.kept import kept_lines
from elimtool.report.trace.mapped import mapped_lines
from elimtool.report.trace.patchscope import patchscope_lines
from elimtool.report.trace.paths import path_lines
from elimtool.report.trace.place import place_lines
from elimtool.report.trace.positions import likeliest, position_lines
from elimtool.report.trace.resonance import resonance_lines
from elimtool.report.trace.sequences import sequence_lines
from elimtool.report.trace.sources import source_lines, source_table
from elimtool.report.trace.stops import stop_lines
from elimtool.report.trace.strip import brief_strip, null_lines, recovery_lines, strip
from elimtool.report.trace.trajectory import trajectories
from elimtool.report.trace.walk import walk_lines
from elimtool.run.reader import Run

NARROWEST = 20

Sections = list[Sequence[RenderableType]]


def story(
    run: Run,
    *,
    width: int = 80,
    encoding: str = "utf-8",
    most_prompts: int = MOST_PROMPTS,
    verbose: bool = False,
    commands: Commands | None = None,
) -> RenderableType:
    """Lay out a run: what the model would write, the place and fate of each target, the evidence.

    Args:
        run: From ``elimtool.trace`` or ``elimtool.open_run``.
        width: Columns to lay it out for.
        encoding: Encoding of the stream; one that lacks block characters gets an ASCII story.
        most_prompts: Prompts to show; the others are only counted.
        verbose: Whether to show every layer, stage and span instead of a summary that fits on one screen.
        commands: What could be typed next, see ``elimtool.report.trace.advice``; None to offer nothing.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    screen = Screen(max(width, NARROWEST), encoding)
    tables = Tables(run.under(None))
    table = tables.arrow("prompts")
    prompts = table.slice(0, most_prompts).to_pylist() if table is not None else []
    count = table.num_rows if table is not None else 0

    def tell(prompt: Row) -> list[RenderableType]:
        return _prompt(tables, prompt, screen, verbose, commands or {})

    told = chapters(prompts, count, screen, tell)
    return Constrain(Group(model_line(run.manifest, run.n_layers or 0, screen), *told), screen.width)


def print_story(
    run: Run,
    console: Console,
    *,
    most_prompts: int = MOST_PROMPTS,
    verbose: bool = False,
    commands: Commands | None = None,
) -> None:
    """Print the story in the width and encoding of a console; arguments and errors as in ``story``."""
    told = story(
        run,
        width=console.width,
        encoding=console.encoding,
        most_prompts=most_prompts,
        verbose=verbose,
        commands=commands,
    )
    console.print(told, highlight=False)


def _prompt(
    tables: Tables, prompt: Row, screen: Screen, verbose: bool, commands: Commands
) -> list[RenderableType]:
    if prompt["status"] != "ok":
        return failure(prompt, screen)
    positions = tables.positions(prompt["prompt_id"])
    written = (walk_lines, grammar_lines, grammar_text_lines, beam_lines, stop_lines)
    beside = (
        along_lines,
        encoding_lines,
        patchscope_lines,
        future_lines,
        path_lines,
        resonance_lines,
        sequence_lines,
        *written,
    )
    walk = spaced([list(tell(tables, prompt, screen)) for tell in beside])
    if not positions:
        return spaced([[prompt_line(prompt, screen)], walk or untold(tables, screen)])
    places = Numbering.of(prompt, positions)
    probe = Probe(tables, prompt, likeliest(tables, prompt, places))
    chains = ledgers(probe)
    # each section is a function in a file of its own that returns lines, none where its tables are missing
    begin: list[RenderableType] = [*head(probe, places, screen), *target_lines(probe, verbose, screen)]
    if several := len(positions) > 1:  # a story of every position would fill many screens
        begin = spaced(
            [
                begin,
                walk,
                list(position_lines(tables, prompt, places, screen)),
                list(kept_lines(tables, prompt, places, screen)),
                [screen.rule(f"In full: {_chosen(probe, places, screen)}")],
            ]
        )
    said: Sections = [
        list(answer_lines(probe, screen)),
        [*place_lines(probe, screen), *judgement_lines(probe, chains, screen)],
        list(source_lines(probe, screen)),
        list(contrast_lines(probe, screen)),
        association_lines(probe, screen),
        list(effect_lines(probe, screen)),
        [] if several else walk,
        list(head_lines(probe, screen)),
    ]
    evidence = _in_full if verbose else _in_brief
    told = [*said, *evidence(probe, chains, screen), brought_lines(probe, screen, verbose=verbose)]
    if not any(told):
        told = [untold(tables, screen)]
    return spaced([begin, *told, list(advice_lines(probe, places, chains, commands, verbose, screen))])


def _chosen(probe: Probe, places: Numbering, screen: Screen) -> str:
    """Name the position that is told, and why it is this one."""
    target = next(iter(probe.prompt["targets"] or ()), None)
    why = "" if target is None else f"; {screen.quoted(target, 20)} is likeliest here"
    return f"{place_in_words(probe, places, screen)}{why}"


def _in_brief(probe: Probe, chains: list[ChainLedger], screen: Screen) -> Sections:
    layers, samplers = layer_lines(probe, screen), sampler_lines(probe, chains, screen)
    return [
        [
            *layers,
            *expert_lines(probe, screen),
            *samplers,
            *brief_strip(probe, screen),
            *null_lines(probe, screen),
        ]
    ]


def _in_full(probe: Probe, chains: list[ChainLedger], screen: Screen) -> Sections:
    return [
        trajectories(probe, screen),
        list(expert_lines(probe, screen)),
        list(ledger(chains, screen)),
        list(engines(probe, screen)),
        list(source_table(probe, screen)),
        [*strip(probe, screen), *null_lines(probe, screen), *recovery_lines(probe, screen)],
        list(detail_lines(probe, chains, screen)),
        list(mapped_lines(probe, screen)),
    ]

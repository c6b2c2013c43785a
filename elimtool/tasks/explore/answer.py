"""Gather what the page shows of a state: figures, tokens, sliders, and how to do the same again."""

from __future__ import annotations

from typing import Any

from elimtool.errors import ElimError
from elimtool.report.facts import Probe, Tables
from elimtool.report.figures.judged import judged
from elimtool.report.figures.of_layer import of_layer
from elimtool.report.figures.prompt import PROMPT
from elimtool.report.figures.words import SCREEN
from elimtool.report.html import payload
from elimtool.report.trace.heat import bands, span_heat
from elimtool.tasks.explore.asked import PageState
from elimtool.tasks.explore.chains import is_inline
from elimtool.tasks.explore.script import script
from elimtool.tasks.explore.sliders import controls
from elimtool.tasks.explore.states import TracedState, TracedStates

SAMPLED = ("funnel", "differences", "contrast_stages")
"""Figures that depend on the sampler chains."""


def answer(states: TracedStates, state: TracedState) -> dict[str, Any]:
    """Gather all that is shown of a state."""
    tables = _tables(state)
    front = payload.front(tables)
    return {
        "run": {**front["run"], "layers": state.run.n_layers},
        "notes": front["notes"],
        "changes": [str(one) for one in state.asked.interventions],
        "line": front["prompts"][0],
        "prompt": _detail(tables),
        "dropped": states.dropped,
        "fitted": state.session.lens.name != "raw",
        **sampled(states, state),
    }


def sampled(states: TracedStates, state: TracedState) -> dict[str, Any]:
    """Gather what of a state depends on its sampler chains, and how to repeat it."""
    return {
        "asked": stated(state.asked),
        "chains": [
            {"name": one.name, "engine": one.engine, "own": is_inline(text), "stages": controls(one)}
            for text, one in zip(state.asked.samplers, state.chains, strict=True)
        ],
        "command": states.typed(state.asked, states.source),
        "python": script(state.asked, states.source, state.session.options.roles is not None),
    }


def resampled(states: TracedStates, state: TracedState) -> dict[str, Any]:
    """Gather what changes where other chains run over a kept output: verdicts and the figures of chains."""
    tables = _tables(state)
    probes = []
    for one in _probes(tables):
        drawn = [figure.to_json() for name in SAMPLED for figure in PROMPT[name](one)]
        probes.append({"position": one.position, "verdicts": judged(one), "figures": drawn})
    return {"probes": probes, **sampled(states, state)}


def stated(asked: PageState) -> dict[str, Any]:
    """Return the fields of a state that are not their defaults, for the page's address."""
    plain = PageState("")
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(asked).items()
        if name == "prompt" or value != getattr(plain, name)
    }


def layer(state: TracedState, position: int, number: int) -> list[dict[str, Any]]:
    """Make the figures of one layer: what led there, and what its heads and MLP wrote.

    Raises:
        ElimError: The position was not probed.
    """
    return [one.to_json() for one in of_layer(probe_at(state, position), number)]


def shaded(probe: Probe) -> list[dict[str, Any]]:
    """List the prompt's tokens, each with the attention that its part keeps at a probed position.

    ``lift`` is 1 for an even share of what the sinks leave, ``None`` for the sinks and what is not visible.
    """
    whole = bands(probe, 1)
    lifts: dict[int, float | None] = {}
    if whole and probe.rows("attention"):
        members = {one["span"]: one["tokens"] for one in probe.prompt["spans"] or ()}
        for heat in span_heat(probe, whole):
            for token in [heat.token] if heat.token is not None else members.get(heat.name, ()):
                lifts[token] = heat.overall
    return [
        {"at": at, "text": SCREEN.spaced(text), "lift": lifts.get(at)} for at, text in enumerate(probe.shown)
    ]


def _tables(state: TracedState) -> Tables:
    """The tables of the pass that is looked at: of the changed model, where something is changed."""
    return Tables(state.run.under(state.run.interventions))


def _detail(tables: Tables) -> dict[str, Any]:
    """Gather the figures of the prompt, as a report has them, and its tokens at each position."""
    found = next(iter(payload.details(tables)))
    for told, probe in zip(found["probes"], _probes(tables), strict=True):
        told["tokens"] = shaded(probe)
    return found


def _probes(tables: Tables) -> list[Probe]:
    prompt = payload.listed(tables)[0]
    positions = tables.positions(prompt["prompt_id"]) if prompt["status"] == "ok" else []
    return [Probe(tables, prompt, position) for position in positions[-payload.MOST_POSITIONS :]]


def probe_at(state: TracedState, position: int) -> Probe:
    """Return what was measured at a position.

    Raises:
        ElimError: It was not probed.
    """
    found = {one.position: one for one in _probes(_tables(state))}
    if position not in found:
        raise ElimError(f"position {position} was not read", "choose one of those that were")
    return found[position]

"""Choose one figure of a run by name, with errors that name the choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.prompts.component import parse_component
from elimtool.prompts.prompt import NULL, SINK
from elimtool.report.facts import Probe, Tables
from elimtool.report.figures.attribute import attribution
from elimtool.report.figures.content import content
from elimtool.report.figures.contrast import contrast_components
from elimtool.report.figures.figure import Figure, Listing
from elimtool.report.figures.layers import (
    attention_matrix,
    head_ablation,
    head_attention,
    head_attribution,
)
from elimtool.report.figures.logit_lens import logit_lens
from elimtool.report.figures.overview import OVERVIEW, Overview
from elimtool.report.figures.parts import components
from elimtool.report.figures.prompt import PROMPT
from elimtool.report.figures.retention import heads_of_layer
from elimtool.report.figures.words import quoted
from elimtool.run.reader import Run

MOST_NAMED = 5
"""Names that a message lists; the rest is counted."""
LISTINGS = ("interventions", "mapped_heads", "differences", "contrast_stages", "brought")
"""Figures of the page that are tables, not pictures."""
ON_REQUEST = ("heads", "head_attention", "attention_matrix", "logit_lens", "logit_lens_probability")
"""Figures of the page that are made from others' data, or for a whole prompt."""
OF_PROMPT = (*(name for name in PROMPT if name not in LISTINGS), *ON_REQUEST)
OF_RUN = tuple(OVERVIEW)
NAMES = OF_PROMPT + OF_RUN

MOST_POSITIONS = 12
"""Positions of a logit-lens picture: columns whose words can be read on a page's width."""
OF_TARGET: dict[str, tuple[str, Callable[[Probe, str | None], Sequence[Figure]]]] = {
    "components": ("components", components),
    "content": ("source_spans", content),
    "head_attribution": ("components", head_attribution),
    "head_ablation": ("ablations", head_ablation),
    "attribution": ("attributions", attribution),
    "logit_lens": ("lens", partial(logit_lens, most=MOST_POSITIONS)),
    "logit_lens_probability": ("lens", partial(logit_lens, most=MOST_POSITIONS, by="prob")),
}
"""Figures of one token: the table that lists its tokens, and the function that makes them."""
CHOSEN_BY = {
    **{name: {"target"} for name in OF_TARGET},
    "contrast_components": {"target", "foil"},
    "heads": {"layer"},
    "head_attention": {"span"},
    "attention_matrix": {"head"},
}
"""What else says which figure of a prompt is meant."""
ANY_TARGET = ("logit_lens",)
"""Of these, figures that need no token."""


def choose(
    run: Run,
    name: str,
    *,
    prompt: str | None = None,
    position: int | None = None,
    target: str | None = None,
    layer: int | None = None,
    span: str | None = None,
    head: str | None = None,
    foil: str | None = None,
) -> Figure:
    """Make the figure of a name.

    Args:
        run: From ``elimtool.trace`` or ``elimtool.open_run``.
        name: One of ``NAMES``.
        prompt: Id of the prompt, for figures of one; may be left out where the run has one alone.
        position: Probed position; the last one if left out.
        target: Which token, for figures of one, and to colour the logit lens by; as asked or as scored, with
            or without its space.
        layer: Which layer, for ``heads``.
        span: Which span, for ``head_attention``.
        head: Which head, such as ``17.3``, for ``attention_matrix``.
        foil: Which foil, for ``contrast_components``.

    Raises:
        ElimError: No such figure, prompt, position, token, layer, span or head; or its tables are missing.
    """
    given = {"target": target, "layer": layer, "span": span, "head": head, "foil": foil}
    check_name(name, prompt=prompt, position=position, **given)
    tables = Tables(run.under(None))
    if name in OF_RUN:
        return first_picture(OVERVIEW[name](Overview(tables)), name, "the run")
    probe = _probe(tables, prompt, position)
    if name == "heads":
        return _of_layer(probe, layer or 0)
    if name == "head_attention":
        return _of_span(probe, span)
    if name == "attention_matrix":
        return _of_head(probe, head)
    if name == "contrast_components":
        return _against(probe, target, foil)
    if name in OF_TARGET:
        return _of_target(probe, name, target)
    return first_picture(PROMPT[name](probe), name, "the prompt")


def check_name(name: str, **given: Any) -> None:
    """Check a figure's name and which of the options of ``choose`` go with it.

    Raises:
        ElimError: No such figure, or something is given that it has no use for or lacks.
    """
    if name not in NAMES:
        raise ElimError(f"there is no figure '{name}'", nearest(name, NAMES))
    wanted = {"prompt", "position"} if name in OF_PROMPT else set()
    wanted |= CHOSEN_BY.get(name, set())
    for option, value in given.items():
        if value is not None and option not in wanted:
            raise ElimError(f"`{option}` does not go with figure '{name}'", "leave it out")
    if name == "heads" and given.get("layer") is None:
        raise ElimError("figure 'heads' shows one layer", "say which with `layer`")


def _probe(tables: Tables, wanted: str | None, position: int | None) -> Probe:
    prompts = tables.all("prompts")
    ids = [row["prompt_id"] for row in prompts]
    if wanted is None and len(pairs := tables.all("location_pairs")) == 1:
        wanted = pairs[0]["prompt_id"]  # what a corrupt prompt is for stands with the clean one
    if wanted is None and len(ids) > 1:
        raise ElimError(f"the run has {len(ids):,} prompts", f"say which with `prompt`: {listed(ids)}")
    if wanted is not None and wanted not in ids:
        raise ElimError(f"the run has no prompt '{wanted}'", f"its prompts: {listed(ids)}")
    prompt = prompts[ids.index(wanted) if wanted is not None else 0] if ids else {}
    positions = tables.positions(prompt["prompt_id"]) if prompt else []
    if not positions:
        raise ElimError("nothing was measured for the prompt", str(prompt.get("error_message") or ""))
    if position is not None and position not in positions:
        raise ElimError(f"position {position} was not probed", f"probed: {listed(positions)}")
    return Probe(tables, prompt, positions[-1] if position is None else position)


def _of_target(probe: Probe, name: str, target: str | None) -> Figure:
    table, make = OF_TARGET[name]
    if target is None and name in ANY_TARGET:
        return first_picture(make(probe, None), name, "the prompt")
    one = _token(probe, table, "target", target)
    return first_picture(make(probe, one) if one is not None else [], name, "the prompt")


def _against(probe: Probe, target: str | None, foil: str | None) -> Figure:
    pair = [_token(probe, "contrast_components", *one) for one in (("target", target), ("foil", foil))]
    found = [] if None in pair else contrast_components(probe, *pair)
    return first_picture(found, "contrast_components", "the prompt")


def _token(probe: Probe, table: str, column: str, wanted: str | None) -> str | None:
    """Find the target or foil that is meant; None where the table has none.

    Raises:
        ElimError: None of them is, or there are several and it is not said which.
    """
    names = list(dict.fromkeys(probe.columns(table, (column,))[column]))
    known = dict(zip(names, names, strict=True)) | probe.spellings
    if wanted is None and len(names) > 1:
        what = "tokens were followed" if column == "target" else "foils were followed"
        raise ElimError(f"{len(names):,} {what}", f"say which with `{column}`: {listed(map(quoted, names))}")
    # as asked, then as scored, then without the space
    found = [one for one in names if wanted in (None, one)]
    found = found or [one for one in names if wanted in (known[one], one.removeprefix(" "))]
    if names and not found:
        raise ElimError(f"'{wanted}' was not followed", f"followed: {listed(map(quoted, names))}")
    return found[0] if found else None


def _of_layer(probe: Probe, layer: int) -> Figure:
    layers = sorted(set(probe.columns("attention_heads", ("layer",))["layer"]))
    if layers and layer not in layers:
        raise ElimError(f"there is no layer {layer}", f"layers: {layers[0]} to {layers[-1]}")
    return first_picture(heads_of_layer(probe, layer), "heads", "the prompt")


def _of_span(probe: Probe, span: str | None) -> Figure:
    measured = dict.fromkeys(probe.columns("attention_heads", ("span",))["span"])
    names = [one for one in measured if one not in (SINK, NULL)]
    if span is None and len(names) > 1:
        raise ElimError(f"{len(names):,} spans were measured", f"say which with `span`: {listed(names)}")
    if names and span is not None and span not in names:
        raise ElimError(f"there is no span '{span}'", nearest(span, names))
    return first_picture(head_attention(probe, span), "head_attention", "the prompt")


def _of_head(probe: Probe, head: str | None) -> Figure:
    found = probe.of_prompt("attention_weights", ("layer", "head"))
    names = [f"{layer}.{number}" for layer, number in sorted(set(zip(*found.values(), strict=True)))]
    place = None if head is None else parse_component(head)
    wanted = head if place is None else f"{place[0]}.{place[1]}"
    if not names:
        raise ElimError("the run kept no attention weights", "trace with `attention_of`, such as 17.3")
    if wanted is None and len(names) > 1:
        raise ElimError(f"the run kept {len(names):,} heads", f"say which with `head`: {listed(names)}")
    if wanted is not None and wanted not in names:
        raise ElimError(f"the run did not keep head {head}", f"it kept: {listed(names)}")
    return first_picture(attention_matrix(probe, wanted), "attention_matrix", "the prompt")


def listed(names: Iterable[object]) -> str:
    """Join the first ``MOST_NAMED`` names with commas, and count the rest."""
    words = [str(name) for name in names]
    more = f" and {len(words) - MOST_NAMED:,} more" if len(words) > MOST_NAMED else ""
    return ", ".join(words[:MOST_NAMED]) + more


def first_picture(found: Sequence[Figure], name: str, where: str) -> Figure:
    """The first figure that is not a table.

    Raises:
        ElimError: There is none.
    """
    pictures = [one for one in found if not isinstance(one, Listing)]
    if not pictures:
        raise ElimError(
            f"{where} has nothing to show as '{name}'", "its tables are missing, or hold nothing of the kind"
        )
    return pictures[0]

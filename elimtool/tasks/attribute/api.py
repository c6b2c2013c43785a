"""Attribute a target to the spans of a prompt by several methods: ``elimtool attribute``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from elimtool.analysis.attribute import agreement, direction, disagreements, ranks, top
from elimtool.engine.intake import ask, fingerprint, ids_of, refuse_duplicates
from elimtool.engine.records import arrow_table, manifest, prompt_rows
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.model.gradients import refuse_half
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.view import Encoded
from elimtool.model.wrapping import Bridge, takes_bridges
from elimtool.samplers import name_of
from elimtool.tasks.attribute.ablation import knockout, knockout_later, leave_one_out, leave_one_out_masked
from elimtool.tasks.attribute.found import Found
from elimtool.tasks.attribute.gradients import gradient_x_input, integrated_gradients
from elimtool.tasks.attribute.options import CUTS, DEFAULT_METHODS, GRADIENTS, METHODS, AttributeOptions
from elimtool.tasks.attribute.subject import Subject, subject
from elimtool.tasks.attribute.surrogate import contextcite

if TYPE_CHECKING:
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run

RUNS: dict[str, Callable[[Subject], Found]] = {
    "leave-one-out": leave_one_out,
    "leave-one-out-masked": leave_one_out_masked,
    "knockout": knockout,
    "knockout-later": knockout_later,
    "gradient-x-input": gradient_x_input,
    "integrated-gradients": integrated_gradients,
    "contextcite": contextcite,
}

TOP = 3
"""Number of a method's first spans that are removed together, to measure how much they matter."""


@takes_bridges
@exclusive
def attribute(
    model: Model | Bridge,
    prompts: str | Prompt | Iterable[str | Prompt],
    *,
    targets: Sequence[str] = (),
    foils: Sequence[str] = (),
    options: AttributeOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Attribute a target's log-probability to the spans of a prompt.

    Args:
        model: From ``load_model`` or ``wrap``, or a ``TransformerBridge``; under no intervention. Calls on
            one wait for each other.
        prompts: Strings or ``Prompt`` objects; their spans are the parts, see ``AttributeOptions.units``.
        targets: What to attribute, for prompts that name none of their own; without any, the most probable
            token.
        foils: Continuations against which the log-odds of each target are attributed, likewise.
        options: How to attribute; the defaults are those of ``elimtool attribute``.
        progress: Called with (methods done, methods in all), over all prompts.

    Returns:
        A run in memory with the tables ``prompts``, ``attributions``, ``attribution_methods`` and
        ``attribution_agreement``.

    Raises:
        ElimError: An option or (with ``errors="raise"``) a prompt cannot be used.
    """
    assert isinstance(model, Model)
    from elimtool.run import Run
    from elimtool.run.manifest import utc_now
    from elimtool.run.schema import TABLES

    started = utc_now()
    options = options or AttributeOptions()
    if model.interventions:
        raise ElimError(
            "attribution needs the model as it is, and this one is under interventions", "give it without"
        )
    methods = chosen(model, options)
    asked = ask(prompts, targets, foils)
    found: list[Encoded | ElimError] = []
    rows: dict[str, Rows] = {"attributions": [], "attribution_methods": [], "attribution_agreement": []}
    notes = _uncut(model, methods)
    for number, prompt in enumerate(asked):
        try:
            made = subject(model, prompt, options)
        except ElimError as error:
            if options.errors == "raise":
                raise
            found.append(error)
            continue
        found.append(made.whole)
        refuse_duplicates(ids_of(found))
        said: dict[str, Found] = {}
        for name in methods:
            said[name] = RUNS[name](made)
            if progress is not None:
                progress(number * len(methods) + len(said), len(asked) * len(methods))
        tabulate(made, said, rows)
        notes += [f"{made.one.prompt_id}: {note}" for note in made.notes]
    config = {
        **asdict(options),
        "chain": name_of(options.chain),
        "command": "attribute",
        "methods": list(methods),
        "notes": notes,
    }
    config["prompts_sha256"] = fingerprint(asked)
    tables = {
        name: arrow_table(name, {column: [row[column] for row in some] for column in TABLES[name].names})
        for name, some in rows.items()
    }
    tables["prompts"] = arrow_table("prompts", prompt_rows(asked, found))
    usable = [one for one in found if isinstance(one, Encoded)]
    return Run.from_tables(manifest(model, config, (), started, usable), tables)


def chosen(model: Model, options: AttributeOptions) -> tuple[str, ...]:
    """Choose the methods to run, in the order of ``METHODS``.

    Raises:
        ElimError: A method needs another number type, or attention weights where there are none.
    """
    wanted = options.methods or DEFAULT_METHODS
    others = len(model.attending) < model.n_layers
    if others and (options.methods is None or (not model.attending and set(wanted) == set(METHODS))):
        wanted = tuple(name for name in wanted if name not in CUTS)
    if not model.attending and (cuts := [name for name in wanted if name in CUTS]):
        raise ElimError(
            f"method {cuts[0]} cuts attention, and the blocks of {model.name} have no attention weights",
            f"choose from {', '.join(name for name in METHODS if name not in CUTS)}",
        )
    for name in GRADIENTS:
        if name in wanted:
            refuse_half(model, name)
    return tuple(name for name in METHODS if name in wanted)


def _uncut(model: Model, methods: Sequence[str]) -> list[str]:
    """Say what cutting attention means for a model with layers of other kinds."""
    others = [layer for layer in range(model.n_layers) if layer not in model.attending]
    if not others:
        return []
    where = "no layer has" if not model.attending else f"layers {', '.join(map(str, others))} do not have"
    cuts = [name for name in methods if name in CUTS]
    if cuts:
        return [f"{where} attention weights: what {', '.join(cuts)} cut still passes there"]
    return [f"{where} attention weights: methods that cut attention were left out"]


def tabulate(made: Subject, said: dict[str, Found], rows: dict[str, Rows]) -> None:
    """Add one prompt's rows to the three tables."""
    drops = _top_drops(made, said)
    for column, target in enumerate(made.targets):
        key = {
            "prompt_id": made.one.prompt_id,
            "position": made.whole.positions[0],
            "target": target.text,
            "target_token": target.token,
        }
        whole = {name: found.scores[None][:, column].tolist() for name, found in said.items()}
        apart = disagreements(whole)
        for name, found in said.items():
            rows["attribution_methods"].append({**key, **_method(made, name, found, column, drops)})
            for window, scores in found.scores.items():
                some = scores[:, column].tolist()
                for at, place in enumerate(ranks(some)):
                    span = made.spans[at]
                    rows["attributions"].append(
                        {
                            **key,
                            "span": span.name,
                            "span_tokens": len(span.tokens),
                            "method": name,
                            "first_layer": window[0] if window else None,
                            "last_layer": window[1] if window else None,
                            "score": some[at],
                            "score_unit": found.unit,
                            "direction": direction(some[at]),
                            "rank": place,
                            "disagrees": apart[at] if window is None and len(said) > 1 else None,
                        }
                    )
        rows["attribution_agreement"] += [
            {
                **key,
                "method": pair.method,
                "other_method": pair.other,
                "rank_correlation": pair.rank_correlation,
                "same_top": pair.same_top,
            }
            for pair in agreement(whole)
        ]


def _method(
    made: Subject, name: str, found: Found, column: int, drops: dict[tuple[str, int], tuple[int, float, int]]
) -> Row:
    """One row of ``attribution_methods``, without its key."""
    count, drop, tokens = drops.get((name, column), (None, None, 0))
    quality = ("samples", "completeness_error", "fidelity", "r2")
    return {
        "method": name,
        "foils": [foil.text for foil in made.foils],
        "value": float(made.base[column]),
        "n_forward_passes": found.forward + (count is not None),
        "n_backward_passes": found.backward[column] if found.backward else 0,
        "tokens_processed": found.tokens + tokens,
        "prefix_shared": found.shared,
        **{one: found.quality[one][column] if one in found.quality else None for one in quality},
        "top_span": made.spans[top(found.scores[None][:, column].tolist())].name,
        "top_k": count,
        "top_k_drop": drop,
    }


def _top_drops(made: Subject, said: dict[str, Found]) -> dict[tuple[str, int], tuple[int, float, int]]:
    """Remove the first spans together: their number, the loss and the tokens run, by method and target."""
    count = min(TOP, len(made.spans) - 1)
    if count < 1:
        return {}
    wanted: dict[tuple[str, int], frozenset[int]] = {}
    for name, found in said.items():
        for column in range(len(made.targets)):
            scores = found.scores[None][:, column].tolist()
            first = sorted(range(len(scores)), key=lambda at: (-scores[at], at))[:count]
            wanted[name, column] = frozenset(token for at in first for token in made.spans[at].tokens)
    removals = sorted(set(wanted.values()), key=sorted)  # methods often agree: each set is run once
    lost = dict(zip(removals, made.base - made.without(removals).values, strict=True))
    return {
        key: (count, float(lost[removed][key[1]]), len(made.one.token_ids) - len(removed))
        for key, removed in wanted.items()
    }

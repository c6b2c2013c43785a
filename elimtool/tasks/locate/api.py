"""Locate what decides between two continuations: ``elimtool locate``."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from elimtool.engine.intake import fingerprint
from elimtool.engine.records import arrow_table, columns_of, manifest, prompt_rows
from elimtool.errors import ElimError
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.wrapping import Bridge, takes_bridges
from elimtool.prompts.prompt import Prompt
from elimtool.tasks.locate.measure import CellProgress, measure
from elimtool.tasks.locate.options import LocateOptions
from elimtool.tasks.locate.pair import pair_of

if TYPE_CHECKING:
    from elimtool.run import Run


@takes_bridges
@exclusive
def locate(
    model: Model | Bridge,
    prompt: str | Prompt,
    corrupt: str | Prompt | None = None,
    *,
    target: str = "",
    foil: str | None = None,
    noise: str | None = None,
    options: LocateOptions | None = None,
    progress: CellProgress | None = None,
) -> Run:
    """Find where in layers and positions sits what decides between a target and a foil.

    Each cell of a run is patched with the state of the other run. ``r`` is what of the gap the clean state
    restores in the corrupt run, ``q`` what the corrupt state destroys in the clean run, where the gap is that
    of logit(target) - logit(foil) between the two runs.

    Args:
        model: From ``load_model`` or ``wrap``, or a ``TransformerBridge``; under no intervention. Calls on
            one wait for each other.
        prompt: The clean prompt.
        corrupt: Another prompt with as many tokens.
        target: What the clean prompt says.
        foil: What the corrupt prompt says; without one, the mean logit of all tokens is taken instead.
        noise: Instead of ``corrupt``: a part of the prompt on whose embeddings noise is put.
        options: Sites and how finely; the defaults are those of ``elimtool locate``.
        progress: Called with (cells patched, cells known to be patched in all).

    Returns:
        A run in memory with the tables ``prompts``, ``location_pairs`` and ``locations``.

    Raises:
        ElimError: An option or a prompt cannot be used.

    Sources: Meng et al. 2022 (arXiv 2202.05262), Zhang and Nanda 2024 (arXiv 2309.16042).
    """
    assert isinstance(model, Model)
    from elimtool.run import Run
    from elimtool.run.manifest import utc_now

    started = utc_now()
    options = options or LocateOptions()
    if model.interventions:
        raise ElimError(
            "locating needs the model as it is, and this one is under interventions", "give it without"
        )
    clean = Prompt(text=prompt) if isinstance(prompt, str) else prompt
    other = Prompt(text=corrupt) if isinstance(corrupt, str) else corrupt
    if target:
        clean = replace(clean, targets=(target,), foils=() if foil is None else (foil,))
    pair = pair_of(model, clean, other, noise, options)
    found = measure(model, pair, options, progress)
    asked = [clean] if other is None else [clean, other]
    encoded = [one for one in (pair.clean, pair.corrupt) if one is not None]
    config = {
        **asdict(options),
        "command": "locate",
        "position": "last",
        "noise": noise,
        "prompts_sha256": fingerprint(asked),
    }
    tables = {
        "prompts": arrow_table("prompts", prompt_rows(asked, encoded)),
        "location_pairs": arrow_table("location_pairs", columns_of([found.pair])),
        "locations": arrow_table("locations", columns_of(found.locations)),
    }
    return Run.from_tables(manifest(model, config, (), started, encoded), tables)

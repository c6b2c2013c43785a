"""Fill the tables of what a model wrote after one prompt: the walk, its risk, and where it may stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from elimtool.engine.records import columns_of
from elimtool.engine.risk import risk_row
from elimtool.engine.stops import stop_tables
from elimtool.engine.walk import Walk
from elimtool.engine.walk_tables import walk_tables
from elimtool.metrics.columns import Columns

if TYPE_CHECKING:
    from elimtool.engine.session import Session
    from elimtool.model.view import Encoded
    from elimtool.prompts.prompt import Prompt


def generated_tables(
    session: Session, one: Encoded, steps: Walk, asked: Prompt, seed: int
) -> Mapping[str, Columns]:
    """Fill the tables of a prompt's walk, of the risk of what was written, and of its stop tokens.

    Args:
        session: The model and what to measure.
        one: The prompt that was continued.
        steps: What was written.
        asked: The prompt with the targets that were asked for.
        seed: Seed of the walk; further texts take the next ones.
    """
    model, chain, options = session.model, session.walk_chain, session.options
    against = session.settings.against
    found = walk_tables(model, one, steps)
    if "risk" in session.measured:
        how = options.samples, seed, asked.targets, session.judge, against
        row = risk_row(model, one, chain, steps, *how)
        found |= {"risk": columns_of([row])}
    if session.watched:
        length = options.generate or len(steps)
        seeds = range(seed + 1, seed + 1 + options.samples)
        found |= stop_tables(model, one, chain, steps, session.watched, length, seeds, against)
    return found

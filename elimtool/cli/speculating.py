"""Declare the options of ``elimtool compare`` that let one model draft for the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from elimtool.cli import options as shared
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.tasks.compare.drafts import Speculation

PANEL = "Two models"

OF_MODELS = frozenset({"speculative", "draft_chain", "tokens"})
"""Parameters for two models only."""


@dataclass(frozen=True)
class SpeculativeOptions:
    """Whether the first model drafts tokens for the second, and how."""

    speculative: Annotated[
        bool,
        shared.switch(
            "--speculative",
            help="The first model drafts tokens, the second verifies them: tokens a pass by each acceptance"
            " rule, and what the second's chains remove of the draft.",
            panel=PANEL,
        ),
    ] = False
    draft_chain: Annotated[
        str | None,
        shared.option(
            "--draft-chain",
            metavar="CHAIN",
            help="How drafted tokens are drawn: greedy, probabilistic (at the temperature of the second"
            " model's chain), or a chain as --samplers takes it. Without: greedy.",
            panel=PANEL,
        ),
    ] = None
    tokens: Annotated[
        int | None,
        shared.option(
            "--tokens", metavar="N", help="Tokens drafted after each prompt. Without: 5.", panel=PANEL
        ),
    ] = None

    def made(self, seed: int) -> Speculation | None:
        """Make the options of the speculation; None without one.

        Raises:
            ElimError: A value cannot be used, or one is given without ``--speculative``.
        """
        given: dict[str, Any] = {"tokens": self.tokens, "draft_chain": self.draft_chain}
        kept = {name: value for name, value in given.items() if value is not None}
        if not self.speculative:
            if kept:
                raise ElimError(
                    f"`{next(iter(kept))}` goes with --speculative", "add it, or leave the other out"
                )
            return None
        from elimtool.samplers import resolve
        from elimtool.tasks.compare.drafts import DRAFT_CHAINS, Speculation

        if self.draft_chain is not None and self.draft_chain not in DRAFT_CHAINS:
            resolve(self.draft_chain)  # before a model is loaded
        return Speculation(**kept, seed=seed)

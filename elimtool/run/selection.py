"""Choose the tables that a run keeps and those that must be measured for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from elimtool.errors import ElimError, nearest
from elimtool.run.schema import TABLES, UNTRACED

TRACED = tuple(name for name in TABLES if name not in UNTRACED)
"""Tables that a trace can fill."""
WALKS = frozenset({"walk", "walk_stages", "walk_rewinds", "walk_grammar"})
"""Tables that need generated tokens."""
WRITTEN = WALKS | {"risk", "stops", "stop_tokens", "stop_stages"}
"""Tables that are filled from a walk: without any of them none is made."""
GRAMMARS = frozenset({"grammar", "grammar_targets", "grammar_passes", "grammar_pass_targets", "walk_grammar"})
"""Tables that need a chain with a grammar."""
MIXED = frozenset({"experts", "expert_components"})
"""Tables of models with mixtures of experts."""
HEADS = MIXED | {
    "attention_heads",
    "head_context",
    "components",
    "contrast_components",
    "copy_suppression",
    "sources",
}
"""Tables of single heads and experts, by far the largest."""
IF_GIVEN = frozenset({"sources"})
"""Of these, tables so large that only `heads` itself, or their own name, fills them."""
PARTS = frozenset({"contributions", "recovery"})
"""Tables of what single tokens carry to a row. Where every position is probed, and in prompts of more than
``PART_TOKENS``, what each token adds to the stream is formed only if one of them is named: one row costs
about 6 % of a forward pass."""
PART_TOKENS = 128
"""Tokens of the longest prompt with rows in ``contributions`` by default."""
DROPPED = "mechanisms"
"""The table whose ``cett_sparsity`` is measured only if it is named: dropping neurons takes a tenth of the
time of a trace, and nothing that is told needs it."""
WIDE = PARTS | {"source_spans", "contrast_sources"}
"""Tables that take much time or memory at every position, where only their own names fill them."""
FITTED = frozenset({"controls", "regimes"})
"""Tables that need the reference text in the file of a fitted lens."""
ALWAYS = "prompts"
"""The table that joins all others and says which prompts failed: every run has it."""
ON_REQUEST = {name: table.asked_by for name, table in TABLES.items() if table.asked_by is not None}
"""Tables that only an option of their own asks for."""
WALKED = frozenset({"encoding_walk", "encoding_steps"})
"""Tables of the way of a residual through the layers; where one is named, the lens reads cosines too."""
IF_NAMED = frozenset({"span_surprisal", "falloff"}) | WALKED
"""Tables that only their own names fill."""
CHANGES = frozenset({"effects"})
"""Tables that need interventions."""

_VERDICT = frozenset({"lens", "survival", "sampling_targets", "components", "controls", "regimes"})
CONTRAST = frozenset({"contrast_layers", "contrast_components", "contrast_stages"})
MAY_BE_EMPTY = frozenset(name for name, table in TABLES.items() if table.may_be_empty)
"""Tables that a run keeps although they are empty: those of pairs without a foil, those of survivors
without a survivor, those of beams without a target or a possible text."""
JUDGED_BY = {
    "verdicts": _VERDICT,
    "effects": _VERDICT | {"lens_layers"},
    "contrasts": CONTRAST,
    "ablations": frozenset({"survival"}),
}
"""Tables joined from others, which are measured whether or not they are kept."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The tables that a run keeps and those to measure for them.

    Attributes:
        kept: Tables that end up in the run.
        measured: Tables that metrics and the walk must fill.
    """

    kept: frozenset[str]
    measured: frozenset[str]


def asked_by(option: str) -> tuple[str, ...]:
    """List the tables that an option asks for, in the order in which they are listed everywhere."""
    return tuple(name for name, by in ON_REQUEST.items() if by.option == option)


def select(
    tables: Sequence[str] | None,
    *,
    heads: bool,
    walk: bool,
    intervened: bool = False,
    constrained: bool = False,
    asked: Collection[str] = (),
    unasked: Collection[str] = (),
    brought: Collection[str] = (),
) -> Selection:
    """Work out which tables to keep and which to measure.

    Args:
        tables: Names of tables; ``None`` for all.
        heads: Whether single heads are measured.
        walk: Whether tokens are generated, which fills ``walk`` and ``walk_stages``.
        intervened: Whether there are interventions, which fill ``effects``.
        constrained: Whether a chain has a grammar, which fills ``GRAMMARS``.
        asked: Tables of ``ON_REQUEST`` that options ask for.
        unasked: Tables of ``IF_GIVEN``, ``WIDE``, ``IF_NAMED`` and ``WALKS`` that are left out unless they
            are named.
        brought: Tables that metrics of plugins fill.

    Raises:
        ElimError: A name is not a table, or contradicts the other options.
    """
    without = (frozenset() if heads else HEADS) | (frozenset() if walk else WALKS)
    without |= (frozenset() if intervened else CHANGES) | (ON_REQUEST.keys() - asked)
    without |= frozenset() if constrained else GRAMMARS
    if tables is None:
        kept = set(TRACED).union(brought) - without - set(unasked)
    else:
        kept = _checked(tables, heads, walk, intervened, brought)
    kept |= {ALWAYS, *asked}
    if wrong := [] if constrained else sorted(GRAMMARS & kept):
        raise ElimError(f"table {wrong[0]} needs a grammar", "give `grammar`, `json_schema` or `regex`")
    for name in sorted(kept & ON_REQUEST.keys() - set(asked)):
        by = ON_REQUEST[name]
        raise ElimError(f"table {name} needs `{by.option}`", by.hint)
    needed = kept.union(*(JUDGED_BY[name] for name in kept if name in JUDGED_BY))
    return Selection(frozenset(kept), frozenset(needed - JUDGED_BY.keys() - without))


def refuse_unfitted(tables: Sequence[str] | None, model: str) -> None:
    """Refuse tables that need a fitted lens if there is none.

    Raises:
        ElimError: A named table is in ``FITTED``.
    """
    if asked := sorted(FITTED.intersection(tables or ())):
        raise ElimError(
            f"table {asked[0]} needs the reference text of a fitted lens, and {model} is read without one",
            f"fit one: elimtool lens fit -m {model}, and leave `lens` at auto",
        )


def refuse_dense(tables: Sequence[str] | None, model: str, unread: str | None = None) -> None:
    """Refuse tables of experts for a model without any.

    Args:
        tables: Tables that are asked for.
        model: Name of the model.
        unread: Class of experts that the model has, and that cannot be read.

    Raises:
        ElimError: A named table is in ``MIXED``.
    """
    if asked := sorted(MIXED.intersection(tables or ())):
        why = "has none"
        if unread is not None:
            why = f"calls its experts ({unread}) in a way that elimtool cannot read"
        raise ElimError(
            f"table {asked[0]} needs a mixture of experts whose router can be seen, and {model} {why}",
            "leave it out of `tables`",
        )


def _checked(
    tables: Sequence[str], heads: bool, walk: bool, intervened: bool, brought: Collection[str]
) -> set[str]:
    if not tables:
        raise ElimError("`tables` names no table", nearest("", TRACED))
    for name in tables:
        if name in UNTRACED:
            raise ElimError(f"elimtool trace does not fill table {name}", f"elimtool {UNTRACED[name]} does")
        if name not in TABLES and name not in brought:
            raise ElimError(f"`tables`: there is no table '{name}'", nearest(name, (*TRACED, *brought)))
    if not heads and (asked := sorted(HEADS & set(tables))):
        raise ElimError(
            f"`heads=False` contradicts `tables`, which name {asked[0]}", "leave one of the two out"
        )
    if not walk and (asked := sorted(WALKS & set(tables))):
        raise ElimError(f"table {asked[0]} needs a walk", "say how many tokens to write with `generate`")
    if not intervened and (asked := sorted(CHANGES & set(tables))):
        raise ElimError(f"table {asked[0]} needs an intervention", "give one, such as `ablate` 17.3")
    return set(tables)

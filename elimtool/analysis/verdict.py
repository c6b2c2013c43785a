"""Decide what became of a target from its ranks, its fate in each chain and its components.

A verdict is read off a run's tables: it says where to look, not why. Layers are judged by rank only, since a
raw lens misleads about probabilities before the last layers. The embedding (layer -1) is ignored, because
tied embeddings echo their input there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.culprits import KEY, Culprit, Key, Shares, key_of, shares
from elimtool.analysis.evidence import UNTESTED
from elimtool.analysis.fate import removes
from elimtool.files.rows import Row, Rows
from elimtool.run.roles import role_of, with_role
from elimtool.run.rules import BEATS_CHANCE, CONTENDS, NUCLEUS, SURFACED

if TYPE_CHECKING:
    from elimtool.run import Run


@dataclass(frozen=True, slots=True)
class RankEvents:
    """When a target was among the first ``SURFACED``.

    Attributes:
        entry: First layer where it was; ``None`` if there is none.
        commit: First layer from which it stays there; ``None`` if it is not there at the end.
        lost: First layer from which it is out for good; ``None`` if it never was in, or is at the end.
        best_rank: Best rank.
        best_layer: First layer with it.
        severity: log10 of the final rank over the best, >= 0.
    """

    entry: int | None
    commit: int | None
    lost: int | None
    best_rank: int
    best_layer: int
    severity: float


def trajectory(ranks: Sequence[tuple[int, int]], surfaced: int = SURFACED) -> RankEvents:
    """Find the events of a rank trajectory.

    Source of ``commit``: saturation events, Geva et al. 2022 (arXiv 2203.14680). Entry and loss are the first
    and the last membership in the top ranks.

    Args:
        ranks: (layer, rank) in order of layers, from layer 0 to the last.
        surfaced: Largest rank that counts.
    """
    inside = [layer for layer, rank in ranks if rank <= surfaced]
    final = ranks[-1][1]
    best_rank, best_layer = min((rank, layer) for layer, rank in ranks)
    outside = [layer for layer, rank in ranks if rank > surfaced]
    stays = final <= surfaced
    return RankEvents(
        entry=inside[0] if inside else None,
        commit=(outside[-1] + 1 if outside else ranks[0][0]) if stays else None,
        lost=inside[-1] + 1 if inside and not stays else None,
        best_rank=best_rank,
        best_layer=best_layer,
        severity=log10(final / best_rank),
    )


@dataclass(frozen=True, slots=True)
class FinalPlace:
    """Where a target stands in the model's output, before any chain.

    Attributes:
        rank: Its rank.
        before: Probability of all more probable tokens, 0 .. 1; it is in the nucleus below ``NUCLEUS``.
        share: Its probability over that of the most probable token, 0 .. 1.
    """

    rank: int
    before: float
    share: float

    @classmethod
    def of(cls, survival: Row) -> FinalPlace:
        """Read a row of the table ``survival``."""
        rank, before, share = survival["rank"], survival["min_top_p"], survival["max_min_p"]
        if before is None:  # probability 0
            before = 0.0 if rank == 1 else 1.0
        return cls(rank, before, share or 0.0)

    @property
    def contends(self) -> bool:
        """Whether it had a chance that a chain can take away."""
        return self.rank == 1 or (self.rank <= SURFACED and self.share >= CONTENDS)

    @property
    def present(self) -> bool:
        """Whether it is in the nucleus or among the ``SURFACED`` first."""
        return self.before < NUCLEUS or self.rank <= SURFACED


def outcome(at: FinalPlace, cut: bool, found: RankEvents) -> str:
    """Name what became of a target.

    Args:
        at: Where it stands in the model's output.
        cut: Whether a chain removes it.
        found: Its trajectory, the output included.
    """
    if cut and at.contends:
        return "sampler_eliminated"
    if at.rank == 1:
        return "survived"
    if found.entry is None:
        return "never_surfaced"
    return "outranked" if at.present else "late_eliminated"


def verdicts(run: Run) -> Rows:
    """Make the rows of the table ``verdicts`` for every followed target of a run.

    Args:
        run: A run with the tables ``lens`` and ``survival``; ``sampling_targets``, ``components``,
            ``controls`` and ``regimes`` are used if it has them.
    """
    ranks = _ranks(run)
    cuts = _first_cuts(run)
    components = shares(run)
    regimes = {(row["prompt_id"], row["position"]): row["regime"] for row in _rows(run, "regimes")}
    controls = {key_of(row): row for row in _rows(run, "controls")}
    judged = []
    for row in _rows(run, "survival", *KEY, "target_token", "rank", "prob", "min_top_p", "max_min_p"):
        key = key_of(row)
        if key not in ranks:  # a text whose tokens were scored alone, see TraceOptions.scores_only
            continue
        found = trajectory(ranks[key])
        regime = regimes.get(key[:2])
        verdict = _verdict(row, found, cuts.get(key), components.get(key), regime)
        named = {f"{one}_role": role_of(verdict[one], run.roles) for one in ("eliminator", "promoter")}
        judged.append(verdict | named | against_chance(verdict, controls.get(key)))
    return judged


def against_chance(verdict: Row, controls: Row | None) -> dict[str, float | None]:
    """Compare a loss with what the rule says about equally frequent tokens.

    Args:
        verdict: The target's ``outcome`` and ``severity``.
        controls: Its row of the table ``controls``.

    Returns:
        ``lost_p``, for lost targets the conformal p-value of being lost as severely; and ``lost_chance``, the
        share of control tokens that the rule calls lost.
    """
    if controls is None or not controls["n_controls"]:
        return {"lost_p": None, "lost_chance": None}
    severe = sum(severity >= verdict["severity"] for severity in controls["lost_severities"])
    lost = verdict["outcome"] == "late_eliminated"
    return {
        "lost_p": (1 + severe) / (1 + controls["n_controls"]) if lost else None,
        "lost_chance": controls["n_lost"] / controls["n_controls"],
    }


def in_words(verdict: Row) -> str:
    """Say where a target was lost, and by what, to follow the closing sentence; may be empty."""
    parts = [_loss(verdict)] if verdict["outcome"] == "late_eliminated" else []
    if verdict.get("cut_chain") and verdict["outcome"] != "sampler_eliminated":
        parts.append(f"no contender when {verdict['cut_stage']} of {verdict['cut_chain']} cut it")
    return "; ".join([*parts, *attribution_in_words(verdict)])


def attribution_in_words(verdict: Row) -> list[str]:
    """Name the heads or MLPs with the largest direct logit attribution; empty where none was measured.

    Such as ``direct logit attribution above mean (z: against tokens as frequent): head 23.4 adds 2.9 (z 9.2),
    head 29.0 takes 1.3 (z -1.4)``: the mean over the vocabulary, which a component adds to all tokens alike,
    is no part of it; z is that of table ``components``. A head's role follows it where a map was given.
    """
    named = [name for name in ("promoter", "eliminator") if verdict[name] is not None]
    if not named:
        return []
    z = {name: verdict.get(f"{name}_z") for name in named}  # runs of earlier versions have none
    heads = {name: with_role(verdict[name], verdict.get(f"{name}_role")) for name in named}
    told = [
        f"{heads[name]} {'adds' if name == 'promoter' else 'takes'} {abs(verdict[f'{name}_dla']):.1f}"
        + ("" if z[name] is None else f" (z {z[name]:.1f})")
        for name in named
    ]
    against = " (z: against tokens as frequent)" if any(z.values()) else ", not compared with other tokens"
    return [f"direct logit attribution above mean{against}: {', '.join(told)}"]


def _loss(verdict: Row) -> str:
    """Say where a target was lost; only a candidate unless equally frequent tokens seldom fare so badly."""
    p, layer = verdict.get("lost_p"), verdict["lost_layer"]  # runs of earlier versions have no p-value
    when = f"in the top-{SURFACED} from layer {verdict['entry_layer']}"
    if p is not None and p <= BEATS_CHANCE:
        return f"lost at layer {layer}, {when} (p-value {spell_prob(p)} against tokens as frequent)"
    why = "not tested against chance" if p is None else f"p-value {spell_prob(p)} against tokens as frequent"
    return f"candidate for lost at layer {layer}, {when} ({why})"


def _verdict(
    row: Row, found: RankEvents, cut: Row | None, components: Shares | None, regime: str | None
) -> Row:
    eliminator = components.extreme(-1, found.lost) if components else None
    promoter = components.extreme(1) if components else None
    return {
        **{name: row[name] for name in (*KEY, "target_token")},
        "outcome": outcome(FinalPlace.of(row), cut is not None, found),
        "regime": regime,
        "entry_layer": found.entry,
        "commit_layer": found.commit,
        "best_rank": found.best_rank,
        "best_layer": found.best_layer,
        "lost_layer": found.lost,
        "severity": found.severity,
        "final_rank": row["rank"],
        "final_prob": row["prob"],
        "cut_chain": cut["chain"] if cut else None,
        "cut_stage": cut["stage"] if cut else None,
        "cut_margin": cut["margin"] if cut else None,
        **Culprit.columns("eliminator", eliminator),
        **Culprit.columns("promoter", promoter),
        "evidence": "observed",
        **UNTESTED,
        "intervention": None,
    }


def _rows(run: Run, name: str, *columns: str) -> Rows:
    """Read the rows of a table, all columns or those named; none if there is no such table."""
    if name not in run.tables:
        return []
    table = run.arrow(name)
    rows: Rows = (table.select(columns) if columns else table).to_pylist()
    return rows


def _ranks(run: Run) -> dict[Key, list[tuple[int, int]]]:
    """Collect (layer, rank) from layer 0 on for every target, without foils."""
    found: dict[Key, list[tuple[int, int]]] = {}
    if "lens" not in run.tables:
        return found
    table = run.arrow("lens")
    columns = [table[name].to_pylist() for name in (*KEY, "layer", "rank", "is_foil")]
    for prompt, position, target, layer, rank, is_foil in zip(*columns, strict=True):
        if layer >= 0 and not is_foil:
            found.setdefault((prompt, position, target), []).append((layer, rank))
    return found


def _first_cuts(run: Run) -> dict[Key, Row]:
    """Find the first chain's row of ``sampling_targets`` for each target that a chain removes for good."""
    found: dict[tuple[Key, str], Row] = {}
    if "sampling_targets" in run.tables:
        table = run.arrow("sampling_targets")
        columns = [*KEY, "chain", "stage", "margin", "alive_before", "alive_after"]
        # in many rows the target is gone and stays so: drop them before they become Python objects
        counts = pc.or_(table["alive_before"], table["alive_after"])
        for row in table.filter(counts).select(columns).to_pylist():
            if removes(row):
                found[key_of(row), row["chain"]] = row
            else:
                found.pop((key_of(row), row["chain"]), None)  # a later stage brought it back
    return {key: row for (key, _), row in reversed(found.items())}

"""The verdict: decide what became of a target from its ranks, its fate in each chain and its components.

Everything here is read off a run's tables: it says where to look, not why. Layers are judged by rank alone,
since the probabilities of a raw lens mislead below the last layers; the embedding (layer -1) counts for
nothing, because tied embeddings echo their input there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.culprits import KEY, Key, Shares, shares
from elimtool.analysis.evidence import UNTESTED
from elimtool.analysis.fate import removes
from elimtool.files.rows import Row, Rows
from elimtool.run.rules import BEATS_CHANCE, NUCLEUS, SURFACED

if TYPE_CHECKING:
    from elimtool.run import Run


@dataclass(frozen=True, slots=True)
class RankEvents:
    """When a target was among the ``SURFACED`` first.

    Attributes:
        entry: First such layer; ``None`` if there is none.
        commit: First layer from which on it stays so; ``None`` if it is not so at the end.
        lost: First layer from which on it never is again; ``None`` if it never was, or is at the end.
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
    """Events of a rank trajectory.

    Sources: saturation events, Geva et al. 2022 (arXiv 2203.14680), for ``commit``; the others follow the
    definitions of entry, loss and severity as first and last membership in the top ranks.

    Args:
        ranks: (layer, rank) in order of layers, from layer 0 to the last.
        surfaced: How many first ranks count.
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


def outcome(final_rank: int, nucleus_before: float, cut: bool, found: RankEvents) -> str:
    """What became of a target.

    Args:
        final_rank: Rank in the model's output.
        nucleus_before: Probability of all tokens more probable than it; it is in the nucleus where that is
            below ``NUCLEUS``.
        cut: Whether a chain removes it.
        found: Its trajectory.
    """
    in_nucleus = nucleus_before < NUCLEUS
    if cut and in_nucleus:
        return "sampler_eliminated"
    if final_rank == 1:
        return "survived"
    if in_nucleus or final_rank <= SURFACED:
        return "outranked"
    return "never_surfaced" if found.entry is None else "late_eliminated"


def verdicts(run: Run) -> Rows:
    """Rows of the table ``verdicts`` for every followed target of a run.

    Args:
        run: A run with the tables ``lens`` and ``survival``; ``sampling_targets``, ``components``,
            ``controls`` and ``regimes`` are used where there are any.
    """
    ranks = _ranks(run)
    cuts = _first_cuts(_cut_rows(run))
    components = shares(run)
    regimes = {(row["prompt_id"], row["position"]): row["regime"] for row in _rows(run, "regimes")}
    controls = {_key(row): row for row in _rows(run, "controls")}
    judged = []
    for row in _rows(run, "survival", *KEY, "rank", "prob", "min_top_p"):
        key = _key(row)
        found = trajectory(ranks[key])
        regime = regimes.get(key[:2])
        verdict = _verdict(row, found, cuts.get(key), components.get(key), regime)
        judged.append(verdict | against_chance(verdict, controls.get(key)))
    return judged


def against_chance(verdict: Row, controls: Row | None) -> dict[str, float | None]:
    """What the rule for lost targets makes of tokens as frequent as a target.

    Args:
        verdict: Its ``outcome`` and ``severity``.
        controls: Its row of the table ``controls``.

    Returns:
        ``lost_p``, the conformal p-value of being lost as severely, for lost targets; and ``lost_chance``,
        the share of control tokens that the rule calls lost.
    """
    if controls is None or not controls["n_controls"]:
        return {"lost_p": None, "lost_chance": None}
    severe = sum(one >= verdict["severity"] for one in controls["lost_severities"])
    lost = verdict["outcome"] == "late_eliminated"
    return {
        "lost_p": (1 + severe) / (1 + controls["n_controls"]) if lost else None,
        "lost_chance": controls["n_lost"] / controls["n_controls"],
    }


def in_words(verdict: Row) -> str:
    """What a verdict adds to the closing sentence: where the target was lost, and by what; may be empty."""
    parts = [_loss(verdict)] if verdict["outcome"] == "late_eliminated" else []
    for name, told in (("promoter", "most for it"), ("eliminator", "most against it")):
        if verdict[name] is not None:
            parts.append(f"{told} {verdict[name]} ({verdict[f'{name}_dla']:+.1f} logits)")
    return "; ".join(parts)


def _loss(verdict: Row) -> str:
    """Where a target was lost; only a candidate unless tokens as frequent seldom fare so badly."""
    p, layer = verdict.get("lost_p"), verdict["lost_layer"]  # runs of earlier versions have no null
    when = f"among the {SURFACED} first from layer {verdict['entry_layer']}"
    if p is not None and p <= BEATS_CHANCE:
        return f"lost at layer {layer}, {when} (p = {spell_prob(p)} against tokens as frequent)"
    why = "not tested against chance" if p is None else f"p = {spell_prob(p)} against tokens as frequent"
    return f"candidate for lost at layer {layer}, {when} ({why})"


def _verdict(
    row: Row, found: RankEvents, cut: Row | None, components: Shares | None, regime: str | None
) -> Row:
    before = 0.0 if row["min_top_p"] is None and row["rank"] == 1 else row["min_top_p"]
    before = 1.0 if before is None else before
    eliminator = components.extreme(-1, found.lost) if components else None
    promoter = components.extreme(1) if components else None
    return {
        **{name: row[name] for name in ("prompt_id", "position", "target")},
        "outcome": outcome(row["rank"], before, cut is not None, found),
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
        "eliminator": eliminator[0] if eliminator else None,
        "eliminator_dla": eliminator[1] if eliminator else None,
        "promoter": promoter[0] if promoter else None,
        "promoter_dla": promoter[1] if promoter else None,
        "evidence": "observed",
        **UNTESTED,
        "intervention": None,
    }


def _rows(run: Run, name: str, *columns: str) -> Rows:
    """Rows of a table, all columns or those named; none where there is no such table."""
    if name not in run.tables:
        return []
    table = run.arrow(name)
    rows: Rows = (table.select(columns) if columns else table).to_pylist()
    return rows


def _cut_rows(run: Run) -> Rows:
    """Rows of ``sampling_targets`` whose stage removes its target."""
    if "sampling_targets" not in run.tables:
        return []
    table = run.arrow("sampling_targets")
    columns = [*KEY, "chain", "stage", "margin", "alive_before", "alive_after"]
    rows = table.filter(table["alive_before"]).select(columns)  # the others are many, and removed before
    return [row for row in rows.to_pylist() if removes(row)]


def _key(row: Row) -> Key:
    return row["prompt_id"], row["position"], row["target"]


def _ranks(run: Run) -> dict[Key, list[tuple[int, int]]]:
    """(layer, rank) from layer 0 on of every target that is no foil."""
    found: dict[Key, list[tuple[int, int]]] = {}
    if "lens" not in run.tables:
        return found
    table = run.arrow("lens")
    columns = [table[name].to_pylist() for name in (*KEY, "layer", "rank", "is_foil")]
    for prompt, position, target, layer, rank, is_foil in zip(*columns, strict=True):
        if layer >= 0 and not is_foil:
            found.setdefault((prompt, position, target), []).append((layer, rank))
    return found


def _first_cuts(rows: Iterable[Row]) -> dict[Key, Row]:
    """The first chain's row of each target that any chain removes."""
    found: dict[Key, Row] = {}
    for row in rows:
        found.setdefault(_key(row), row)
    return found

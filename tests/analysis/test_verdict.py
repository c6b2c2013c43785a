"""Trajectory events and outcomes: hand-made cases, and the invariants of their definitions."""

from __future__ import annotations

from math import log10

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elimtool.analysis.fate import Bound, ChainFate
from elimtool.analysis.verdict import (
    FinalPlace,
    RankEvents,
    against_chance,
    in_words,
    outcome,
    trajectory,
    verdicts,
)
from elimtool.analysis.verdict_sentence import verdict_sentence
from elimtool.run.rules import SURFACED


def ranked(*ranks: int) -> list[tuple[int, int]]:
    return list(enumerate(ranks))


@pytest.mark.parametrize(
    ("ranks", "entry", "commit", "lost", "best"),
    [
        ((500, 40, 9, 3, 1), 2, 2, None, (1, 4)),
        ((500, 9, 40, 3, 1), 1, 3, None, (1, 4)),
        ((5, 9, 10, 3, 1), 0, 0, None, (1, 4)),
        ((500, 4, 40, 7, 900), 1, None, 4, (4, 1)),
        ((500, 4, 4, 70, 900), 1, None, 3, (4, 1)),
        ((500, 40, 11, 70, 11), None, None, None, (11, 2)),
        ((3,), 0, 0, None, (3, 0)),
        ((30,), None, None, None, (30, 0)),
    ],
)
def test_events(
    ranks: tuple[int, ...], entry: int | None, commit: int | None, lost: int | None, best: tuple[int, int]
) -> None:
    found = trajectory(ranked(*ranks))
    assert (found.entry, found.commit, found.lost) == (entry, commit, lost)
    assert (found.best_rank, found.best_layer) == best
    assert found.severity == pytest.approx(log10(ranks[-1] / best[0]))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_events_keep_their_invariants(ranks: list[int]) -> None:
    found = trajectory(ranked(*ranks))
    inside = [rank <= SURFACED for rank in ranks]
    assert (found.entry is None) == (not any(inside))
    assert (found.commit is None) == (not inside[-1])
    assert (found.lost is not None) == (any(inside) and not inside[-1])
    if found.commit is not None:
        assert found.entry is not None and found.entry <= found.commit
        assert all(inside[found.commit :])
        assert found.commit == 0 or not inside[found.commit - 1]
    if found.lost is not None:
        assert not any(inside[found.lost :])
        assert inside[found.lost - 1]
    assert found.severity >= 0
    wider = trajectory(ranked(*ranks), surfaced=20)
    if found.entry is not None:
        assert wider.entry is not None and wider.entry <= found.entry
    if found.commit is not None:
        assert wider.commit is not None and wider.commit <= found.commit


SURFACING = trajectory(ranked(50, 3, 700))
NEVER = trajectory(ranked(50, 60, 700))


@pytest.mark.parametrize(
    ("rank", "before", "share", "cut", "found", "expected"),
    [
        (1, 0.0, 1.0, False, SURFACING, "survived"),
        (1, 0.0, 1.0, True, SURFACING, "sampler_eliminated"),
        (3, 0.8, 0.3, True, SURFACING, "sampler_eliminated"),
        (10, 0.8, 0.1, True, SURFACING, "sampler_eliminated"),
        (2, 0.97, 0.1, True, SURFACING, "sampler_eliminated"),
        (3, 0.8, 0.3, False, SURFACING, "outranked"),
        (10, 0.8, 0.099, True, SURFACING, "outranked"),
        (11, 0.8, 0.9, True, SURFACING, "outranked"),
        (2, 0.97, 0.02, True, SURFACING, "outranked"),
        (40, 0.9, 0.01, False, SURFACING, "outranked"),
        (596, 0.9, 0.001, True, NEVER, "never_surfaced"),
        (40, 0.9, 0.01, False, NEVER, "never_surfaced"),
        (700, 0.99, 1e-4, True, SURFACING, "late_eliminated"),
        (700, 0.99, 1e-4, True, NEVER, "never_surfaced"),
        (11, 0.95, 0.01, False, NEVER, "never_surfaced"),
    ],
)
def test_outcomes(
    rank: int, before: float, share: float, cut: bool, found: RankEvents, expected: str
) -> None:
    assert outcome(FinalPlace(rank, before, share), cut, found) == expected


places = st.integers(1, 800).flatmap(
    lambda rank: st.builds(
        FinalPlace,
        st.just(rank),
        st.just(0.0) if rank == 1 else st.floats(0, 1),
        st.just(1.0) if rank == 1 else st.floats(0, 1),
    )
)


@given(places, st.lists(st.integers(1, 40), max_size=6), st.booleans())
def test_every_outcome_is_true_of_what_it_is_said_of(at: FinalPlace, earlier: list[int], cut: bool) -> None:
    ranks = [*earlier, at.rank]
    said = outcome(at, cut, trajectory(ranked(*ranks)))
    surfaced = min(ranks) <= SURFACED
    contended = at.rank == 1 or (at.rank <= 10 and at.share >= 0.1)
    truths = {
        "sampler_eliminated": cut and contended,
        "survived": at.rank == 1 and not cut,
        "outranked": at.rank > 1 and surfaced and (at.before < 0.95 or at.rank <= 10),
        "late_eliminated": surfaced and at.before >= 0.95 and at.rank > 10,
        "never_surfaced": not surfaced,
    }
    assert truths[said]
    assert not (cut and contended) or said == "sampler_eliminated"  # never outranked, whatever else holds


def test_a_target_of_probability_zero_stands_outside_the_nucleus() -> None:
    nothing = {"min_top_p": None, "max_min_p": None}
    assert FinalPlace.of({"rank": 9, **nothing}) == FinalPlace(9, 1.0, 0.0)
    assert not FinalPlace.of({"rank": 9, **nothing}).contends
    assert FinalPlace.of({"rank": 1, **nothing}).contends


class FakeRun:
    """A run whose tables are lists of rows."""

    def __init__(self, **tables: list[dict[str, object]]) -> None:
        self.tables = tables
        self.roles: dict[str, str] = {}

    def arrow(self, name: str) -> pa.Table:
        return pa.Table.from_pylist(self.tables[name])


def test_the_joined_row() -> None:
    at = {"prompt_id": "p", "position": 4, "target": " x"}
    ranks = ((-1, 2), (0, 90), (1, 4), (2, 800))
    lens = [at | {"layer": layer, "rank": rank, "is_foil": False} for layer, rank in ranks]
    survival = [
        at | {"target_token": " x", "rank": 800, "prob": 1e-6, "min_top_p": 0.9999, "max_min_p": 1e-5}
    ]
    fates = [
        at | {"chain": "hf", "stage": "top_k", "alive_before": True, "alive_after": True, "margin": 1.0},
        at | {"chain": "a", "stage": "top_k", "alive_before": True, "alive_after": False, "margin": -2.0},
        at | {"chain": "a", "stage": "top_p", "alive_before": False, "alive_after": False, "margin": -9.0},
        at | {"chain": "b", "stage": "min_p", "alive_before": True, "alive_after": False, "margin": -3.0},
    ]
    components = [
        at | {"component": name, "kind": kind, "layer": layer, "dla_centred": dla, "z": z}
        for name, kind, layer, dla, z in (
            ("embed", "embed", None, -99.0, None),
            ("head 0.1", "head", 0, -5.0, 1.0),
            ("mlp 1", "mlp", 1, -1.0, 1.0),
            ("head 2.0", "head", 2, -2.0, -0.25),
            ("mlp 0", "mlp", 0, 3.0, 6.5),
        )
    ]
    run = FakeRun(lens=lens, survival=survival, sampling_targets=fates, components=components)
    (row,) = verdicts(run)  # type: ignore[arg-type]
    assert row["outcome"] == "late_eliminated"
    assert (row["entry_layer"], row["lost_layer"], row["commit_layer"]) == (1, 2, None)
    assert (row["cut_chain"], row["cut_stage"], row["cut_margin"]) == ("a", "top_k", -2.0)
    assert (row["eliminator"], row["eliminator_dla"]) == ("head 2.0", -2.0)
    assert (row["promoter"], row["promoter_dla"]) == ("mlp 0", 3.0)
    assert in_words(row) == (
        "candidate for lost at layer 2, in the top-10 from layer 1 (not tested against chance);"
        " no contender when top_k of a cut it;"
        " direct logit attribution above mean (z: against tokens as frequent):"
        " mlp 0 adds 3.0 (z 6.5), head 2.0 takes 2.0 (z -0.2)"
    )
    assert (row["eliminator_z"], row["promoter_z"]) == (-0.25, 6.5)
    unknown = row | {"eliminator_z": None, "promoter_z": None}
    assert in_words(unknown).endswith(
        "direct logit attribution above mean, not compared with other tokens: mlp 0 adds 3.0, head 2.0 takes"
        " 2.0"
    )
    (bare,) = verdicts(FakeRun(lens=lens, survival=survival))  # type: ignore[arg-type]
    assert "attribution" not in in_words(bare)
    assert bare["cut_chain"] is bare["eliminator"] is bare["promoter"] is None


LOST = {"outcome": "late_eliminated", "severity": 2.0, "lost_layer": 7, "entry_layer": 3}
NAMELESS = {"promoter": None, "eliminator": None}


@pytest.mark.parametrize(
    ("severities", "p", "words"),
    [
        ([], 0.01, "lost at layer 7, in the top-10 from layer 3 (p-value 0.01 against tokens as frequent)"),
        ([1.9] * 50, 0.01, "lost at layer 7"),
        ([1.9, 2.0, 2.1, 3.0, 4.0], 0.05, "lost at layer 7"),
        ([2.0] * 5, 0.06, "candidate for lost at layer 7, in the top-10 from layer 3 (p-value 0.06"),
    ],
)
def test_lost_is_said_only_where_it_beats_chance(severities: list[float], p: float, words: str) -> None:
    controls = {"n_controls": 99, "n_lost": len(severities), "lost_severities": severities}
    found = against_chance(LOST, controls)
    assert found == {"lost_p": pytest.approx(p), "lost_chance": pytest.approx(len(severities) / 99)}
    assert in_words(LOST | NAMELESS | found).startswith(words)


def test_a_target_that_is_not_lost_has_the_chance_but_no_p_value() -> None:
    controls = {"n_controls": 50, "n_lost": 10, "lost_severities": [1.0] * 10}
    assert against_chance({"outcome": "survived", "severity": 0.0}, controls) == {
        "lost_p": None,
        "lost_chance": 0.2,
    }
    nothing = {"lost_p": None, "lost_chance": None}
    assert against_chance(LOST, None) == against_chance(LOST, {"n_controls": 0}) == nothing


def test_a_run_of_an_earlier_version_is_told_without_its_null() -> None:
    assert "not tested against chance" in in_words(LOST | NAMELESS)


def test_a_survivor_at_probability_0_is_not_said_to_be_kept() -> None:
    row = LOST | {"outcome": "survived", "final_rank": 1, "final_prob": 0.6}
    idle, other = ChainFate("vllm", left=300, prob=0.0), ChainFate("hf", left=4, prob=0.5)
    told = verdict_sentence("' d'", row, [idle], None)
    assert told.endswith("first choice, though vllm leaves it no chance to be drawn (p 0).")
    assert verdict_sentence("' d'", row, [other], None).endswith("first choice and hf keeps it.")
    ranked = row | {"outcome": "outranked", "final_rank": 2}
    assert "drawn (p 0.5 with hf)" in verdict_sentence("' d'", ranked, [idle, other], None)
    assert "vllm leaves it no chance to be drawn" in verdict_sentence("' d'", ranked, [idle], None)


@pytest.mark.parametrize("said", ["sampler_eliminated", "outranked", "late_eliminated", "never_surfaced"])
@pytest.mark.parametrize("p", [None, 0.01, 0.6])
def test_what_a_chain_removed_is_told_with_every_outcome(said: str, p: float | None) -> None:
    row = LOST | {"outcome": said, "lost_p": p, "final_rank": 22, "final_prob": 0.006}
    row |= {"best_rank": 4, "best_layer": 5}
    cut = ChainFate("llama.cpp", "min_p", Bound("needed min_p of at most 0.02", 0.02, 0.05))
    told = verdict_sentence("' Paris'", row, [cut], None)
    assert told.count("min_p of llama.cpp (needed min_p of at most 0.02, is 0.05) cuts it") == 1
    if said != "sampler_eliminated":  # which is said only where a chain cuts it
        assert "cut" not in verdict_sentence("' Paris'", row, [ChainFate("hf", left=4)], None)

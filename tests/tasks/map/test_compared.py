"""Two maps compared: what was put into the sums of one is found, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elimtool
from elimtool.analysis.map.api import find_map
from elimtool.errors import ElimError, Exit
from elimtool.report.compare.maps import maps_section
from elimtool.report.html.compare import details, front
from elimtool.run import Run
from elimtool.run.analysis import Analysis
from elimtool.run.comparison import Comparison, open_comparison
from tests.cli.conftest import Command
from tests.cli.conftest import elimtool as command  # noqa: F401 - a fixture

Edit = Callable[[dict[str, Any], np.ndarray], np.ndarray | None]


def edited(run: Run, out: Path, edit: Edit, keep: Callable[[str], bool] = lambda _: True) -> Path:
    """Write a map with other sums, ``edit(row, its array)``; units that are not kept are left out."""
    sums = []
    for row in run.arrow("map_sums").to_pylist():
        if row["unit"] is None or keep(row["unit"]):
            new = edit(row, np.reshape(row["values"], row["shape"]))
            sums.append(row if new is None else row | {"values": new.reshape(-1).tolist()})
    prompts = [row for row in run.arrow("prompts").to_pylist() if keep(row["prompt_id"])]
    run.with_rows("map_sums", sums).with_rows("prompts", prompts).save(out)
    find_map(elimtool.open_run(out)).save(out)
    return out


HEADS = {"induction": (1, 2), "duplicate": (0, 1), "previous": (1, 0)}


def scored(scores: dict[str, float]) -> Edit:
    """Give one head of a role a score, a little other in every unit, and its null 0."""

    def edit(row: dict[str, Any], values: np.ndarray) -> np.ndarray | None:
        if row["part"] != "roles" or row["array"] not in scores or not row["unit"].startswith("repeats"):
            return None
        score = scores[row["array"]] + 0.001 * int(row["unit"][-2:])
        values = values.copy()
        values[HEADS[row["array"]]] = score * ROWS[row["array"]]
        return values

    return edit


ROWS: dict[str, float] = {}


@pytest.fixture(scope="module")
def base(mapped: Analysis, map_directory: Path) -> Run:
    run = elimtool.open_run(map_directory)
    for row in run.arrow("map_sums").to_pylist():
        for role, head in HEADS.items():
            if row["array"] == f"{role}.rows" and str(row["unit"]).startswith("repeats"):
                ROWS[role] = float(np.reshape(row["values"], row["shape"])[head])
    return run


@pytest.fixture(scope="module")
def sides(base: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Induction appears, duplicate vanishes, previous grows by a half."""
    place = tmp_path_factory.mktemp("sides")
    a = edited(base, place / "a", scored({"duplicate": 0.6, "previous": 0.4}))
    return a, edited(base, place / "b", scored({"induction": 0.7, "previous": 0.6}))


@pytest.fixture(scope="module")
def found(sides: tuple[Path, Path]) -> Comparison:
    return elimtool.compare_maps(*sides)


def test_what_was_put_in_is_found_and_nothing_else(found: Comparison) -> None:
    rows = found.table("map_differences").query("change.isin(['appeared', 'vanished', 'moved'])")
    changes = {(row.measure, row.change): (row.layer, row.head) for row in rows.itertuples()}
    assert changes == {
        ("induction", "appeared"): HEADS["induction"],
        ("duplicate", "vanished"): HEADS["duplicate"],
        ("previous", "moved"): HEADS["previous"],
    }
    moved = rows[rows["measure"] == "previous"].iloc[0]
    # a hand-made difference that is alike in every probe has no width
    assert [moved[one] for one in ("score_difference", "low", "high")] == pytest.approx([0.2] * 3)
    assert moved["p"] == 2 / 2**16 and moved["n_units"] == 16  # all signs as they are, or all turned round
    others = found.table("map_differences").drop(rows.index)
    changed = others["measure"].isin(HEADS) & (others["score_difference"] != 0)
    assert not changed.any()


def test_what_heads_keep_how_far_they_look_and_open_neurons_are_compared(base: Run, tmp_path: Path) -> None:
    """Head 1.2 keeps half as much of a category in B, 2.3 looks farther, layer 1 opens fewer neurons."""

    def edit(row: dict[str, Any], values: np.ndarray) -> np.ndarray | None:
        key, values = (row["part"], row["array"]), values.copy()
        if key == ("categories", "found"):
            values[1, 2, 0] /= 2
        elif key == ("distances", "lift"):
            values[2, 3] *= np.arange(values.shape[-1]) + 1  # little of what is near, more of what is far
        elif key == ("neurons", "opened"):
            values[1] -= 0.1
        else:
            return None
        return values

    a, b = edited(base, tmp_path / "a", lambda *_: None), edited(base, tmp_path / "b", edit)
    found = elimtool.compare_maps(a, b)
    rows = found.table("map_differences")
    certain = rows[rows["q"] <= 0.05]
    kept = elimtool.open_run(a).analysis("map").table("head_categories")
    (row,) = certain[certain["part"] == "categories"].itertuples()
    assert (row.layer, row.head) == (1, 2) and row.measure == kept["category"][0]
    own = kept[(kept["layer"] == 1) & (kept["head"] == 2) & (kept["category"] == row.measure)]
    assert row.score_a == pytest.approx(own["selectivity"].item())
    assert row.score_b == pytest.approx(row.score_a / 2) and row.low <= row.score_difference <= row.high < 0
    (row,) = certain[certain["measure"] == "reach"].itertuples()
    assert (row.layer, row.head) == (2, 3) and row.score_b > row.score_a and row.low > 0
    (row,) = certain[certain["measure"] == "open"].itertuples()
    assert row.layer == 1 and row.score_difference == pytest.approx(-0.1)
    kernels = rows[rows["measure"] == "self_bias_net"]
    assert len(kernels) == 16 and kernels["q"].isna().all() and not kernels["score_difference"].any()
    said = maps_section(found).told
    assert any("differs in 1 of 16 heads, most in 1.2" in one for one in said), said
    assert any(one.startswith("the mean distance that heads look back differs in 1 of 16") for one in said)
    assert any(one.startswith("the share of neurons that is open differs in 1 of 4 layers") for one in said)
    names = [one.name for one in maps_section(found).figures]
    assert names == ["map_differences", "map_looks", "map_layers", "map_neurons"]


def test_exchanged_sides_find_nothing_between_maps_that_differ_by_chance(base: Run, tmp_path: Path) -> None:
    chance = np.random.default_rng(3)

    def noisy(row: dict[str, Any], values: np.ndarray) -> np.ndarray | None:
        many = (row["part"], row["array"]) in {("categories", "found"), ("distances", "lift")}
        return values * chance.lognormal(0, 0.3, values.shape) if many else None

    paths = [edited(base, tmp_path / name, noisy) for name in "ab"]
    rows = elimtool.compare_maps(*paths).table("map_differences")
    rows = rows[rows["part"].isin(["categories", "distances"]) & rows["p"].notna()]
    assert len(rows) > 50 and (rows["q"] > 0.05).all()
    assert 0.01 < (rows["p"] < 0.1).mean() < 0.2  # as often as chance has it
    inside = (rows["low"] <= 0) & (rows["high"] >= 0)
    assert inside.mean() > 0.85


def test_intervals_are_over_pairs_of_units(sides: tuple[Path, Path], base: Run, tmp_path: Path) -> None:
    # scores differ between units by far more than between sides: only pairs show that B is larger
    spread = lambda more: scored_by(lambda unit: 0.1 + 0.05 * unit + more)  # noqa: E731
    paths = [edited(base, tmp_path / name, spread(more)) for name, more in (("a", 0.0), ("b", 0.02))]
    rows = elimtool.compare_maps(*paths).table("map_differences")
    row = rows.query("measure == 'induction' and layer == 1 and head == 2").iloc[0]
    assert row["low"] == pytest.approx(0.02) and row["q"] < 0.01 and row["change"] == "same"


def scored_by(score: Callable[[int], float]) -> Edit:
    def edit(row: dict[str, Any], values: np.ndarray) -> np.ndarray | None:
        if row["array"] != "induction" or not row["unit"].startswith("repeats"):
            return None
        values = values.copy()
        values[HEADS["induction"]] = score(int(row["unit"][-2:])) * ROWS["induction"]
        return values

    return edit


def test_a_map_against_itself_differs_nowhere(sides: tuple[Path, Path]) -> None:
    same = elimtool.compare_maps(sides[0], sides[0])
    rows = same.table("map_differences")
    assert not rows["score_difference"].any() and set(rows["change"].dropna()) == {"same"}
    assert (rows["p"].dropna() == 1).all() and same.notes == []
    assert maps_section(same).told[1:] == ["Nothing differs."]


def test_exchanging_the_sides_negates(found: Comparison, sides: tuple[Path, Path]) -> None:
    turned = elimtool.compare_maps(*sides[::-1]).table("map_differences")
    rows = found.table("map_differences")
    np.testing.assert_allclose(turned["score_difference"], -rows["score_difference"], atol=1e-12)
    np.testing.assert_allclose(turned["low"], -rows["high"], atol=1e-12)
    swapped = {"appeared": "vanished", "vanished": "appeared"}
    assert [swapped.get(one, one) for one in rows["change"].dropna()] == list(turned["change"].dropna())


def test_only_units_that_both_have_are_compared(base: Run, sides: tuple[Path, Path], tmp_path: Path) -> None:
    few = edited(base, tmp_path / "few", lambda *_: None, lambda unit: unit != "repeats-003")
    found = elimtool.compare_maps(sides[0], few)
    rows = found.table("map_differences")
    assert set(rows[rows["measure"] == "induction"]["n_units"]) == {15}
    assert found.manifest.unpaired == {"a": 1, "b": 0}
    assert "1 of the passages and probes is in A alone: not compared." in found.notes


def test_what_cannot_be_compared_is_refused(base: Run, sides: tuple[Path, Path], tmp_path: Path) -> None:
    none = edited(base, tmp_path / "none", lambda *_: None)
    run = elimtool.open_run(none)
    prompts = [row | {"token_ids": [1, *row["token_ids"]]} for row in run.arrow("prompts").to_pylist()]
    other = run.with_rows("prompts", prompts)
    with pytest.raises(ElimError, match="no passage and no probe in common") as raised:
        elimtool.compare_maps(sides[0], other)
    assert raised.value.exit_code == Exit.NOTHING
    smaller = Run(run.manifest.model_copy(update={"n_heads": 2}), none, run._files)
    with pytest.raises(ElimError, match="4 layers of 4 heads and 4 layers of 2 heads"):
        elimtool.compare_maps(run, smaller)
    config: Any = run.manifest.config
    neurons = run.manifest.model_copy(update={"config": config | {"map": ["examples"]}})
    with pytest.raises(ElimError, match="no part in common"):
        elimtool.compare_maps(sides[0], Run(neurons, none, run._files))


def told(found: Comparison) -> Sequence[str]:
    return maps_section(found).told


def test_the_story_names_what_changed(found: Comparison) -> None:
    assert any(
        one.startswith("induction: 0 of 16 heads in A, 1 in B; appeared: 1.2 0.0") and "to 0.71" in one
        for one in told(found)
    ), told(found)
    assert any("vanished: 0.1 0.61 to" in one for one in told(found))
    assert any("moved: 1.0 0.41 to 0.61 (+0.20, interval +0.20 to +0.20)" in one for one in told(found))
    assert any("none appeared, vanished or moved" in one for one in told(found))


def test_the_page_draws_the_heads_that_changed(found: Comparison) -> None:
    page = front(found)
    (section,) = page["analyses"]
    grid, changes, *_ = section["figures"]
    assert grid["views"][0]["values"] == grid["values"] and grid["views"][-1]["title"] == "mean distance"
    assert grid["words"][1][2] == "I" and grid["values"][1][2] > 0.6 and grid["words"][0][1] == "D"
    assert {(row[0], row[2]) for row in changes["rows"]} == {
        ("1.2", "appeared"),
        ("0.1", "vanished"),
        ("1.0", "moved"),
    }
    assert page["prompts"] == [] and list(details(found)) == []


def test_the_command_compares_keeps_and_prints_again(
    command: Command,  # noqa: F811
    sides: tuple[Path, Path],
    tmp_path: Path,
    base: Run,
) -> None:
    done = command("compare", *sides, "-o", tmp_path / "apart")
    assert done.code == 0 and "induction: 0 of 16 heads in A, 1 in B" in done.out, done.err
    assert command("compare", tmp_path / "apart").out == done.out
    assert open_comparison(tmp_path / "apart").kind == "maps"
    assert command("compare", *sides, "--json").code == 0
    for asked, file in (((), "page.html"), (("--figure", "map_differences"), "grid.svg")):
        drawn = command("report", tmp_path / "apart", *asked, "-o", tmp_path / file)
        assert drawn.code == 0, drawn.err
    refused = command("compare", *sides, "--position", "3")
    assert refused.code == 2 and "--position does not go with two maps" in refused.err


def test_a_probe_whose_control_failed_still_counts(base: Run, tmp_path: Path) -> None:
    lost = edited(base, tmp_path / "lost", lambda *_: None, lambda unit: unit != "control-003")
    whole, some = (one.analysis("map").table("head_roles") for one in (base, elimtool.open_run(lost)))
    pairs = whole.merge(some, on=["layer", "head", "role"])
    assert (pairs["score_x"].dropna() == pairs["score_y"].dropna()).all()
    known = pairs[pairs["role"] == "induction"]
    assert set(known["n_units_y"]) == {16} and known["p_y"].notna().all() and known["null_y"].notna().all()

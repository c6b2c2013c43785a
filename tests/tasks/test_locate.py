"""Locating by patching: its invariants, its null, its stretches, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

import elimtool
from elimtool import LocateOptions, Message, Prompt
from elimtool.errors import ElimError
from elimtool.tasks.locate.pair import unrelated

CLEAN, CORRUPT = "The text 12345 is", "The text 12QZ5 is"
ALL = ("residual", "attention", "mlp", "head")


def locate(model: Any, clean: Any = CLEAN, corrupt: Any = CORRUPT, **options: Any) -> Any:
    words = {"target": "Paris", "foil": "token"} | {
        name: options.pop(name) for name in ("target", "foil", "noise", "progress") if name in options
    }
    return elimtool.locate(model, clean, corrupt, **words, options=LocateOptions(**options))


@pytest.fixture(scope="module")
def everything(llama: Any) -> Any:
    return locate(llama, sites=ALL, fine=True)


@pytest.fixture(scope="module")
def reversed_run(llama: Any) -> Any:
    return locate(llama, CORRUPT, CLEAN, sites=ALL, fine=True)


def rows(run: Any, **wanted: Any) -> Any:
    found = run.table("locations")
    for column, value in wanted.items():
        found = found[found[column] == value]
    return found


def test_values_are_differences_of_the_model_s_own_logits(everything: Any, llama: Any) -> None:
    pair = everything.table("location_pairs").iloc[0]
    trace = elimtool.trace(llama, [CLEAN, CORRUPT], targets=["Paris"], foils=["token"])
    lens = trace.table("lens").query("layer == 3").set_index(["prompt_id", "target"])["logit"]
    for name in ("clean", "corrupt"):
        one = pair["prompt_id" if name == "clean" else "corrupt_id"]
        assert pair[name] == pytest.approx(lens[one, pair["target"]] - lens[one, pair["foil"]], abs=1e-4)
    assert pair["gap"] == pytest.approx(pair["clean"] - pair["corrupt"])


def test_everything_is_restored_where_everything_is_patched(everything: Any) -> None:
    changed = rows(everything, site="residual", extent="changed")
    assert changed.query("layer == -1")[["r", "q"]].to_numpy() == pytest.approx(1.0, abs=1e-4)
    last = everything.table("location_pairs")["position"].iloc[0]
    end = rows(everything, site="residual", extent="cell", layer=3, position=last)
    assert end[["r", "q"]].to_numpy() == pytest.approx(1.0, abs=1e-4)
    others = rows(everything, site="residual", extent="cell", layer=3).query("position != @last")
    assert others[["r", "q"]].to_numpy() == pytest.approx(0.0, abs=1e-4)


def test_nothing_is_restored_before_the_first_difference(everything: Any) -> None:
    first = everything.table("location_pairs")["changed"].iloc[0][0]
    shared = rows(everything, extent="shared")
    assert set(shared["site"]) == set(ALL) and set(shared["last_position"]) == {first - 1}
    assert (shared[["r", "q"]] == 0).all(axis=None) and shared["r_null"].isna().all()
    later = everything.table("locations").query("extent != 'shared'")
    assert later["position"].min() == first


def test_exchanging_the_prompts_exchanges_the_directions(everything: Any, reversed_run: Any) -> None:
    keys = ["site", "extent", "layer", "last_layer", "head", "position", "last_position"]
    forth = everything.table("locations").set_index(keys)
    back = reversed_run.table("locations").set_index(keys).loc[forth.index]
    for one, other in (("r", "q"), ("q", "r"), ("r_null", "q_null")):
        known = forth[one].notna()
        assert forth[one][known].to_numpy() == pytest.approx(back[other][known].to_numpy(), abs=2e-4)
    gaps = [run.table("location_pairs")["gap"].iloc[0] for run in (everything, reversed_run)]
    assert gaps[0] == pytest.approx(-gaps[1], abs=1e-5)
    assert not (back["r_counts"].any() and forth["r_counts"].any())  # only one of both gaps is above 0


def test_rows_of_single_cells_cover_every_layer_and_position_once(reversed_run: Any) -> None:
    cells = rows(reversed_run, extent="cell")
    length, first = 1 + reversed_run.table("location_pairs")["position"].iloc[0], 0
    first = reversed_run.table("location_pairs")["changed"].iloc[0][0]
    sizes = {"residual": 5, "attention": 4, "mlp": 4, "head": 4 * 4}
    assert cells.groupby("site").size().to_dict() == {
        site: (length - first) * size for site, size in sizes.items()
    }
    assert not cells.duplicated(["site", "layer", "head", "position"]).any()


def test_cells_count_as_they_do_with_the_whole_null(llama: Any) -> None:
    for clean, corrupt in ((CLEAN, CORRUPT), (CORRUPT, CLEAN)):
        whole, quick = (locate(llama, clean, corrupt, sites=ALL, fine=fine) for fine in (True, False))
        same = ["site", "layer", "head", "position", "r_counts", "q_counts"]
        pd.testing.assert_frame_equal(rows(whole)[same], rows(quick)[same])
        count = whole.table("location_pairs")["unrelated"].iloc[0]
        for way in "rq":
            known = rows(quick)[f"{way}_null_n"] == count
            assert (rows(quick)[f"{way}_null"].notna() == known).all() and not known.all()
            nulls = [rows(run)[f"{way}_null"][known].to_numpy() for run in (quick, whole)]
            assert nulls[0] == pytest.approx(nulls[1], abs=1e-4)  # other cells ran beside them
            assert known[rows(quick)[f"{way}_counts"]].all()
        located = whole.table("location_pairs")["located"].iloc[0]
        assert located == bool(rows(quick)[["r_null_n", "q_null_n"]].to_numpy().any())


def test_large_maps_are_patched_in_stretches_that_are_divided_where_they_count(llama: Any) -> None:
    clean, corrupt = "x" * 90 + "1" + "y" * 20, "x" * 3 + "QQ" + "x" * 85 + "Z" + "y" * 20
    run = locate(llama, clean, corrupt)
    covered: dict[tuple[int, int], int] = {}
    for row in rows(run, site="residual").query("extent != 'changed'").to_dict("records"):
        counts = row["r_counts"] or row["q_counts"]
        assert row["extent"] != "stretch" or not counts
        for layer in range(row["layer"], row["last_layer"] + 1):
            for position in range(row["position"], row["last_position"] + 1):
                covered[layer, position] = covered.get((layer, position), 0) + 1
    length = run.table("location_pairs")["position"].iloc[0] + 1
    assert len(covered) == 5 * length and set(covered.values()) == {1}
    assert "stretch" in set(rows(run)["extent"])


def test_noise_is_drawn_from_the_seed_and_restored_by_the_embedding(llama: Any) -> None:
    run = locate(llama, CLEAN, None, noise="2345")
    pair, changed = run.table("location_pairs").iloc[0], rows(run, extent="changed", layer=-1)
    assert pair["draws"] == 10 and pair["corrupt"] != pytest.approx(pair["clean"], abs=0.01)
    assert changed[["r", "q"]].to_numpy() == pytest.approx(1.0, abs=1e-4)
    again, other = locate(llama, CLEAN, None, noise="2345"), locate(llama, CLEAN, None, noise="2345", seed=1)
    assert again.table("locations").equals(run.table("locations"))
    assert other.table("location_pairs")["corrupt"].iloc[0] != pair["corrupt"]


def test_without_a_foil_the_mean_logit_is_taken(llama: Any) -> None:
    run = locate(llama, foil=None)
    one = llama.encode(Prompt(text=CLEAN, targets=("Paris",)))
    last: list[Any] = []
    from elimtool.model.view import Batch

    llama.stream(Batch.of([one]), (), lambda view: last.append(view.residual[0]))
    logits = llama.readout(last[-1])[0].double()
    truth = float(logits[one.targets[0].token_id] - logits.mean())
    assert run.table("location_pairs")["clean"].iloc[0] == pytest.approx(truth, abs=1e-4)
    assert run.table("location_pairs")["foil"].isna().all()


def test_unrelated_prompts_have_the_length_and_differ(llama: Any) -> None:
    found = unrelated(llama, 700, 20)
    assert {len(ids) for ids in found} == {700} and len(set(found)) == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"corrupt": "The text 12 is"},
            r"tokens and `corrupt` has .* exchanged one for one \(side by side, where",
        ),
        ({"corrupt": CLEAN}, "`corrupt` is the same as the prompt"),
        ({"corrupt": None}, "give either `corrupt` or `noise`"),
        ({"noise": "45"}, "give either `corrupt` or `noise`"),
        ({"corrupt": None, "noise": "absent"}, "'absent' is not in the prompt"),
        ({"target": ""}, "needs one target"),
        ({"foil": "Paris"}, "both a target and a foil"),
        ({"sites": ("resid",)}, "`sites` 'resid' is not known"),
        ({"sites": ()}, "`sites` names no site"),
        ({"clean": "12" * 200, "corrupt": "34" * 200}, "context is 128"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(llama: Any, words: Any, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        locate(llama, **words)


def test_models_under_interventions_are_refused(llama: Any) -> None:
    with pytest.raises(ElimError, match="under interventions"):
        locate(llama.intervened([elimtool.Scale("1.2", 0.5)]))


def test_chats_are_patched_as_rendered_and_runs_are_saved(llama: Any, tmp_path: Any) -> None:
    chats = [Prompt(messages=(Message("user", text),)) for text in (CLEAN, CORRUPT)]
    steps: list[tuple[int, int]] = []
    run = locate(llama, *chats, progress=lambda done, total: steps.append((done, total)))
    assert steps and steps[-1][0] == steps[-1][1]
    run.save(tmp_path / "run")
    again = elimtool.open_run(tmp_path / "run")
    assert again.manifest.config["command"] == "locate"
    assert again.table("locations").equals(run.table("locations"))
    assert replace(chats[0]).messages and len(again.prompts) == 2

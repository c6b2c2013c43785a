"""Rows chosen on disk are those that pandas would choose."""

from __future__ import annotations

import pytest

from elimtool.errors import ElimError
from elimtool.run.reader import Run, open_run
from elimtool.run.rows import select_rows
from tests.report.runs import many


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("rows") / "run"
    many(20, tokens=6).save(path)
    return open_run(path)


CHOICES = {
    "final_rank=3": lambda frame: frame["final_rank"] == 3,
    "final_rank>1": lambda frame: frame["final_rank"] > 1,
    "final_prob <= 0.5": lambda frame: frame["final_prob"] <= 0.5,
    "target=' Paris'": lambda frame: frame["target"] == " Paris",
    "prompt_id != prompt-0003": lambda frame: frame["prompt_id"] != "prompt-0003",
    "cut_chain=null": lambda frame: frame["cut_chain"].isna(),
    "cut_chain!=null": lambda frame: ~frame["cut_chain"].isna(),
}


@pytest.mark.parametrize("text", sorted(CHOICES))
def test_a_condition_chooses_what_pandas_chooses(saved: Run, text: str) -> None:
    whole = saved.table("verdicts")
    wanted = whole[CHOICES[text](whole)]
    found = select_rows(saved, "verdicts", where=[text])
    assert (found.n_rows, found.n_selected) == (len(whole), len(wanted))
    assert found.rows.column("prompt_id").to_pylist() == wanted["prompt_id"].tolist()
    assert found.rows.column("target").to_pylist() == wanted["target"].tolist()


def test_all_conditions_hold_and_the_limit_is_told(saved: Run) -> None:
    found = select_rows(
        saved, "lens", where=["layer=29", "target= London"], columns=["rank", "prompt_id"], limit=3
    )
    assert found.n_selected == 0  # the spaces around a value do not count
    found = select_rows(
        saved, "lens", where=["layer=29", "target=' London'"], columns=["rank", "prompt_id"], limit=3
    )
    assert (found.n_selected, found.rows.num_rows) == (20, 3)
    assert found.rows.column_names == ["rank", "prompt_id"]
    assert found.rows.column("rank").to_pylist() == [3] * 3


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ("verdict", {}, "verdicts"),
        ("verdicts", {"columns": ["outcom"]}, "outcome"),
        ("verdicts", {"where": ["outcom=survived"]}, "outcome"),
        ("verdicts", {"where": ["survived"]}, "COLUMN=VALUE"),
        ("verdicts", {"where": ["final_rank=first"]}, "'first'"),
        ("lens", {"where": ["is_foil=maybe"]}, "true or false"),
        ("prompts", {"where": ["tokens=The"]}, "holds lists"),
    ],
)
def test_what_cannot_be_read_is_named(
    saved: Run, table: str, options: dict[str, list[str]], said: str
) -> None:
    with pytest.raises(ElimError) as error:
        select_rows(saved, table, **options)  # type: ignore[arg-type]
    assert said in f"{error.value.message} {error.value.hint}"

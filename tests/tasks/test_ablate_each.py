"""Ablating every head and MLP by itself: the effects are those of the ablations one by one."""

from __future__ import annotations

from typing import Any

import pytest

import elimtool
from elimtool import TraceOptions
from elimtool.errors import ElimError
from elimtool.model.interventions import Ablate
from elimtool.report.figures.choose import choose
from elimtool.tasks.ablate_each import against

TEXT = "The capital of France is"


@pytest.fixture(scope="module")
def each(llama: Any) -> Any:
    return elimtool.trace(llama, TEXT, targets=["Paris", "Rome"], options=TraceOptions(ablate_each=True))


@pytest.mark.parametrize("part", ["0.1", "2.3", "mlp.1"])
def test_an_effect_is_that_of_the_intervention(llama: Any, each: Any, part: str) -> None:
    options = TraceOptions(interventions=(Ablate(part),))
    alone = elimtool.trace(llama, TEXT, targets=["Paris", "Rome"], options=options).table("effects")
    rows = each.table("ablations")
    name = f"mlp {part[4:]}" if part.startswith("mlp") else f"head {part}"
    found = rows[rows["component"] == name]
    assert found["target"].tolist() == alone["target"].tolist()
    assert found["effect"].tolist() == pytest.approx(alone["logprob_change"].tolist(), abs=1e-5)
    assert found["effect"].abs().max() > 1e-3


def test_every_part_has_a_row_and_the_figure_its_loss(llama: Any, each: Any) -> None:
    rows = each.table("ablations")
    assert len(rows) == 2 * llama.n_layers * (llama.n_heads + 1)
    figure = choose(each, "head_ablation", target="Rome")
    assert len(figure.rows) == llama.n_layers and len(figure.columns) == llama.n_heads + 1
    own = rows[(rows["target"] == "Rome") & (rows["component"] == "head 1.2")]
    assert figure.values[figure.rows.index("1")][2] == -own["effect"].item()


def test_an_effect_is_held_against_those_of_other_parts(each: Any) -> None:
    others = [(-1) ** at * at / 100 for at in range(1, 21)]  # absolute: 0.01 to 0.2
    assert against(others, 0.191) == {"null": pytest.approx(0.1905), "beyond": True}
    assert against(others, -0.191)["beyond"] and not against(others, -0.19)["beyond"]
    assert against(others[:19], 9.0) == {"null": None, "beyond": None}
    rows = each.table("ablations")  # 16 heads and 4 MLPs: too few of each kind
    assert rows["null"].isna().all() and rows["beyond"].isna().all()


def test_passes_are_counted(llama: Any) -> None:
    said: list[str] = []
    options = TraceOptions(ablate_each=True, tables=("ablations",))
    elimtool.trace(llama, [TEXT, "Rome is"], targets=["Paris"], options=options, say=said.append)
    assert said[-1] == "ablating each head and MLP: 42 of 42 passes" and said[0] != said[-1]


def test_it_is_measured_only_on_request(llama: Any) -> None:
    assert "ablations" not in elimtool.trace(llama, TEXT, options=TraceOptions()).tables
    only = TraceOptions(ablate_each=True, tables=("lens",))
    assert set(elimtool.trace(llama, TEXT, options=only).tables) == {"prompts", "lens", "ablations"}
    with pytest.raises(ElimError, match="table ablations needs `ablate_each`"):
        TraceOptions(tables=("ablations",))

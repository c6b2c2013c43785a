"""Which tables a choice comes to, and that what is left out is not measured."""

from __future__ import annotations

from typing import Any

import pytest

import elimtool
from elimtool import TraceOptions
from elimtool.errors import ElimError
from elimtool.run.selection import (
    CHANGES,
    DROPPED,
    FITTED,
    GRAMMARS,
    IF_NAMED,
    JUDGED_BY,
    MIXED,
    ON_REQUEST,
    TRACED,
    WALKS,
    select,
)
from tests.watched import Watched

PROMPT = "The capital of France is"


def test_verdicts_are_measured_through_the_tables_they_join() -> None:
    found = select(["verdicts"], heads=True, walk=False)
    assert found.kept == {"prompts", "verdicts"}
    joined = {"lens", "survival", "sampling_targets", "components", "controls", "regimes"}
    assert found.measured == {"prompts", *joined}
    coarse = select(["verdicts"], heads=False, walk=False)
    assert coarse.measured == found.measured - {"components"}
    everything = select(None, heads=True, walk=True, intervened=True, constrained=True, asked=ON_REQUEST)
    assert everything.kept == set(TRACED)
    assert everything.measured == set(TRACED) - JUDGED_BY.keys()
    assert select(None, heads=True, walk=True).kept == set(TRACED) - {"effects", *GRAMMARS, *ON_REQUEST}


@pytest.mark.parametrize(
    ("tables", "heads", "message"),
    [
        (["lense"], None, "did you mean 'lens'"),
        (["attributions"], None, "elimtool attribute does"),
        (["attention_heads"], False, "`heads=False` contradicts"),
        (["walk"], None, "needs a walk"),
        (["effects"], None, "needs an intervention"),
        (["ablations"], None, "needs `ablate_each`"),
        (["attention_weights"], None, "needs `attention_of`"),
        ([], None, "names no table"),
    ],
)
def test_choices_that_cannot_be(tables: list[str], heads: bool | None, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        TraceOptions(tables=tuple(tables), heads=heads)


def test_tables_of_experts_need_a_model_with_experts(llama: Any) -> None:
    with pytest.raises(ElimError, match="table experts needs a mixture of experts"):
        elimtool.trace(llama, PROMPT, options=TraceOptions(tables=("experts",)))


@pytest.fixture(scope="module")
def whole(llama: Any) -> Any:
    return elimtool.trace(llama, PROMPT, targets=["Paris"], foils=["Rome"], options=TraceOptions(heads=True))


FILLED = set(TRACED) - WALKS - GRAMMARS - FITTED - MIXED - CHANGES - IF_NAMED - ON_REQUEST.keys()


@pytest.mark.parametrize("name", sorted(FILLED))
def test_a_table_alone_is_the_table_among_all(llama: Any, whole: Any, name: str) -> None:
    alone = elimtool.trace(
        llama, PROMPT, targets=["Paris"], foils=["Rome"], options=TraceOptions(tables=(name,))
    )
    assert set(alone.tables) == {"prompts", name}
    found, among = alone.arrow(name), whole.arrow(name)
    if name == DROPPED:  # one of its columns is measured only where the table is named
        assert (found["cett_sparsity"].null_count, among["cett_sparsity"].null_count) == (0, len(among))
        found, among = (one.drop_columns(["cett_sparsity"]) for one in (found, among))
    assert found.equals(among)


@pytest.mark.parametrize("name", sorted(FITTED))
def test_a_table_that_needs_a_fitted_lens_is_refused_without_one(llama: Any, name: str) -> None:
    with pytest.raises(ElimError, match=f"table {name} needs the reference text"):
        elimtool.trace(llama, PROMPT, options=TraceOptions(tables=("lens", name)))


@pytest.mark.parametrize(
    ("table", "needs", "read"),
    [
        ("attention_layers", {"attention", "block", "values"}, False),
        ("mechanisms", {"block", "typical"}, False),
        ("lens", set(), True),
    ],
)
def test_metrics_that_are_not_needed_do_not_run(llama: Any, table: str, needs: set[str], read: bool) -> None:
    model = Watched.of(llama)
    run = elimtool.trace(model, PROMPT, options=TraceOptions(tables=(table,)))
    assert set(run.tables) == {"prompts", table}
    assert model.passes == [(1, run.prompts["n_tokens"][0], needs)]
    # single rows are read to see how wide logits are, and that they are those of the model
    assert [rows for rows in model.read if rows > 1] == [llama.n_layers + 1] * read

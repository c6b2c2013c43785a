"""The causal test of what a part wrote: the edge that is cut, its control, and the effects of both."""

from __future__ import annotations

from typing import Any

import pytest

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.model.interventions import Knockout
from elimtool.prompts.prompt import SpanRequest
from elimtool.tasks.confirm_edges import control_of, named_edge
from tests.metrics.views import encoded

TEXT = "The capital of France is Paris, and a token is eliminated."
SPANS = (SpanRequest("country", "France"), SpanRequest("middle", "and a token"), SpanRequest("city", "Paris"))


def test_the_part_that_wrote_most_is_cut_but_not_the_query_and_not_a_sink() -> None:
    one = encoded(6, (5,), {"own": (5,), "a": (0, 1, 2), "b": (3,), "later": (6,)}, (0,))
    rows = [
        {"span": name, "dla_centred": wrote}
        for name, wrote in {
            "own": 9.0,
            "<sink>": 8.0,
            "a": 3.0,
            "b": 4.0,
            "<mlp>": 20.0,
            "later": None,
        }.items()
    ]
    assert named_edge(rows, one, 5) == (rows[3], (3,))
    assert named_edge([row for row in rows if row["span"] != "b"], one, 5) == (rows[2], (1, 2))
    assert named_edge([row | {"dla_centred": -1.0} for row in rows], one, 5) is None


def test_the_control_is_as_many_other_tokens_and_the_same_for_a_seed() -> None:
    one = encoded(12, (11,), {"a": (2, 3, 4)}, (0,))
    found = control_of(one, 11, (2, 3, 4), 0)
    assert len(set(found)) == 3 and not {0, 2, 3, 4, 11} & set(found)
    assert found == control_of(one, 11, (2, 3, 4), 0)
    assert {control_of(one, 11, (2, 3, 4), seed) for seed in range(9)} != {found}
    assert control_of(one, 5, (2, 3, 4), 0) == ()  # only token 1 is left


def test_the_effect_is_that_of_a_knockout_of_the_span_in_that_layer(llama: Any) -> None:
    prompt = Prompt(text=TEXT, targets=(" is", " of"), spans=SPANS)
    run = elimtool.trace(llama, prompt, options=TraceOptions(confirm=True, samplers=()))
    table = run.table("source_spans")
    tested = table.dropna(subset="cut_effect")
    named = table[table["span"].isin([span.name for span in SPANS]) & (table["dla_centred"] > 0)]
    assert set(tested["target"]) == set(named["target"]) != set()
    for row in tested.itertuples():
        cut = Knockout(row.span, (row.top_layer, row.top_layer))
        options = TraceOptions(interventions=(cut,), samplers=())
        effects = elimtool.trace(llama, prompt, options=options).table("effects").set_index("target")
        assert row.cut_effect == pytest.approx(effects.loc[row.target, "logprob_change"], abs=1e-4)
        assert abs(row.cut_control) < 10 and row.cut_control != row.cut_effect


def test_without_confirm_nothing_is_cut(llama: Any) -> None:
    table = elimtool.trace(llama, TEXT, targets=[" is"]).table("source_spans")
    assert table["cut_effect"].isna().all() and table["cut_control"].isna().all()

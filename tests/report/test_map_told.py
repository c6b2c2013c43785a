"""What a map says of layers and neurons."""

from __future__ import annotations

from typing import Any

from elimtool.report.figures.figure import Lines
from elimtool.report.map.layers import exit_sentences, layer_figures, layer_sentences, neuron_sentences
from elimtool.report.map.pairs import interaction_sentences, pair_sentences


def layer(at: int, influence: float, lost: float | None, **more: Any) -> dict[str, Any]:
    return {
        "layer": at, "influence": influence, "influence_sink": 0.75, "skip_kl": lost, "saturated": at / 5,
        "n_read": 12, "max_abs": 10.0 + at, "max_position": 0, "max_channel": 7, "max_ratio": 40.0,
        "n_massive": 0, "max_abs_elsewhere": 9.0, "open": 0.5, "linearity": None, "update_linearity": None,
        **more,
    }  # fmt: skip


ROWS = [
    layer(0, 0.5, 4.0),
    layer(1, 0.125, 9.0, max_abs=2000.0, n_massive=1, max_ratio=5000.0),
    layer(2, 0.25, 0.5),
    layer(3, 0.3, 0.25),
    layer(4, 0.35, 0.75),
    layer(5, 0.4, 1.0),
]


def test_a_layer_that_changes_little_and_matters_is_named() -> None:
    told = layer_sentences(ROWS)
    assert told[0] == "layers that change tokens least: 0.12 (layer 1), 0.25 (layer 2), 0.3 (layer 3)."
    assert "0.25 nats (layer 3)" in told[1] and "9 nats (layer 1)" in told[1] and "12 passages" in told[1]
    assert [one for one in told if " of 6 changes text little" in one] == [
        "layer 1 of 6 changes text little (influence 0.12), but without it the output is off by 9 nats; at"
        " the sinks its influence is 0.75."
    ]
    assert "after layer 3 (60%; raw lens)" in told[3]
    assert "2,000, after layer 1 at position 0, channel 7: 5,000 times the median" in told[4]


def test_what_was_not_read_out_is_not_told() -> None:
    rows = [row | {"skip_kl": None, "saturated": None, "n_massive": 0} for row in ROWS]
    assert len(layer_sentences(rows)) == 1 and layer_figures(rows) == []
    assert layer_sentences([]) == []


def test_the_figure_has_each_line_as_a_share_of_its_largest() -> None:
    _, figure, _ = layer_figures(ROWS)
    assert isinstance(figure, Lines)
    lines = {line.name: list(line.values) for line in figure.lines}
    assert lines["lost without it"] == [4 / 9, 1, 0.5 / 9, 0.25 / 9, 0.75 / 9, 1 / 9]
    assert lines["influence on text"][:2] == [1, 0.25] and set(lines["influence on sinks"]) == {1}


def test_neurons_that_never_open_are_counted_with_what_none_can_hide() -> None:
    rows = [{"layer": 0, "neuron": at, "open": value, "n": 3000} for at, value in enumerate((0.0, 0.5, 1.0))]
    assert neuron_sentences(rows) == [
        "neurons: 1 of 3 never opened in 3,000 tokens, 1 were never shut (what happens at fewer than 0.001"
        " of tokens may not show in so few)."
    ]
    rows = [{"layer": 0, "neuron": None, "open": None, "n": 0, "unmeasured": "a reason"}]
    assert neuron_sentences(rows) == ["neurons of 1 layers are not known: a reason."]
    assert neuron_sentences([]) == []


def test_the_least_linear_layers_are_named_with_what_they_add() -> None:
    rows = [row | {"linearity": 0.9 - row["layer"] / 10, "update_linearity": 0.25} for row in ROWS]
    assert layer_sentences(rows)[-2] == (
        "least linear on text that was not fitted: 0.4 (layer 5), 0.5 (layer 4), 0.6 (layer 3); of what they"
        " add, a linear map explains 25%, 25%, 25%."
    )


EXIT = {"rule": "state", "mean_layer": 3.25, "agreement": 0.96, "unmeasured": None}


def test_where_one_could_stop_is_told_beside_the_earliest_place() -> None:
    assert exit_sentences([EXIT, EXIT | {"rule": "oracle", "mean_layer": 1.5}]) == [
        "one could stop early, on average: state at layer 3.2 with 96% of the output's first tokens; who knew"
        " the output could at 1.5."
    ]
    none = EXIT | {"mean_layer": None, "unmeasured": "no lens was fitted"}
    assert exit_sentences([none]) == ["where one could stop early is not known: no lens was fitted."]
    assert exit_sentences([]) == []


PAIR = {
    "layer_a": 1, "head_a": 0, "layer_b": 1, "head_b": 2, "same_group": False,
    "js": 0.1, "js_null": 0.5, "cka": 0.75, "cka_null": 0.0,
}  # fmt: skip


def test_only_pairs_more_alike_than_by_chance_are_named() -> None:
    told = pair_sentences([PAIR, PAIR | {"head_b": 3, "js": 0.05, "same_group": True, "cka": -0.1}])
    assert told == [
        "heads of a layer that attend most alike: 1.0 and 1.3 0.05 bits (0.5), which share keys, 1.0 and 1.2"
        " 0.1 bits (0.5); in brackets, with the other head on another passage.",
        "heads of a layer that write most alike (CKA): 1.0 and 1.2 0.75 (0).",
    ]
    assert pair_sentences([PAIR | {"js": 0.6, "cka": None}]) == []


LOSS = PAIR | {
    "role_a": "previous", "role_b": "induction", "effect_a": 5.0, "effect_b": 2.0, "effect_both": 6.0,
    "interaction": -1.0, "low": -1.5, "high": -0.5, "null_low": -0.25, "null_high": 0.25,
}  # fmt: skip


def test_a_pair_is_told_where_random_pairs_do_not_do_the_same() -> None:
    assert interaction_sentences([LOSS]) == [
        "without 1.0 (previous) and 1.2 (induction) the loss of repeated text rises by 6.00 nats, by 5.00"
        " and 2.00 without one of them: they are one path, which is cut once (-1.00, -1.50 to -0.50; random"
        " pairs -0.25 to 0.25)."
    ]
    hidden = LOSS | {"interaction": 1.0, "low": 0.5, "high": 1.5}
    assert "each hides the other's loss" in interaction_sentences([hidden])[0]
    assert "none of 1 pair of heads" in interaction_sentences([LOSS | {"high": 0.0}])[0]
    assert interaction_sentences([LOSS | {"low": None}]) == []

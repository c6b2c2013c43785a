"""The story's section on targets against foils, from hand-made tables."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.report.screen import Screen
from elimtool.report.trace.contrast import MOST, contrast_lines

PAIR = {"target": " Paris", "foil": " Lyon", "token_id": 1, "foil_token_id": 2, "lens": "ridge"}
ROW = PAIR | {"difference": 6.89, "decision_layer": 24, "n_controls": 99, "n_controls_settled": 73}
PARTS = [
    PAIR | {"component": name, "layer": layer, "dla_difference": part}
    for name, layer, part in [
        ("embed", None, 9.0), ("head 23.4", 23, 2.06), ("mlp 26", 26, 0.9), ("mlp 28", 28, -1.64),
    ]
]  # fmt: skip
KEEPS = PAIR | {
    "chain": "hf", "stage": None, "kept": None, "why": None, "target_survives": True, "foil_survives": True,
}  # fmt: skip
PARTED = KEEPS | {"chain": "llama.cpp", "stage": "top_k", "kept": "target", "why": "rank 43 is above 40"}


class Probe:
    """Stands in for a probe."""

    def __init__(self, contrasts: list[Any], parts: list[Any] = PARTS, stages: list[Any] = [KEEPS]) -> None:  # noqa: B006
        self.prompt = {"targets": ["Paris"], "foils": ["Lyon"]}
        self.of = {"contrasts": contrasts, "contrast_components": parts, "contrast_stages": stages}

    def rows(self, name: str) -> list[Any]:
        return self.of[name]


def told(probe: Probe, width: int = 80) -> str:
    lines = contrast_lines(probe, Screen(width))
    assert all(line.cell_len <= width for line in lines)
    return " ".join(" ".join(line.plain.split()) for line in lines)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_who_is_ahead_since_when_by_what_and_what_parts_them(width: int) -> None:
    text = told(Probe([ROW], stages=[PARTED, KEEPS, KEEPS | {"chain": "vllm"}]), width)
    assert "' Paris' over ' Lyon' by 6.9 nats; ahead from layer 24 on" in text
    assert "by then 73 of 99 pairs of tokens as frequent have settled" in text
    assert "for ' Paris': head 23.4 (+2.1), mlp 26 (+0.9); for ' Lyon': mlp 28 (-1.6)" in text
    assert "embed" not in text
    assert "top_k of llama.cpp removes only ' Lyon': rank 43 is above 40 hf and vllm keep both" in text


def test_the_foil_may_be_ahead_and_the_target_be_removed() -> None:
    stage = PARTED | {"kept": "foil"}
    gone = KEEPS | {"target_survives": False, "foil_survives": False}
    text = told(Probe([ROW | {"difference": -6.89, "decision_layer": 0}], stages=[stage, gone]))
    assert "' Lyon' over ' Paris' by 6.9 nats; ahead after every layer" in text
    assert "removes only ' Paris'" in text and "hf removes both" in text


def test_without_controls_the_lens_is_named() -> None:
    text = told(Probe([ROW | {"lens": "raw", "n_controls": None, "n_controls_settled": None}], [], []))
    assert "(through the raw lens, without control pairs)" in text and "for '" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"difference": 0.0}, "are level"),
        ({"difference": 0.0, "foil_token_id": 1}, "are level: one token stands for both"),
        ({"difference": None}, "one of their logits is infinite"),
    ],
)
def test_where_nothing_is_decided_no_layer_is_named(change: dict[str, Any], said: str) -> None:
    row = ROW | {"decision_layer": None, "n_controls_settled": None} | change
    text = told(Probe([row], [], []))
    assert said in text and "ahead" not in text


def test_many_pairs_are_counted_and_none_is_nothing() -> None:
    assert "3 more pairs are not shown" in told(Probe([ROW] * (MOST + 3)))
    assert contrast_lines(Probe([]), Screen(80)) == []


def test_foils_without_a_target_are_told() -> None:
    probe = Probe([])
    probe.prompt = {"targets": [], "foils": ["Lyon"]}
    assert "no target was named" in told(probe)

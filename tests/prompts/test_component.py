"""The names of components, as papers and tables write them."""

import pytest

from elimtool.prompts.component import component_in_tables, parse_component

HEADS = ("29.1", "L29H1", "l29h1", "L29.H1", "a29.h1", "head 29.1", "Head.29.1", " 29.1 ", "attn 29h1")
MLPS = ("mlp.12", "mlp 12", "MLP12", "m12", "L12.mlp", "L12mlp", "mlp L12")
NEITHER = (
    "",
    "29",
    "L29",
    "H1",
    "29.",
    ".1",
    "29.1.2",
    "L-1H1",
    "head",
    "mlp",
    "mlp.",
    "29,1",
    "residual.9",
    "x29.1",
)


@pytest.mark.parametrize("text", HEADS)
def test_every_way_to_write_a_head(text: str) -> None:
    assert parse_component(text) == (29, 1)
    assert component_in_tables(text) == "head 29.1"


@pytest.mark.parametrize("text", MLPS)
def test_every_way_to_write_an_mlp(text: str) -> None:
    assert parse_component(text) == (12, None)
    assert component_in_tables(text) == "mlp 12"


@pytest.mark.parametrize("text", NEITHER)
def test_anything_else_is_no_component_and_stays_as_it_is(text: str) -> None:
    assert parse_component(text) is None
    assert component_in_tables(text) == text

"""Options that ask for tables of their own: each has its tables, and each such table its option."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

import elimtool
from elimtool import ElimError, TraceOptions
from elimtool.engine.requests import REQUESTS
from elimtool.run.selection import ON_REQUEST


def test_every_table_on_request_has_its_option_and_no_two_have_it() -> None:
    tables = [name for request in REQUESTS for name in request.tables]
    assert sorted(tables) == sorted(ON_REQUEST)
    assert {request.option for request in REQUESTS} <= {one.name for one in fields(TraceOptions)}


def test_none_is_given_by_default() -> None:
    assert not any(TraceOptions().on_request.values())


@pytest.mark.parametrize("name", ON_REQUEST)
def test_a_table_that_is_named_without_its_option_is_refused_by_that_name(name: str) -> None:
    with pytest.raises(ElimError, match=f"table {name} needs `{ON_REQUEST[name].option}`"):
        TraceOptions(tables=(name,))


@pytest.mark.parametrize("asked", [{"beams": 2}, {"paths": ("greedy",)}])
def test_a_text_is_drawn_beside_a_search_only_where_it_is_asked_for(
    llama: Any, asked: dict[str, Any]
) -> None:
    """Who searches expects what the search finds; tables, stops and risk of a drawn text name it."""
    given: dict[str, Any] = {"generate": 3, "samplers": ("hf",), **asked}
    run = elimtool.trace(llama, "a b", options=TraceOptions(**given))
    assert "walk" not in run.tables and next(iter(asked)) in run.tables
    for more in ({"tables": ("walk", next(iter(asked)))}, {"watch": ("eos",)}):
        assert "walk" in TraceOptions(**given, **more).selection().kept
    named = elimtool.trace(llama, "a b", options=TraceOptions(**given, tables=("walk",)))
    assert len(named.table("walk")) == 3

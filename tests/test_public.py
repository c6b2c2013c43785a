"""The public functions: a value of the wrong type is refused by name, and says what is wanted."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import elimtool
from elimtool.errors import ElimError

FUNCTIONS = sorted(name for name in elimtool._HOMES if not isinstance(getattr(elimtool, name), type))
POSITIONS = ("position", "update")
"""Parameters whose values are checked where they are used, once a run is read."""


def valid(name: str, tiny: Any) -> dict[str, Any]:
    """Arguments that a function takes, by parameter."""
    known = {
        "model": tiny,
        "model_a": tiny,
        "model_b": tiny,
        "prompt": "a b",
        "prompts": "a b",
        "a": "a",
        "b": "b",
    }
    known |= {
        "run": "no",
        "run_a": "no",
        "run_b": "no",
        "directory": "no",
        "checks": "no",
        "corrupt": "a c",
        "target": "x",
    }
    known |= {"chain_a": "hf", "chain_b": "vllm"}
    needed = inspect.signature(getattr(elimtool, name)).parameters.values()
    return {
        one.name: known[one.name]
        for one in needed
        if one.default is one.empty and one.kind != one.VAR_KEYWORD
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_public_function_takes_what_it_cannot_use(name: str, tiny: Any) -> None:
    function = getattr(elimtool, name)
    for one in inspect.signature(function).parameters.values():
        if one.kind == one.VAR_KEYWORD or one.name in POSITIONS:
            continue
        with pytest.raises(ElimError, match=f"`{one.name}` of elimtool.{name} must be ") as caught:
            function(**{**valid(name, tiny), one.name: object()})
        assert caught.value.hint
    if name != "run_checks":  # what it does not know is for loading the model
        with pytest.raises(ElimError, match=f"elimtool.{name}: "):
            function(**valid(name, tiny), nothing_like_it=1)


@pytest.mark.parametrize("wrong", [[5], None, 5, [None], [["a"]], {"a": 1}])
def test_prompts_and_targets_of_the_wrong_type(wrong: Any, tiny: Any) -> None:
    if wrong != {"a": 1}:  # the keys of a mapping are strings
        with pytest.raises(ElimError, match=r"`prompts` of elimtool.trace must be "):
            elimtool.trace(tiny, wrong)
        with pytest.raises(ElimError, match=r"`targets` of elimtool.trace must be "):
            elimtool.trace(tiny, "a b", targets=wrong)
    with pytest.raises(ElimError, match=r"`name` of elimtool.load_model must be str"):
        elimtool.load_model(wrong)


def test_what_fits_is_let_through(tiny: Any) -> None:
    run = elimtool.trace(tiny, (text for text in ["a b", "b a"]), targets=("x",))
    assert len(run.prompts) == 2

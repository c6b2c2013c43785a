"""The public functions: a value of the wrong type is refused by name, and says what is wanted."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from dataclasses import replace
from typing import Any

import pytest

import elimtool
from elimtool import TraceOptions
from elimtool.errors import ElimError

FUNCTIONS = sorted(name for name in elimtool._HOMES if not isinstance(getattr(elimtool, name), type))
QUICK = TraceOptions(tables=("lens",))


def valid(name: str, tiny: Any) -> dict[str, Any]:
    """Arguments that a function takes, by parameter."""
    known = {
        "model": tiny.bridge if name == "wrap" else tiny,
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
        "map_a": "no",
        "map_b": "no",
        "runs": "no",
        "directory": "no",
        "out": "no",
        "options": elimtool.ExportOptions("sft"),
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
        if one.kind == one.VAR_KEYWORD:
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


CLASSES = sorted(
    name
    for name in elimtool._HOMES
    if isinstance(getattr(elimtool, name), type)
    and name not in ("Analysis", "ElimError", "Run", "Comparison", "Stage", "Metric")
)
"""Those that users make; runs and what is found in them come from functions, the rest is derived from."""
NEEDED = {
    "Ablate": {"component": "mlp.1"},
    "Chain": {"name": "mine"},
    "Column": {"name": "mine", "type": "float", "description": "what"},
    "ExportOptions": {"format": "sft"},
    "Knockout": {"span": "a"},
    "Message": {"role": "user", "content": "a"},
    "Patch": {"file": "a"},
    "Prompt": {"text": "a"},
    "Scale": {"component": "mlp.1", "factor": 2.0},
    "SpanRequest": {"name": "a", "text": "a"},
    "Table": {"name": "mine", "purpose": "what", "row": "one row", "columns": ()},
}


WRONG = (None, 5, -1, 1.5, "nothing", "", b"a", [5], (None,), [["a"]], {"a": object()}, (object(),), object())


@pytest.mark.parametrize("name", CLASSES)
def test_no_public_class_takes_fields_of_a_wrong_type(name: str) -> None:
    made, needed = getattr(elimtool, name), NEEDED.get(name, {})
    made(**needed)
    for one in inspect.signature(made).parameters.values():
        if one.annotation == "Any":
            continue
        with pytest.raises(ElimError, match=f"`{one.name}` of elimtool.{name} must be ") as caught:
            made(**{**needed, one.name: object()})
        assert caught.value.hint
        if str(one.annotation).startswith("tuple[") and "Any" not in str(one.annotation):
            with pytest.raises(ElimError, match=f"`{one.name}` of elimtool.{name} must be "):
                made(**{**needed, one.name: (5,)})
        if str(one.annotation).startswith("tuple[str"):
            with pytest.raises(
                ElimError, match=f"`{one.name}` must be a list of strings, got 'ab'"
            ) as caught:
                made(**{**needed, one.name: "ab"})
            assert caught.value.hint == "give ['ab']"
        if str(one.annotation).startswith("Literal["):
            with pytest.raises(ElimError, match=f"`{one.name}` must be '"):
                made(**{**needed, one.name: "nothing like it"})
    with pytest.raises(ElimError, match=f"elimtool.{name}: "):
        made(**needed, nothing_like_it=1)


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_is_made_or_says_why_not_whatever_it_is_given(name: str, tiny: Any) -> None:
    made, needed = getattr(elimtool, name), NEEDED.get(name, {})
    for field, wrong in itertools.product(inspect.signature(made).parameters, WRONG):
        with contextlib.suppress(ElimError):
            one = made(**{**needed, field: wrong})
            if name == "Prompt":
                elimtool.trace(tiny, one, options=QUICK)
            elif name == "TraceOptions" and field not in ("tables", "batch_size"):
                elimtool.trace(tiny, "a b", options=replace(one, tables=("lens",)))
            elif name in ("Ablate", "Knockout", "Patch", "Scale"):
                elimtool.trace(tiny, "a b", options=replace(QUICK, interventions=(one,)))


METHODS = [
    (made, name) for made in (elimtool.Run, elimtool.Comparison) for name in vars(made) if name[0] != "_"
]


@pytest.mark.parametrize(("made", "name"), METHODS)
def test_methods_of_runs_and_comparisons_refuse_wrong_types(made: type, name: str, tiny: Any) -> None:
    method = getattr(made, name)
    if not inspect.isfunction(method):
        return
    run = elimtool.trace(tiny, "a b", options=QUICK)
    needed = [one for one in inspect.signature(method).parameters.values() if one.kind != one.VAR_KEYWORD][1:]
    for one in needed:
        required = [each for each in needed if each.default is each.empty]
        given = {each.name: 0 if each.annotation == "int" else "x" for each in required}
        with pytest.raises(ElimError, match=f"`{one.name}` of elimtool.{made.__name__}.{name} must be "):
            method(run, **{**given, one.name: object()})

"""One call at a time runs a model, and nothing is left on it after any exception, wherever it comes."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

import elimtool
from elimtool.engine.options import TraceOptions
from elimtool.model.interventions import Ablate
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.slots import HOOKS, Unchanged
from elimtool.model.view import Batch
from tests.engine.test_engine import assert_same

EVERYTHING = TraceOptions(heads=True, lens="raw")
PROMPTS = ["The capital of France is", "A token of the text", "when no layer keeps it.", "Spain " * 9]


def left_on(model: Model) -> tuple[Unchanged, list[tuple[int, ...]]]:
    """Methods and settings on a model, and which modules stand in it with which hooks."""
    modules = [
        (id(module), *(key for kind in HOOKS for key in module.__dict__[kind]))
        for module in model.native._everything
    ]
    standing = [(id(one),) for one in model.bridge.modules()]
    return replace(model.native.state(), hooks=0), [*modules, *standing]


@pytest.mark.parametrize("name", ["tiny", "llama"])
def test_traces_in_threads_equal_those_alone(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    alone = [elimtool.trace(model, prompt, options=EVERYTHING) for prompt in PROMPTS]
    before = left_on(model)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: elimtool.trace(model, one, options=EVERYTHING), PROMPTS * 3))
    for run, expected in zip(found, alone * 3, strict=True):
        assert set(run.tables) == set(expected.tables)
        for table in expected.tables:
            assert_same(run.table(table), expected.table(table), table)
    assert left_on(model) == before


def test_different_calls_wait_for_each_other(llama: Any) -> None:
    asked = {"targets": ["a"], "options": TraceOptions(tables=("lens",), lens="raw")}
    calls: list[Callable[[], Any]] = [
        lambda: elimtool.trace(llama, PROMPTS[0], **asked).table("lens"),
        lambda: elimtool.attribute(llama, PROMPTS[0], targets=["a"]).table("attributions"),
        lambda: elimtool.record(llama, PROMPTS[0]).values,
        lambda: elimtool.trace(
            llama, PROMPTS[1], options=TraceOptions(interventions=(Ablate("1.1", "zero"),))
        ).table("effects"),
    ]
    alone = [call() for call in calls]
    before = left_on(llama)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda call: call(), calls * 2))
    for one, expected in zip(found, alone * 2, strict=True):
        if isinstance(expected, dict):
            assert all(one[key].equal(value) for key, value in expected.items())
        else:
            assert_same(one, expected, "a call")
    assert left_on(llama) == before


def test_every_public_function_with_a_model_is_exclusive() -> None:
    later = {"compare_models", "run_checks"}  # they may load the models, and lock each as it is run
    for name in elimtool.__all__:
        public = getattr(elimtool, name)
        if inspect.isfunction(public) and "model" in inspect.signature(public).parameters:
            assert name in later or hasattr(public, "__wrapped__"), name


def test_a_call_within_a_call_does_not_wait(tiny: Any) -> None:
    @exclusive
    def outer(model: Model) -> int:
        with model.held():
            return len(elimtool.trace(model, "a", options=EVERYTHING).prompts)

    assert outer(tiny) == 1


@contextmanager
def interrupted(at: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Raise an error at the n-th line that runs in the room of models, as a signal would."""
    seen = [0]

    def line(frame: FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            seen[0] += 1
            if seen[0] == at:
                raise error
        return line

    def call(frame: FrameType, _event: str, _arg: object) -> Any:
        inside = "/elimtool/model/" in frame.f_code.co_filename
        # the end of the lock itself is as short as it can be, and not what is tested
        return line if inside and not frame.f_code.co_filename.endswith(("lock.py", "encode.py")) else None

    before = sys.gettrace()
    gc.disable()  # what it calls cannot be interrupted: Python would only say that an error was ignored there
    sys.settrace(call)
    try:
        yield seen
    finally:
        sys.settrace(before)
        gc.enable()


@pytest.mark.slow
def test_nothing_is_left_after_an_interrupt_at_any_line(llama: Any) -> None:
    error = KeyboardInterrupt
    one = llama.encode(elimtool.Prompt(text=PROMPTS[1]))
    batch = Batch.of([one], llama.device)
    changed = llama.intervened([Ablate("1.1", "zero")])
    needs = ("attention", "block")

    def run(model: Any) -> None:
        model.stream(batch, needs, lambda _view: None)

    run(changed)
    before = left_on(llama)
    for model in (llama, changed):
        with interrupted(-1, error) as lines:
            run(model)
        total = lines[0]
        assert total > 100
        for at in range(1, total, max(1, total // 40)):
            raised: BaseException | None = None
            try:
                with interrupted(at, error):
                    run(model)
            except BaseException as found:
                raised = found
            assert left_on(llama) == before, (at, raised)
    run(llama)


def test_a_lock_is_free_after_an_exception(tiny: Any) -> None:
    with pytest.raises(ValueError, match="stop"), tiny.held():
        raise ValueError("stop")
    done = []

    def other() -> None:
        with tiny.held():
            done.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(10)
    assert done

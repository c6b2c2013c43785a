"""What a page asks is traced as the command does it, other chains run on kept outputs, little is kept."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.cli.repeating import command_of
from elimtool.errors import ElimError
from elimtool.tasks.explore.asked import PageState
from elimtool.tasks.explore.kept import Cancelled
from elimtool.tasks.explore.sliders import RANGES, lives
from elimtool.tasks.explore.states import TracedState, TracedStates
from elimtool.tasks.map.kept import cached_map
from tests.cli.conftest import Command
from tests.cli.conftest import elimtool as command_line
from tests.tasks.map.conftest import write_corpus

__all__ = ["command_line"]

PROMPT = "The capital of France is"
EVERY = PageState(
    "The capital of 'France' is",
    targets=("Paris", "--dash"),
    foils=("Berlin",),
    spans=("country=France",),
    position="-2",
    samplers=("top_k=40,temperature=0.8", "llama.cpp:min_p=0.1"),
    lens="raw",
    ablate=("1.0",),
    scale=("mlp.1=0.5",),
    knockout=("country@0-1",),
    seed=3,
)


def quiet(_: str = "") -> None:
    return None


def traced(states: TracedStates, asked: PageState) -> TracedState:
    return states.trace(asked, quiet, quiet)


def rows(run: Any) -> dict[str, Any]:
    return {name: run.arrow(name).to_pylist() for name in run.tables}


@pytest.mark.parametrize(
    "asked",
    [
        PageState(PROMPT, targets=("Paris",)),
        EVERY,
        PageState("Hi there", system="Be brief.", prefill="It is", targets=("Paris",)),
        PageState("Hi there", chat=True, generate=3, seed=1),
    ],
)
def test_the_python_that_a_state_shows_gives_its_tables(states: TracedStates, asked: PageState) -> None:
    found: dict[str, Any] = {}
    exec(asked.python(states.source), found)
    assert rows(found["run"]) == rows(traced(states, asked).run)


@pytest.mark.parametrize(
    "asked", [EVERY, PageState("Hi there", system="Be brief.", prefill="It is", generate=2)]
)
def test_the_command_that_a_state_shows_gives_its_tables(
    command_line: Command, states: TracedStates, asked: PageState, tmp_path: Any
) -> None:
    words = shlex.split(command_of(asked, states.source))
    at = words.index("--")
    done = command_line(*words[1:at], "-o", str(tmp_path / "run"), "-q", *words[at:])
    assert done.code == 0, done.err
    told, own = rows(elimtool.open_run(tmp_path / "run")), rows(traced(states, asked).run)
    assert told == own


def test_heads_are_named_by_the_map_in_the_cache_as_the_command_names_them(
    command_line: Command, states: TracedStates, llama: Any, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "text.jsonl", count=12)
    elimtool.map_model(llama, out=cached_map(llama), only=["roles"], corpus=corpus, tokens=48)
    asked = PageState(PROMPT, targets=("Paris",))
    own = traced(states, asked)
    assert own.session.options.roles is not None
    words = shlex.split(command_of(asked, states.source))
    at = words.index("--")
    done = command_line(*words[1:at], "-o", str(tmp_path / "run"), "-q", *words[at:])
    assert done.code == 0, done.err
    found: dict[str, Any] = {}
    exec(asked.python(states.source, mapped=True), found)
    assert rows(elimtool.open_run(tmp_path / "run")) == rows(own.run) == rows(found["run"])


@pytest.mark.parametrize("changes", [{}, {"ablate": ("1.0",)}, {"knockout": ("France@0-2",)}])
@pytest.mark.parametrize("position", ["last", "all"])
def test_other_chains_on_a_kept_output_are_those_of_a_new_trace(
    source: Any, changes: dict[str, Any], position: str
) -> None:
    one = PageState(PROMPT, targets=("Paris", "Rome"), foils=("Berlin",), position=position, **changes)
    other = one.with_stage(0, "top_k", 7).with_stage(2, "temperature", 0.5)
    states = TracedStates(source, command_of)
    first = traced(states, one)
    changed = traced(states, other)
    assert changed.kept is first.kept  # no pass was run
    fresh = traced(TracedStates(source, command_of), other)
    assert rows(changed.run) == rows(fresh.run)
    assert [one.describe() for one in changed.chains] == changed.run.manifest.chains


def test_what_was_written_through_a_chain_is_written_anew(states: TracedStates) -> None:
    one = PageState(PROMPT, samplers=("top_k=1",), generate=3)
    first, other = traced(states, one), traced(states, one.with_stage(0, "top_k", 200))
    assert other.kept is not first.kept


def test_a_session_keeps_few_states(source: Any) -> None:
    states = TracedStates(source, command_of, most=3)
    for number in range(8):
        traced(states, PageState(f"{PROMPT} {number}"))
    assert (len(states), states.dropped) == (3, 5)
    used = traced(states, PageState(f"{PROMPT} 5"))  # the oldest that is left
    traced(states, PageState("another"))
    assert traced(states, PageState(f"{PROMPT} 5")) is used
    small = TracedStates(source, command_of, most_bytes=1)
    traced(small, PageState(PROMPT)), traced(small, PageState("another"))
    assert len(small) == 1


def test_a_pass_ends_where_nobody_waits(states: TracedStates) -> None:
    def gone(calls: list[int]) -> Callable[[], None]:
        def stop() -> None:
            calls.append(1)
            if len(calls) == 5:  # in the middle of the layers
                raise Cancelled

        return stop

    calls: list[int] = []
    with pytest.raises(Cancelled):
        states.trace(PageState(PROMPT), quiet, gone(calls))
    assert len(calls) == 5 and len(states) == 0
    assert traced(states, PageState(PROMPT)).run.arrow("lens").num_rows  # the model is as it was


@pytest.mark.parametrize("changes", [{}, {"knockout": ("France@0-2",)}])
def test_sliders_tell_where_a_target_lives(states: TracedStates, changes: dict[str, Any]) -> None:
    asked = PageState(PROMPT, targets=("Paris",), samplers=("top_k=30,top_p=0.9,min_p=0.05",), **changes)
    state = traced(states, asked)
    position = state.run.arrow("survival").column("position")[0].as_py()
    found = lives(state, 0, position, 0, quiet)
    assert set(found) == {"top_k", "top_p", "min_p"}

    def survives(stage: str, value: float) -> bool:
        table = traced(states, asked.with_stage(0, stage, value)).run
        fates = table.under(table.interventions).arrow("sampling_targets").to_pylist()
        return all(row["alive_after"] for row in fates if row["target"] == "Paris")

    for stage, ranges in found.items():
        low, high, step = RANGES[stage]
        near = step if isinstance(step, int) else 1e-4
        for start, end in ranges:
            assert survives(stage, (start + end) / 2 if stage != "top_k" else end)
            if start > low + near:
                assert not survives(stage, start - near)
            if end < high - near:
                assert not survives(stage, end + near)
        if not ranges:
            assert not any(survives(stage, low + part * (high - low)) for part in (0.25, 0.5, 0.75))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (7, "must be an object"),
        ({}, "with a `prompt`"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": 7}, "`prompt`"),
        ({"prompt": "x", "chains": []}, "no `chains`"),
        ({"prompt": "x" * 20_001}, "20,001 characters"),
        ({"prompt": "x", "targets": ["y"] * 65}, "65 entries"),
        ({"prompt": "x", "targets": "y"}, "`targets`"),
        ({"prompt": "x", "generate": 1000}, "0 to 256"),
        ({"prompt": "x", "lens": "/etc/passwd"}, "`lens` must be one of"),
        ({"prompt": "x", "samplers": ["/etc/chain.yaml"]}, "neither a preset nor stages"),
        ({"prompt": "x", "samplers": ["chain.yml"]}, "neither a preset nor stages"),
        ({"prompt": "x", "samplers": ["hf@/etc"]}, "neither a preset nor stages"),
        ({"prompt": "x", "samplers": ["grammar.source=secret"]}, "grammar"),
        ({"prompt": "x", "samplers": ["dola=[0,1]"]}, "combines the output"),
        ({"prompt": "x", "patch": ["secret"]}, "no `patch`"),
    ],
)
def test_a_state_that_cannot_be_meant_or_names_a_file_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ElimError) as refused:
        PageState.read(given)
    assert words in str(refused.value)


def test_stages_in_order_can_be_put_in_another_and_presets_cannot() -> None:
    asked = PageState(PROMPT, samplers=("top_k=40,penalties.repetition=1.1,temperature=0.8", "hf"))
    changed = asked.with_order(0, ("temperature", "top_k", "penalties"))
    assert changed.samplers[0] == "temperature=0.8,top_k=40,penalties.repetition=1.1"
    for wrong in [(1, ("top_k",)), (0, ("top_k",)), (2, ())]:
        with pytest.raises(ElimError):
            asked.with_order(*wrong)
    for chain, stage, value in [(0, "nothing", 1.0), (0, "temperature", -1.0), (9, "top_k", 1.0)]:
        with pytest.raises(ElimError):
            asked.with_stage(chain, stage, value)

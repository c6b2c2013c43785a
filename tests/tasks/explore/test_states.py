"""What a page asks is traced as the command does it, other chains run on kept outputs, little is kept."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.cli.repeating import command_of
from elimtool.errors import ElimError
from elimtool.lenses import find
from elimtool.lenses.corpus import shipped
from elimtool.samplers import preset_names, resolve
from elimtool.tasks.explore.asked import Offered, PageState
from elimtool.tasks.explore.chains import RANGES, reordered
from elimtool.tasks.explore.kept import Cancelled
from elimtool.tasks.explore.pair import compared, differences
from elimtool.tasks.explore.script import script
from elimtool.tasks.explore.sliders import lives
from elimtool.tasks.explore.states import TracedState, TracedStates
from elimtool.tasks.map.kept import cached_map
from tests.cli.conftest import Command
from tests.cli.conftest import elimtool as command_line
from tests.families import save
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


@pytest.fixture(scope="module")
def weaker(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> str:
    """A second model of the vocabulary of the first."""
    return str(save("llama", tmp_path_factory.mktemp("weaker"), tokenizer, seed=1))


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
    exec(script(asked, states.source), found)
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
    exec(script(asked, states.source, mapped=True), found)
    assert rows(elimtool.open_run(tmp_path / "run")) == rows(own.run) == rows(found["run"])


@pytest.mark.parametrize(
    ("position", "changes"),
    [("all", {}), ("last", {"ablate": ("1.0",)}), ("all", {"knockout": ("France@0-2",)})],
)
def test_other_chains_on_a_kept_output_are_those_of_a_new_trace(
    source: Any, position: str, changes: dict[str, Any]
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
    plain = PageState("A", samplers=("top_k=9",))
    states = TracedStates(source, command_of, most=2)
    for prompt in ("A", "B", "C", "D"):
        traced(states, replace(plain, prompt=prompt))
    assert (len(states), states.dropped) == (2, 2)
    used = traced(states, replace(plain, prompt="C"))  # the oldest that is left
    traced(states, replace(plain, prompt="E"))
    assert traced(states, replace(plain, prompt="C")) is used
    small = TracedStates(source, command_of, most_bytes=1)
    traced(small, plain), traced(small, replace(plain, prompt="B"))
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
        ({"prompt": "x", "samplers": ["grammar=/etc/passwd"]}, "read from a file"),
        ({"prompt": "x", "samplers": ["top_k=3, grammar.json_schema = /etc/passwd"]}, "read from a file"),
        ({"prompt": "x", "samplers": ["koboldcpp:grammar.file=/etc/passwd"]}, "read from a file"),
        ({"prompt": "x", "samplers": ["one.stage='grammar',one=secret"]}, "read from a file"),
        ({"prompt": "x", "patch": ["/etc/passwd"]}, "`patch` was not offered"),
        ({"prompt": "x", "patch": ["/etc/passwd@17.3"]}, "`patch` was not offered"),
        ({"prompt": "x", "grammar": "/etc/passwd"}, "`grammar` was not offered"),
        ({"prompt": "x", "json_schema": "/etc/passwd"}, "`json_schema` must be the text"),
        ({"prompt": "x", "amateur": "another/model"}, "`amateur` was not offered"),
    ],
)
def test_a_state_that_cannot_be_meant_or_names_a_file_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ElimError) as refused:
        PageState.read(given)
    assert words in str(refused.value)


def test_stages_of_a_chain_can_be_put_in_another_order() -> None:
    text = "top_k=40,penalties.repetition=1.1,temperature=0.8"
    changed = reordered(text, resolve(text), ("temperature", "top_k", "penalties"))
    assert changed == "temperature=0.8,top_k=40,penalties.repetition=1.1"
    with pytest.raises(ElimError, match="name each of them once"):
        reordered(text, resolve(text), ("top_k",))
    asked = PageState(PROMPT, samplers=(text, "hf"))
    for chain, stage, value in [(0, "nothing", 1.0), (0, "temperature", -1.0), (9, "top_k", 1.0)]:
        with pytest.raises(ElimError):
            asked.with_stage(chain, stage, value)
    with pytest.raises(ElimError, match="is there already"):
        asked.with_chain(0, "hf")


def test_a_stage_that_a_preset_has_twice_is_moved_and_set_by_its_own_name() -> None:
    text = "koboldcpp:penalties.repetition=1.1"
    names = [one.name for one in resolve(text).stages]
    names.insert(names.index("penalties"), names.pop(names.index("top_k")))  # before what it stood behind
    moved = reordered(text, resolve(text), names)
    assert "prefilter.stage=top_k,prefilter=3000,prefilter.ties=exact,top_k=100" in moved
    asked = PageState(PROMPT, samplers=(moved,)).with_stage(0, "prefilter", 50).with_stage(0, "top_k", 60)
    stages = resolve(asked.samplers[0]).stages
    values = {one.name: one.params()["k"] for one in stages if one.kind == "top_k"}
    assert values == {"prefilter": 50, "top_k": 60}
    order = [one.name for one in stages][::-1]
    assert [one.name for one in resolve(reordered(asked.samplers[0], resolve(moved), order)).stages] == order


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_written_out_keeps_the_parameters_of_all_stages_that_act(name: str) -> None:
    chain = resolve(f"{name}:temperature=0.7")
    names = [one.name for one in chain.stages]
    on = [(one.kind, one.params()) for one in chain.stages if not one.is_off()]
    for order in (names, names[::-1]):
        found = resolve(reordered(name, chain, order)).stages
        told = [(one.kind, one.params()) for one in found if not one.is_off()]
        assert told == (on if order is names else on[::-1])


@pytest.mark.parametrize(
    ("chain", "changes"),
    [
        ("dola=[0,1],guidance=1.5,top_k=5", {"against": "The capital of Spain is"}),
        ("top_k=9", {"json_schema": '{"type": "object"}'}),
    ],
)
def test_chains_that_combine_outputs_or_follow_a_grammar_run_on_what_is_kept(
    source: Any, chain: str, changes: dict[str, Any]
) -> None:
    one = PageState(PROMPT, targets=("Paris",), samplers=(chain,), **changes)
    other = PageState(PROMPT, targets=("Paris",), samplers=(f"{chain},temperature=0.5",), **changes)
    states = TracedStates(source, command_of)
    first, changed = traced(states, one), traced(states, other)
    assert changed.kept is first.kept
    fresh = traced(TracedStates(source, command_of), other)
    assert rows(changed.run) == rows(fresh.run)
    assert changed.run.manifest.config == fresh.run.manifest.config
    position = first.run.arrow("survival").column("position")[0].as_py()
    assert set(lives(changed, 0, position, 0, quiet)) <= {"top_k", "temperature"}
    found: dict[str, Any] = {}
    exec(script(other, states.source), found)
    assert rows(found["run"]) == rows(changed.run)


def test_a_second_model_is_loaded_once_and_all_that_a_page_asks_is_that_of_the_command(
    command_line: Command, source: Any, weaker: str, tmp_path: Path
) -> None:
    given = {
        "prompt": PROMPT,
        "targets": ["Paris"],
        "samplers": ["contrastive=0.5,top_k=9"],
        "amateur": weaker,
    }
    one = PageState.read(given, Offered(amateurs=(weaker,)))
    other, said = one.with_stage(0, "contrastive", 0.9), list[str]()
    states = TracedStates(source, command_of)
    first = states.trace(one, said.append, quiet)
    changed = traced(states, other)
    assert changed.kept is first.kept and said.count(f"loading {weaker}") == 1
    assert rows(changed.run)["sampling"] != rows(first.run)["sampling"]
    words = shlex.split(command_of(other, source))
    at = words.index("--")
    done = command_line(*words[1:at], "-o", str(tmp_path / "run"), "-q", *words[at:])
    assert done.code == 0, done.err
    assert rows(elimtool.open_run(tmp_path / "run")) == rows(changed.run)
    found: dict[str, Any] = {}
    exec(script(other, source), found)
    assert rows(found["run"]) == rows(changed.run)
    position = first.run.arrow("survival").column("position")[0].as_py()
    assert set(lives(changed, 0, position, 0, quiet)) == {"top_k"}
    spain = states.trace(replace(one, prompt="The capital of Spain is"), said.append, quiet)
    assert spain.session.amateur is first.session.amateur and said.count(f"loading {weaker}") == 1
    assert compared(states, one, spain.asked, quiet, quiet)["prompt"]["probes"]
    assert differences(first, changed)["prompt"]["probes"]


def test_what_is_kept_is_not_used_where_it_does_not_suffice(states: TracedStates) -> None:
    plain = PageState(PROMPT, targets=("Paris",), samplers=("top_k=9",))
    first = traced(states, plain)
    for more in ({"samplers": ("dola=[0,1]",)}, {"regex": "(A|B|C).*"}):
        assert traced(states, replace(plain, **more)).kept is not first.kept
    with pytest.raises(ElimError, match="other logits") as refused:
        traced(states, replace(plain, samplers=("guidance=1.5",)))
    assert "`against`" in refused.value.hint


def test_what_was_named_at_the_start_can_be_asked_for(
    command_line: Command, states: TracedStates, llama: Any, tmp_path: Path
) -> None:
    recording, grammar = tmp_path / "spain.safetensors", tmp_path / "one.lark"
    grammar.write_text('start: "Paris" | "Rome"')
    elimtool.record(llama, "The capital of France of").save(recording)
    offered = Offered(recordings=(str(recording),), grammars=(str(grammar),))
    given = {
        "prompt": PROMPT,
        "patch": [f"{recording}@residual.1"],
        "grammar": str(grammar),
        "samplers": ["top_k=9"],
    }
    asked = PageState.read(given, offered)
    own = traced(states, asked)
    words = shlex.split(command_of(asked, states.source))
    at = words.index("--")
    done = command_line(*words[1:at], "-o", str(tmp_path / "run"), "-q", *words[at:])
    assert done.code == 0, done.err
    found: dict[str, Any] = {}
    exec(script(asked, states.source), found)
    assert rows(elimtool.open_run(tmp_path / "run")) == rows(own.run) == rows(found["run"])
    with pytest.raises(ElimError, match="must be one of"):
        PageState.read({**given, "patch": ["/etc/passwd"]}, offered)


def test_writing_tells_how_far_it_is_and_ends_where_nobody_waits(states: TracedStates) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text.endswith("token 3 of 9"):
            raise Cancelled

    with pytest.raises(Cancelled):
        states.trace(PageState(PROMPT, generate=9), say, quiet)
    assert said[-3:] == [f"writing token {number} of 9" for number in (1, 2, 3)] and len(states) == 0


def leave_at(words: str, said: list[str]) -> Callable[[str], None]:
    def say(text: str) -> None:
        said.append(text)
        if words in text:
            raise Cancelled

    return say


def test_a_lens_is_fitted_with_progress_and_cancel(
    states: TracedStates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path))
    few = shipped("fit")[:2]
    monkeypatch.setattr(find, "shipped", lambda _name: few)
    said: list[str] = []
    asked = PageState(PROMPT, targets=("Paris",))
    first = traced(states, asked)
    with pytest.raises(Cancelled):
        states.fit(leave_at("fitting the lens", said), quiet)
    assert traced(states, asked) is first and first.session.lens.name == "raw"
    states.fit(said.append, quiet)
    assert traced(states, asked).session.lens.name == "ridge" and any("100 %" in text for text in said)


@pytest.mark.long
def test_verdicts_are_tested_with_progress_and_cancel(states: TracedStates) -> None:
    tested = PageState(PROMPT, targets=("Paris",), confirm=True)
    with pytest.raises(Cancelled):
        states.trace(tested, leave_at("testing verdicts", []), quiet)
    assert len(states) == 0
    (row,) = traced(states, tested).run.arrow("verdicts").to_pylist()
    assert row["eliminator_null_n"] or row["promoter_null_n"]

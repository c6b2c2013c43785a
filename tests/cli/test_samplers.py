"""``elimtool samplers``: everything that there is gets listed, and everything listed can be shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elimtool.samplers import STAGES, preset_names, resolve
from tests.cli.conftest import Command


def test_list_names_every_engine_and_stage(elimtool: Command) -> None:
    done = elimtool("samplers", "list")
    assert done.code == 0
    for name in (*preset_names(), *STAGES):
        assert f"\n{name} " in f"\n{done.out}"
    found = json.loads(elimtool("samplers", "list", "--json").out)
    assert [stage["kind"] for stage in found["stages"]] == list(STAGES)
    assert [engine["name"] for engine in found["engines"]] == preset_names()


@pytest.mark.parametrize("kind", sorted(STAGES))
def test_every_stage_can_be_shown(elimtool: Command, kind: str) -> None:
    done = elimtool("samplers", "show", kind)
    assert done.code == 0
    assert done.out.startswith(kind)
    assert "sources:" in done.out
    found = json.loads(elimtool("samplers", "show", kind, "--json").out)
    for parameter in found["parameters"]:
        assert parameter["meaning"], f"{kind}.{parameter['name']} is not explained"
        assert f"{parameter['name']} " in done.out


@pytest.mark.parametrize("name", [*preset_names(), "top_k=40,temperature=0.8", "llama.cpp:top_k=3"])
def test_every_chain_can_be_shown(elimtool: Command, name: str) -> None:
    done = elimtool("samplers", "show", name)
    assert done.code == 0
    for stage in json.loads(elimtool("samplers", "show", name, "--json").out)["stages"]:
        assert stage["name"] in done.out


@pytest.mark.parametrize(
    ("name", "said"), [("lama.cpp", "llama.cpp"), ("top_p=7", "[0, 1]"), ("x.yaml", "x.yaml")]
)
def test_what_is_not_there(elimtool: Command, name: str, said: str) -> None:
    done = elimtool("samplers", "show", name)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_explained(elimtool: Command, name: str) -> None:
    told = elimtool("samplers", "explain", name)
    assert told.code == 0
    found = json.loads(elimtool("samplers", "explain", name, "--json").out)
    assert [stage["name"] for stage in found["stages"]] == [stage.name for stage in resolve(name).stages]
    for stage in found["stages"]:
        assert f"{stage['place']:2} {stage['name']}" in told.out
        head = f"{stage['place']:2} {stage['name']}"
        line = next(line for line in told.out.splitlines() if line.startswith(head))
        assert stage["on"] == (": ON, " in line)


def test_an_explanation_says_where_values_are_from_and_what_is_not_applied(
    elimtool: Command, tmp_path: Path
) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.6, "typical_p": 7, "top_p": 0.9}')
    done = elimtool("samplers", "explain", f"hf@{tmp_path}:top_p=0.5")
    told = " ".join(done.out.split())
    assert "temperature = 0.6 (from generation_config.json)" in told
    assert "p = 0.5 (from user)" in told
    assert "not applied: typical_p = 7" in told
    assert "on: temperature, then top_k, then top_p." in told
    assert done.out.index("begin_suppress, grammar") < done.out.index(
        " 2 temperature"
    )  # left out, in their place
    assert "llama.cpp" not in done.out and "TopKLogitsWarper" in done.out  # sources of the engine alone
    assert "no stage" in elimtool("samplers", "explain", "vllm").out
    assert elimtool("samplers", "explain", "lama").code == 2

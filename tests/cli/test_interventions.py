"""Interventions on the command line: the story, JSON, config files, recording and patching, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import elimtool as package

from .conftest import Command

PROMPT = "The capital of France is"


@pytest.fixture
def tiny_model(llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))
    monkeypatch.setenv("ELIMTOOL_LENS", "raw")
    monkeypatch.setenv("ELIMTOOL_SAMPLERS", "hf")
    return llama_directory


def test_the_story_tells_before_and_after(elimtool: Command, tiny_model: Path) -> None:
    done = elimtool("trace", PROMPT, "-t", "of", "-t", "is", "--ablate", "1.2", "--ablate-with", "zero")
    assert done.code == 0
    section = done.out[done.out.index("Under ablate 1.2 zero") :]
    section = section[: section.index("\n\n")]
    assert section.count(" rank ") == 2 and section.count("→") >= 6
    assert "logit difference to 'of'" in section and "most probable: " in section
    plain = elimtool("trace", PROMPT, "-t", "of", "-t", "is").out
    measured = plain[: plain.index("Try next")].splitlines()
    assert [line for line in done.out.splitlines() if line and line in measured] == list(
        filter(None, measured)
    )


def test_a_sink_left_out_is_said(elimtool: Command, tiny_model: Path) -> None:
    done = elimtool("trace", PROMPT, "-t", "of", "--span", "s=The capital", "--knockout", "s@1-2")
    assert done.code == 0
    told = " ".join(done.out.split())
    assert "note: the span 's' was knocked out without its attention sink (0 'The')" in told


def test_json_and_tables_hold_both_passes(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("scale: [mlp.1=0.5, 2.1=3]\nknockout: ['France@0-3']\nknockout-from: later\n")
    done = elimtool(
        *(
            "trace",
            PROMPT,
            "-t",
            "of",
            "--span",
            "France=France",
            "--config",
            config,
            "--json",
            "-o",
            tmp_path / "run",
        )
    )
    found = json.loads(done.out)
    label = "scale mlp.1=0.5; scale 2.1=3.0; knockout France@0-3 from later"
    assert {row["intervention"] for row in found["tables"]["lens"]} == {None, label}
    assert found["tables"]["effects"][0]["intervention"] == label
    assert found["run"]["config"]["interventions"] == label.split("; ")
    run = package.open_run(tmp_path / "run")
    assert run.interventions == label
    assert run.under(label).arrow("verdicts").num_rows == 1


def test_recording_and_patching(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    assert elimtool("trace", PROMPT, "-t", "of", "--save-activations", file).code == 0
    done = elimtool("trace", PROMPT, "-t", "of", "--patch", file, "--json")
    effect = json.loads(done.out)["tables"]["effects"][0]
    assert effect["logprob_change"] == 0 and effect["rank_before"] == effect["rank_after"]
    longer = elimtool("trace", PROMPT + " it", "-t", "of", "--patch", f"{file}@mlp.1")
    assert longer.code == 2 and "exchange tokens one for one" in longer.err


def test_confirm_says_what_was_tested(elimtool: Command, tiny_model: Path) -> None:
    done = elimtool("trace", PROMPT, "-t", "of", "--confirm")
    assert done.code == 0
    assert "confirmed: ablating " in done.out and "to compare with" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ablate", "9.0"), "its layers are 0 to 3"),
        (("--ablate", "1.9"), "its heads are 0 to 3"),
        (("--ablate", "seventeen"), "--ablate must name a head, an MLP or an expert, got 'seventeen'"),
        (("--ablate-with", "zero"), "without --ablate does nothing"),
        (("--knockout-from", "later"), "without --knockout does nothing"),
        (("--ablate", "1.1", "--ablate-with", "mode"), "valid: mean, zero, resample"),
        (("--scale", "1.1"), "COMPONENT=FACTOR"),
        (("--knockout", "Germany@1-2"), "--knockout 'Germany' does not name a span of the prompt"),
        (("--knockout", "is@3-7"), "its layers are 0 to 3"),
        (("--knockout", "capital of@3-7"), "its layers are 0 to 3"),
        (("--patch", "nothing.safetensors"), "there is no such file"),
        (("--ablate", "1.1", "--generate", "2"), "--generate cannot be combined"),
        (("--confirm", "--no-heads"), "--confirm needs --heads"),
        (("--tables", "effects"), "needs an intervention"),
    ],
)
def test_what_cannot_be_is_said(
    elimtool: Command, tiny_model: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = elimtool("trace", PROMPT, *arguments)
    assert done.code == 2 and done.out == ""
    assert message in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--span", "x=Spain"), "span 'x': the text 'Spain' is not in the prompt"),
        (("--span", "x=a"), "span 'x': the text 'a' occurs"),
        (("--knockout", "Germany@1-2"), "--knockout 'Germany' does not name a span of the prompt"),
        (("--samplers", "lama.cpp"), "lama.cpp"),
        (("--samplers", "hf", "--chain", "vllm"), "--chain must be one of --samplers, got 'vllm'"),
        (("--position", "first"), "--position must be"),
        (("--prefill", ""), "the prefill is empty"),
    ],
)
def test_what_the_model_need_not_say_is_said_before_it_is_loaded(
    elimtool: Command, arguments: tuple[str, ...], message: str
) -> None:
    done = elimtool("trace", PROMPT, "-m", "no/such-model", *arguments)
    assert done.code == 2 and done.out == ""
    assert message in done.err and "such-model" not in done.err

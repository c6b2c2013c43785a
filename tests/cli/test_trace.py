"""``elimtool trace`` as a user types it: results, precedence of options, and what bad input is told."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool as package
from elimtool.report.numbers import share
from elimtool.run.selection import (
    CHANGES,
    FITTED,
    GRAMMARS,
    IF_GIVEN,
    IF_NAMED,
    MIXED,
    ON_REQUEST,
    TRACED,
    WALKS,
    WIDE,
)
from tests.cli.conftest import Command

PROMPT = "The capital of France is"

CONTRASTS = {"contrasts", "contrast_layers", "contrast_components", "contrast_sources", "contrast_stages"}
MEASURED = (
    set(TRACED)
    - WALKS
    - GRAMMARS
    - FITTED
    - CHANGES
    - MIXED
    - IF_GIVEN
    - IF_NAMED
    - {*ON_REQUEST, *CONTRASTS}
)
"""The tables of every trace; a walk, a fitted lens, foils, named heads and an intervention add theirs."""
FORMED = {"block_share", "contribution", "clipped", "sink_value_ratio"}
"""Columns that need what each token adds to the stream, which is not formed for every position."""


@pytest.fixture
def tiny_model(llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))
    return llama_directory


def test_story_on_stdout_and_tables_on_disk(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    done = elimtool("trace", PROMPT, "-t", "Paris", "--foil", "Madrid", "-o", tmp_path / "run")
    assert done.code == 0
    assert "Paris" in done.out
    assert "llama.cpp" in done.out and "vllm" in done.out
    assert f"wrote {tmp_path / 'run'}" in done.err
    run = package.open_run(tmp_path / "run")
    assert set(run.tables) == MEASURED | CONTRASTS
    assert run.manifest.model == str(tiny_model)
    lens = run.table("lens")
    assert sorted(lens["layer"].unique()) == [-1, 0, 1, 2, 3]
    assert set(lens.loc[lens["is_foil"], "target"]) == {"Madrid"}
    assert "Madrid" not in " ".join(run.table("survival")["target"])


def test_json_is_json_and_nothing_else(elimtool: Command, tiny_model: Path) -> None:
    done = elimtool("trace", PROMPT, "--json")
    found = json.loads(done.out)
    assert done.code == 0
    assert found["run"]["model"] == str(tiny_model)
    assert set(found["tables"]) == MEASURED | CONTRASTS
    assert len(found["tables"]["survival"]) >= 5


def test_two_runs_write_the_same_bytes(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert elimtool("trace", PROMPT, "-o", tmp_path / name).code == 0
    for table in MEASURED:
        one, two = ((tmp_path / name / table / "part-00000.parquet").read_bytes() for name in ("one", "two"))
        assert one == two


def test_quiet_with_out_prints_the_path_alone(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    done = elimtool("trace", PROMPT, "-q", "-o", tmp_path / "run")
    assert (done.code, done.out, done.err) == (0, f"{tmp_path / 'run'}\n", "")


def test_prompt_from_stdin_and_file(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"\xef\xbb\xbf" + PROMPT.encode())
    texts = []
    for arguments, stdin in ((("-",), PROMPT.encode()), (("--file", file), b""), ((PROMPT,), b"")):
        done = elimtool("trace", *arguments, "--json", stdin=stdin)
        texts.append(json.loads(done.out)["tables"]["prompts"][0]["text"])
    assert texts == [PROMPT] * 3


def test_chat_and_system(elimtool: Command, tiny_model: Path) -> None:
    done = elimtool("trace", "Which city?", "--system", "Be brief.", "--json")
    row = json.loads(done.out)["tables"]["prompts"][0]
    assert row["text"] == (
        "<|start|>system\nBe brief.<|end|>\n<|start|>user\nWhich city?<|end|>\n<|start|>assistant\n"
    )
    assert [span["span"] for span in row["spans"]] == ["<sink>", "system", "user", "<rest>"]


def test_flag_goes_before_environment_before_config(
    elimtool: Command, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "trace.yaml"
    config.write_text("samplers: [hf]\nposition: '1'\nsinks: none\ntarget-space: exact\n")
    monkeypatch.setenv("ELIMTOOL_POSITION", "2")

    def position(*arguments: str) -> tuple[int, str, str]:
        found = json.loads(elimtool("trace", PROMPT, "--json", *arguments).out)
        return (
            found["tables"]["survival"][0]["position"],
            found["run"]["sinks"],
            found["run"]["config"]["target_space"],
        )

    assert position("--config", str(config), "--position", "3") == (3, "none", "exact")
    assert position("--config", str(config)) == (2, "none", "exact")
    monkeypatch.delenv("ELIMTOOL_POSITION")
    assert position("--config", str(config)) == (1, "none", "exact")
    assert position()[1:] == ("auto", "auto")


def test_a_walk_is_written_and_told(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    arguments = (
        "--generate",
        "6",
        "--seed",
        "3",
        "--samplers",
        "hf",
        "--samplers",
        "llama.cpp",
        "--chain",
        "llama.cpp",
    )
    done = elimtool("trace", PROMPT, *arguments, "-o", tmp_path / "run")
    assert done.code == 0
    run = package.open_run(tmp_path / "run")
    assert set(run.tables) == MEASURED | (WALKS - {"walk_grammar", "walk_rewinds"}) | CONTRASTS
    assert run.table("walk")["step"].tolist() == list(range(6))
    assert set(run.table("walk")["chain"]) == {"llama.cpp"}
    assert run.manifest.seed == 3
    assert "Written through llama.cpp" in done.out


def test_the_story_of_written_tokens_says_what_each_attended_to(
    elimtool: Command, tiny_model: Path, tmp_path: Path
) -> None:
    asked = ("trace", "Which one?", "--chat", "--system", "Be brief.", "--position", "written:0-3")
    done = elimtool(*asked, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    kept = done.out[done.out.index("Attention at each written token") :].splitlines()
    heads = next(line.split() for line in kept if line.split()[:1] == ["written"])
    assert heads == ["written", "system", "user", "<rest>", "written"]
    run = package.open_run(tmp_path / "run")
    means = run.table("attention").groupby(["position", "span"])["mass_no_sink"].mean()
    spans = {one["span"]: set(one["tokens"]) for one in run.arrow("prompts").to_pylist()[0]["spans"]}
    for number, position in enumerate(sorted(run.table("attention")["position"].unique())):
        (line,) = (line for line in kept if re.match(rf" *{number}  '.*\(", line))
        seen = set(range(position + 1)) - spans["<sink>"]
        even = len(spans["system"] & seen) / len(seen)
        told = line[line.index(f"{share(means[position, 'system'])} (") :].split()[1]
        assert float(told.strip("(%)")) == pytest.approx(100 * even, abs=0.51)  # printed in whole percent
    assert "Heads for" not in done.out and "--at=written:3" in done.out.replace("\\\n", "")
    heads = elimtool(*asked, "--heads")
    components = package.open_run(tmp_path / "run").table("components").query("kind == 'head'")
    first = components[components["position"] == components["position"].max()]
    first = first[first["target"] == first["target"].iloc[0]]
    top = first.loc[first["dla_centred"].abs().idxmax()]
    told = heads.out[heads.out.index("Heads for") :].splitlines()
    (line,) = [line for line in told if line.split()[:1] == [f"{top['layer']}.{top['head']}"]][:1]
    assert line.split()[1] == f"{top['dla_centred']:+.2f}"


def test_heads_are_off_by_default_at_all_positions(elimtool: Command, tiny_model: Path) -> None:
    assert not json.loads(elimtool("trace", "abc", "--position", "all", "--json").out)["tables"].get(
        "attention_heads"
    )
    found = elimtool("trace", "abc", "--position", "all", "--heads", "--json").out
    assert json.loads(found)["tables"]["attention_heads"]


def test_listed_positions_have_the_rows_that_all_positions_have(elimtool: Command, tiny_model: Path) -> None:
    def rows(position: str) -> dict[str, list[Any]]:
        done = elimtool(
            "trace", PROMPT, "-t", "is", "--heads", "--lens", "raw", "--position", position, "--json"
        )
        assert done.code == 0, done.err
        return dict(json.loads(done.out)["tables"])

    every, listed = rows("all"), rows("1-2,-1")
    last = every["prompts"][0]["n_tokens"] - 1
    assert set(listed) - WIDE == set(every) - WIDE
    for name, some in listed.items():
        if name == "prompts" or not every.get(name):  # no contrast without a foil, no wide table for all
            continue
        assert {row["position"] for row in some} == {1, 2, last}
        wanted = [row for row in every[name] if row["position"] in (1, 2, last)]
        for one, other in zip(some, wanted, strict=True):
            for column, value in one.items():
                if column in FORMED and other[column] is None:
                    continue
                if isinstance(value, float):
                    assert value == pytest.approx(other[column], rel=1e-3, abs=1e-4), (name, column)
                elif column != "why":  # which states rounded numbers
                    assert value == other[column], (name, column)


BAD = {
    "no prompt": ((), "give one prompt"),
    "prompt and file": (("a", "--file", "b"), "give one prompt"),
    "empty": (("",), "the prompt is empty"),
    "too long": (("word " * 300,), "context is 128"),
    "unknown model": (("a", "-m", "smollm3x"), "smollm3x"),
    "missing path": (("a", "-m", "./nowhere"), "no such file or directory"),
    "empty target": (("a", "-t", ""), "empty target"),
    "target is foil": (("a", "-t", "x", "--foil", "x"), "both a target and a foil"),
    "span without text": (("a", "--span", "name"), "NAME=TEXT"),
    "span not found": ((PROMPT, "--span", "x=Spain"), "is not in the prompt"),
    "span twice": (("a b a", "--span", "x=a"), "x=a#2"),
    "position out of range": ((PROMPT, "--position", "999"), "--position 999 is outside the prompt"),
    "position outside a list": (
        (PROMPT, "--position", "0,999"),
        "--position 0,999: 999 is outside the prompt",
    ),
    "position no number": (
        ("a", "--position", "first"),
        "--position must be 'last', 'all', an index from 0, a list such as 4,7-9 or written",
    ),
    "position backwards": (("a", "--position", "3-1"), "--position 3-1: the range 3-1 runs backwards"),
    "unknown sampler": (("a", "--samplers", "lama.cpp"), "llama.cpp"),
    "parameter out of range": (("a", "--samplers", "top_p=1.5"), "top_p"),
    "unknown stage": (("a", "--samplers", "top_j=3"), "top_k"),
    "unknown lens": (("a", "--lens", "rraw"), "valid: raw"),
    "sinks": (("a", "--sinks", "first"), "--sinks must be auto, none, or positions such as 0,5, got 'first'"),
    "dtype": (("a", "--dtype", "float3"), "float32"),
    "device": (("a", "--device", "tpu"), "cpu"),
    "absent device": (("a", "--device", "cuda:7"), "no such device"),
    "negative walk": (("a", "--generate", "-1"), "--generate must be a number of tokens from 0, got -1"),
    "walk through no sampler": (
        ("a", "--generate", "2", "--chain", "sglang"),
        "--chain must be one of --samplers, got 'sglang'",
    ),
    "no such option": (("a", "--positon", "last"), "--position"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input(name: str, elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    arguments, said = BAD[name]
    done = elimtool("trace", *arguments, "-o", tmp_path / "run")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "run").exists()


def test_bad_files(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"one\ntw\xe9\n")
    for arguments, stdin in ((("--file", latin), b""), (("-",), latin.read_bytes())):
        done = elimtool("trace", *arguments, stdin=stdin)
        assert done.code == 2
        assert "0xe9 on line 2" in done.err
    config = tmp_path / "config.yaml"
    for text, said in (
        ("samplrs: [hf]\n", "did you mean 'samplers'?"),
        ("samplers: [hf]\n\nsamplrs: [hf]\n", "config.yaml:3: unknown key"),
        ("seed: 1\ngenerate: abc\n", "config.yaml:2: 'generate' must be a whole number, got 'abc'"),
        ("generate: 2.5\n", "config.yaml:1: 'generate' must be a whole number, got 2.5"),
        ("generate: true\n", "config.yaml:1: 'generate' must be a whole number, got True"),
        ("heads: 3\n", "config.yaml:1: 'heads' must be true or false"),
        ("model: {a: 1}\n", "config.yaml:1: 'model' takes one value"),
        ("sinks: no\n", "config.yaml:1: 'sinks' must be a text, got False: put it in quotes"),
        ("target:\n- a\n- [b]\n", "config.yaml:3: 'target' takes one value"),
        ("a: [\n", ":2: not valid YAML"),
        ("- hf\n", "mapping"),
        (
            "# refused by the command, not by its kind\ndtype: float99\n",
            "config.yaml:2: --dtype 'float99' is",
        ),
        ("\nposition: frist\n", "config.yaml:2: --position must be"),
        ("samplers:\n- hff\n", "config.yaml:1: unknown sampler chain 'hff'"),
    ):
        config.write_text(text)
        done = elimtool("trace", "a", "--config", config)
        assert done.code == 2
        assert said in done.err
        assert "config.yaml" in done.err
    config.write_text("dtype: float99\n")  # overridden: the value at fault is the flag's
    assert "config.yaml" not in elimtool("trace", "a", "--config", config, "--dtype", "float98").err
    assert elimtool("trace", "a", "--config", tmp_path / "none.yaml").code == 2


def test_used_directory_is_kept(elimtool: Command, tiny_model: Path, tmp_path: Path) -> None:
    assert elimtool("trace", "first", "-q", "-o", tmp_path / "run").code == 0
    before = (tmp_path / "run" / "run.json").read_bytes()
    done = elimtool("trace", "second", "-o", tmp_path / "run")
    assert done.code == 2
    assert "--overwrite" in done.err
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert elimtool("trace", "second", "-q", "--overwrite", "-o", tmp_path / "run").code == 0
    assert package.open_run(tmp_path / "run").prompts["text"].tolist() == ["second"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    assert elimtool("trace", "a", "--overwrite", "-o", other).code == 2
    assert (other / "thesis.tex").exists()
    assert elimtool("trace", "a", "-q", "-o", tmp_path / "runs" / "new" / "run").code == 0
    assert package.open_run(tmp_path / "runs" / "new" / "run").prompts["text"].tolist() == ["a"]
    done = elimtool("trace", "a", "-o", other / "thesis.tex" / "run")
    assert done.code == 2 and "Not a directory" in done.err


def test_weights_that_are_not_numbers(elimtool: Command, llama_directory: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(llama_directory, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    done = elimtool("trace", "a", "-m", broken, "-o", tmp_path / "run")
    assert done.code == 2
    assert "layers.2.mlp" in done.err and "NaN" in done.err
    assert not (tmp_path / "run").exists()


def test_what_to_try_next_is_what_was_typed_and_more(
    elimtool: Command, tiny_model: Path, tmp_path: Path
) -> None:
    def said(*words: Any) -> str:
        # a long command is broken after a backslash, as a shell takes it
        return " ".join(elimtool("trace", PROMPT, "-t", "of", *words).out.replace("\\\n", " ").split())

    out = tmp_path / "a run"
    told = said("--samplers", "hf", "-o", out)
    assert f"elimtool trace '{PROMPT}' -t of --samplers hf --confirm" in told
    assert f"elimtool attribute '{PROMPT}' -t of --samplers" not in told
    assert f"elimtool attribute '{PROMPT}' -t of" in told
    assert f"elimtool report '{out}'" in told and "--lens ridge" not in told
    told = said("-v")  # a first screen has less room
    assert f"elimtool lens fit -m {tiny_model}" in told and "--lens ridge" not in told
    told = said("--lens", "raw")
    assert f"elimtool trace '{PROMPT}' -t of --lens ridge" in told and "elimtool report" not in told


def test_verbose_shows_more_and_is_refused_where_nothing_is_shown(
    elimtool: Command, tiny_model: Path, tmp_path: Path
) -> None:
    brief, full = (elimtool("trace", PROMPT, "-t", "of", *more).out for more in ((), ("-v",)))
    assert "off: " in full and "Side by side" in full and "off: " not in brief
    for more in (("--json",), ("-q", "-o", tmp_path / "run")):
        assert elimtool("trace", PROMPT, "-v", *more).code == 2


def test_what_the_model_would_write_is_told_whatever_tables_are_kept(
    elimtool: Command, tiny_model: Path
) -> None:
    assert "The model would write next" in elimtool("trace", PROMPT, "--tables", "lens").out


def test_settings_that_the_model_ships_with_are_said(
    elimtool: Command, llama_directory: Path, tmp_path: Path
) -> None:
    model = tmp_path / "shipping"
    shutil.copytree(llama_directory, model)
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 7}
    (model / "generation_config.json").write_text(json.dumps(settings))
    asked = ("trace", PROMPT, "-m", model, "-v", "--samplers")
    done = elimtool(*asked, "hf")
    assert "temperature 0.6, top_k 20 from the model's generation_config.json" in " ".join(done.out.split())
    assert "hf does not apply what the model ships with: top_p = 7" in done.err
    for more in (("hf", "--no-model-sampling"), ("hf:temperature=0.9,top_k=10",)):
        assert "generation_config" not in elimtool(*asked, *more).out


def test_a_target_with_and_without_its_space_is_followed_twice(
    elimtool: Command, llama_directory: Path
) -> None:
    asked = ("trace", "The capital of France is", "-t", "Paris", "-t", " Paris", "-m", llama_directory)
    tables = json.loads(elimtool(*asked, "--json").out)["tables"]
    assert tables["prompts"][0]["targets"] == ["Paris", " Paris"]
    assert [row["target"] for row in tables["verdicts"]] == ["Paris", " Paris"]


def test_what_is_said_of_two_targets_of_one_token_is_said_once(
    elimtool: Command, llama_directory: Path
) -> None:
    chains = ("--samplers", "hf", "--samplers", "top_k=3", "--samplers", "hf")
    asked = ("trace", PROMPT, "-m", llama_directory, "-t", "Reykjavik", "-t", " Reykjavik", *chains)
    text = " ".join(elimtool(*asked).out.split())
    for note in (r"only the first token '[^']+' of", "first token as", "hf: top_k 50"):
        assert len(re.findall(note, text)) == 1, note
    run = json.loads(elimtool(*asked, "--json").out)["run"]
    assert [chain["name"] for chain in run["chains"]] == ["hf", "top_k=3"]


def test_paths_are_written_and_judged_by_kind(
    elimtool: Command, llama_directory: Path, tmp_path: Path
) -> None:
    asked = ("trace", PROMPT, "-m", llama_directory, "--tables", "paths", "--samplers", "top_k=2")
    kinds = ("--generate", "2", "--paths", "greedy, beam:2", "--continue-with", " the")
    done = elimtool(*asked, *kinds, "-o", tmp_path / "run")
    assert done.code == 0 and "Ways that the text may go on" in done.out
    run = package.open_run(tmp_path / "run")
    assert run.table("paths")["path"].tolist() == ["greedy", "beam:2", "beam:2", "given"]
    (tmp_path / "checks.yaml").write_text(
        "version: 1\nchecks:\n"
        "  - {id: near, metric: paths.regret_logprob, rows: {path: 'beam:2', place: 2}, min: 0.0}\n"
        "  - {id: long, metric: paths.n_tokens, rows: {path: greedy}, min: 3}\n"
    )
    report = elimtool("check", tmp_path / "checks.yaml", "--run", tmp_path / "run")
    assert report.code == 10 and "expected at least 3" in report.out, report.out + report.err
    assert "1 passed, 1 failed" in report.out
    assert "no kind of path" in elimtool(*asked, "--generate", "2", "--paths", "greedy,").err


def test_a_text_that_is_repeated_keeps_its_line_breaks(elimtool: Command, tmp_path: Path) -> None:
    asked = ("trace", "of\n\n", "--tables", "resonance", "--repeat-control", "2", "--samplers", "hf")
    done = elimtool(*asked, "--repeat", "3", "-o", tmp_path / "run")
    assert done.code == 0 and "dropped" not in done.err
    run = package.open_run(tmp_path / "run")
    assert run.prompts["text"].tolist() == ["of\n\n"] and run.table("resonance")["copies"].tolist() == [1, 2]
    assert "2 copies or more" in elimtool(*asked[:2], "--repeat", "1").err

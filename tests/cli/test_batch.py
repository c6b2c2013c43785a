"""``elimtool batch`` and ``elimtool run`` as a user types them: messages, exit codes, interruptions."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import elimtool as package
from tests.cli.conftest import Command
from tests.tasks.batch.conftest import write_prompts

QUICK = ["--tables", "lens", "--samplers", "hf", "--lens", "raw"]
GOOD = b'{"prompt": "fine"}\n'


@pytest.fixture(autouse=True)
def tiny_model(elimtool: Command, llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``elimtool``, which takes the variable away."""
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))


REFUSED = {
    "missing": ("none.jsonl", None, 2, "cannot read none.jsonl"),
    "empty": ("a.jsonl", b"", 2, "a.jsonl is empty"),
    "blank lines": ("a.jsonl", b"\n\n", 2, "a.jsonl has no record"),
    "header alone": ("a.csv", b"prompt\n", 2, "a.csv has no record"),
    "utf-16": ("a.jsonl", '{"prompt": "a"}'.encode("utf-16"), 2, "a.jsonl is UTF-16"),
    "binary": ("a.txt", b"\x7fELF\0\0\0\0", 2, "a.txt is"),
    "truncated gzip": ("a.jsonl.gz", gzip.compress(GOOD)[:-9], 2, "damaged or ends early"),
    "truncated zstd": ("a.zst", pa.compress(GOOD * 999, codec="zstd", asbytes=True)[:-9], 2, "--format"),
    "csv without the column": ("a.csv", b"text\nhello\n", 2, "no column 'prompt' or 'messages'"),
    "unknown column": ("a.tsv", b"prompt\ttaget\na\tb\n", 2, "did you mean 'target'"),
    "column twice": ("a.csv", b"prompt,id,id\na,1,2\n", 2, "comes twice"),
    "one json list": ("a.json", b'[{"prompt": "a"}]', 2, "one JSON list"),
    "no parquet": ("a.parquet", GOOD, 2, "is not a Parquet file"),
    "damaged parquet": ("a.parquet", b"PAR1" + GOOD, 2, "cannot read on"),
    "duplicate ids": ("a.jsonl", GOOD * 2, 2, "lines 1 and 2 have the same id"),
    "unknown suffix": ("a.dat", b"hello\n", 2, "cannot tell the format"),
}

ROWS = {
    "no json": (b"{", "not valid JSON"),
    "no object": (b"[1]", "is JSON, but not an object"),
    "null target": (b'{"prompt": "a", "target": null}', "'target' is null"),
    "null prompt": (b'{"prompt": null}', "'prompt' is null"),
    "unknown key": (b'{"prompt": "a", "span": {}}', "did you mean 'spans'"),
    "mixed encodings": (b'{"prompt": "na\xefve"}', "not UTF-8: byte 0xef"),
    "10 MB line": (b'{"prompt": "' + b"x" * 10_000_000 + b'"}', "longer than 8 MiB"),
    "too long": (b'{"prompt": "' + b"x " * 200 + b'"}', "context is 128"),
    "empty prompt": (b'{"prompt": ""}', "the prompt is empty"),
    "span outside": (
        b'{"prompt": "a", "id": "o", "spans": {"s": [5, 9]}}',
        "outside the prompt's 1 characters",
    ),
    "foil alike": (b'{"prompt": "t", "targets": ["b"], "foils": [" b"]}', "both a target and a foil"),
    "span not there": (b'{"prompt": "a", "spans": {"s": "b"}}', "is not in the prompt"),
    "target and foil": (b'{"prompt": "a", "targets": ["b"], "foils": ["b"]}', "both a target and a foil"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_refused(
    case: str, elimtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content, code, message = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = elimtool("batch", name, "-o", "run", *QUICK)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert name in done.err or name.rsplit(".", 1)[0] in done.err
    assert done.err.startswith("error: ")


def test_records_that_become_rows(elimtool: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b"\n".join(line for line, _ in ROWS.values()))
    done = elimtool("batch", path, "-o", tmp_path / "run", *QUICK)
    assert done.code == 6
    rows = package.open_run(tmp_path / "run").prompts
    assert rows["status"].tolist() == ["ok"] + ["error"] * len(ROWS)
    for (case, (_, message)), found in zip(ROWS.items(), rows["error_message"][1:], strict=True):
        assert message in found, case
    lines = [str(found).split(": ", 1)[0] for found in rows["error_message"][1:]]
    assert lines == [f"{path}:{line}" for line in range(2, len(ROWS) + 2)]
    assert f"{len(ROWS)} failed" in done.err


def test_byte_order_mark_and_carriage_returns_are_no_trouble(elimtool: Command, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert elimtool("batch", tmp_path / "a.txt", "-o", tmp_path / "run", *QUICK).code == 0
    assert package.open_run(tmp_path / "run").prompts["text"].tolist() == ["one", "two"]


def test_a_run_prints_its_directory_its_pace_and_its_size(elimtool: Command, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 9)
    done = elimtool("batch", prompts, "-o", tmp_path / "run", *QUICK, "--shard-size", 4)
    assert (done.code, done.out) == (0, f"{tmp_path / 'run'}\n")
    assert "9 of 9 prompts" in done.err and "prompts/s" in done.err and "0 errors" in done.err
    assert "of token slots were padding" in done.err
    assert "kB a prompt on disk: " in done.err
    found = elimtool("run", "status", tmp_path / "run")
    assert f"{tmp_path / 'run'}: finished\n9 of 9 prompts, 0 of them errors\n" in found.out
    again = elimtool("batch", prompts, "-o", tmp_path / "run", *QUICK, "--shard-size", 4, "--json")
    assert again.code == 0
    assert json.loads(again.out)["prompts"] == 9
    assert "nothing was left to do" in again.err
    other = elimtool("batch", prompts, "-o", tmp_path / "run", *QUICK, "--shard-size", 4, "--position", "all")
    assert other.code == 2
    assert 'was begun with other position ("last", now "all")' in other.err


def test_standard_input_dedupe_and_slices(elimtool: Command, tmp_path: Path) -> None:
    lines = b"".join(b'{"prompt": "number %d"}\n' % (number // 2) for number in range(8))
    for index in range(2):
        arguments = ["-o", tmp_path / f"part{index}", "--shard", f"{index}/2", "--shard-size", 2]
        done = elimtool("batch", "-", "--dedupe", *arguments, *QUICK, stdin=lines)
        assert done.code == 0
    merged = elimtool("run", "merge", tmp_path / "part0", tmp_path / "part1", "-o", tmp_path / "run")
    assert (merged.code, merged.out) == (0, f"{tmp_path / 'run'}\n")
    assert package.open_run(tmp_path / "run").prompts["text"].tolist() == [f"number {n}" for n in range(4)]


def test_a_slice_without_a_shard_is_an_empty_run(elimtool: Command, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 2)
    for index in range(2):
        done = elimtool("batch", prompts, "-o", tmp_path / str(index), "--shard", f"{index}/2", *QUICK)
        assert (done.code, done.out) == (0, f"{tmp_path / str(index)}\n")
    assert "no shard of the file belongs to this --shard" in done.err
    merged = elimtool("run", "merge", tmp_path / "0", tmp_path / "1", "-o", tmp_path / "run")
    assert merged.code == 0
    assert len(package.open_run(tmp_path / "run").prompts) == 2


def test_parquet_with_a_wrong_type_is_refused(elimtool: Command, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [1]}), tmp_path / "a.parquet")
    done = elimtool("batch", tmp_path / "a.parquet", "-o", tmp_path / "run")
    assert done.code == 2
    assert "column 'prompt' is int64, not string" in done.err


def test_options_are_told_apart_before_a_model_is_loaded(elimtool: Command, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 2)
    for arguments, message in (
        (["--tables", "lenz"], "did you mean 'lens'"),
        (["--max-errors", "x"], "such as 5%"),
        (["--shard", "2/2"], "i from 0 to n - 1"),
        (["--engine", "spark"], "valid: local, ray"),
        (["--samplers", "llama"], "llama.cpp"),
        (["--position", "first"], "--position must be 'last', 'all', an index from 0, a list such as"),
    ):
        done = elimtool("batch", prompts, "-o", tmp_path / "run", "-m", "nowhere", *arguments)
        assert done.code == 2
        assert message in done.err
    assert not (tmp_path / "run").exists()


def test_status_of_no_run(elimtool: Command, tmp_path: Path) -> None:
    done = elimtool("run", "status", tmp_path)
    assert done.code == 2
    assert "give the directory" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_finished(number: int, elimtool: Command, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 400)
    arguments = ["batch", str(prompts), "-o", str(tmp_path / "run"), *QUICK, "--shard-size", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "elimtool", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ELIMTOOL_CACHE": str(tmp_path / "cache")},
    )
    marker = tmp_path / "run" / ".batch" / "shard-00001.json"
    while not marker.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to go on" in said
    assert said.rstrip().endswith("interrupted")
    found = json.loads(elimtool("run", "status", tmp_path / "run", "--json").out)
    assert found["state"] == "interrupted"
    assert 8 <= found["prompts"] < 400
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_interventions_are_done_to_every_prompt(elimtool: Command, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 3)
    asked = [
        "batch",
        prompts,
        "-o",
        tmp_path / "run",
        "--tables",
        "effects",
        "--samplers",
        "hf",
        "--lens",
        "raw",
    ]
    assert "does nothing" in elimtool(*asked, "--ablate-with", "zero").err
    assert "--confirm needs --heads" in elimtool(*asked, "--confirm", "--ablate", "1.2").err
    done = elimtool(*asked, "--ablate", "1.2", "--ablate-with", "zero")
    assert done.code == 0
    run = package.open_run(tmp_path / "run")
    assert set(run.tables) == {"prompts", "effects"}
    assert run.table("effects")["intervention"].unique().tolist() == ["ablate 1.2 zero"]
    again = elimtool(*asked, "--ablate", "1.3", "--ablate-with", "zero")
    assert again.code == 2 and "interventions" in again.err


def test_a_batch_ends_with_what_it_found(elimtool: Command, tmp_path: Path) -> None:
    records = [{"prompt": "The capital of", "target": "is", "id": f"p{index}"} for index in range(3)]
    lines = [*map(json.dumps, records), *['{"prompt": ""}'] * 4, '{"prompt": "one two", "target": "of"}']
    file, out = tmp_path / "a.jsonl", tmp_path / "a run"
    file.write_text("\n".join(lines))
    options = ["-o", out, "--tables", "verdicts", "--no-heads", "--lens", "raw"]
    done = elimtool("batch", file, *options)
    assert (done.code, done.out) == (6, f"{out}\n")
    told = " ".join(done.err.split())
    verdicts = package.open_run(out).table("verdicts")
    for outcome, count in verdicts["outcome"].value_counts().items():
        assert f"{outcome.replace('_', ' ')} {count} (" in told
    assert "4 errors, the first 3:" in told and told.count("the prompt is empty") == 3
    worst = verdicts.sort_values("final_rank", ascending=False, kind="stable").iloc[0]
    ranked = done.err[done.err.index("worst prompts, by final rank of the first token followed:") :]
    assert ranked.splitlines()[1].startswith(f"  {worst['prompt_id']} ")
    assert f"rank {worst['final_rank']}," in " ".join(ranked.split()[:30])
    assert done.err.endswith(f"next: elimtool report '{out}'\n")
    again = elimtool("batch", file, *options, "--json")
    found = json.loads(again.out)
    assert found["outcomes"] == verdicts["outcome"].value_counts().to_dict()
    assert [row["prompt_id"] for row in found["first_errors"]] == ["<line 4>", "<line 5>", "<line 6>"]
    assert found["worst"][0]["prompt_id"] == worst["prompt_id"] and found["next"].startswith(
        "elimtool report"
    )


def test_run_show_prints_rows(elimtool: Command, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert elimtool("trace", "The capital of", "-t", "is", "-t", "of", "-q", "-o", out).code == 0
    assert "verdicts" in elimtool("run", "show", out).out
    lens = package.open_run(out).table("lens")
    some = lens[(lens["layer"] > 1) & (lens["target"] == lens["target"].iloc[-1])]
    chosen = (
        "--where",
        "layer>1",
        "--where",
        f"target='{lens['target'].iloc[-1]}'",
        "--columns",
        "layer,rank",
    )
    lines = elimtool("run", "show", out, "lens", *chosen).out.splitlines()
    assert lines[0].split() == ["layer", "rank"]
    assert [line.split() for line in lines[1:-1]] == some[["layer", "rank"]].astype(str).values.tolist()
    assert lines[-1] == f"{len(some)} rows of {len(lens)} in the table"
    assert "1 of 2 rows of" in elimtool("run", "show", out, "lens", *chosen, "--limit", "1").out
    found = json.loads(elimtool("run", "show", out, "lens", *chosen, "--json").out)
    assert found["n_selected"] == len(some) and list(found["rows"][0]) == ["layer", "rank"]
    refused = elimtool("run", "show", out, "lens", "--where", "layr=1")
    assert refused.code == 2 and "did you mean 'layer'" in refused.err
    assert elimtool("run", "show", out, "--where", "layer=1").code == 2
    assert "--limit must be" in elimtool("run", "show", out, "lens", "--limit", "-1").err


def test_a_suite_is_expanded_and_its_doubts_are_said(elimtool: Command, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "version: 1\n"
        "templates:\n"
        "- {id: a, template: 'So {who} said', neutral: So they said, targets: [' a'], answers: [b]}\n"
        "- {id: b, template: 'No slot said'}\n"
        "groups: {slot: who, old: [Ann], young: [Bob]}\n",
        encoding="utf-8",
    )
    done = elimtool("batch", str(suite), "-o", str(tmp_path / "run"), *QUICK)
    assert done.code == 0, done.err
    assert "slot-missing (left out): 'b': {who}" in done.err
    rows = package.open_run(tmp_path / "run").arrow("prompts").to_pylist()
    names = ("prompt_id", "text", "group", "template", "tuple", "filler", "slots", "answers", "role")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("a/Ann|Bob/old", "So Ann said", "old", "a", "a/Ann|Bob", "Ann|Bob", None, '[["b"]]', None),
        ("a/Ann|Bob/young", "So Bob said", "young", "a", "a/Ann|Bob", "Ann|Bob", None, '[["b"]]', None),
        ("a/neutral", "So they said", None, "a", None, None, None, '[["b"]]', "neutral"),
    ]
    assert {span["span"] for row in rows[:2] for span in row["spans"]} >= {"group"}
    again = elimtool("batch", str(suite), "-o", str(tmp_path / "run"), *QUICK)
    assert again.code == 0 and "was finished before" in again.err
    suite.write_text(suite.read_text(encoding="utf-8").replace("'So {who} said'", "'{who'"), encoding="utf-8")
    refused = elimtool("batch", str(suite), "-o", str(tmp_path / "other"), *QUICK)
    assert refused.code == 5 and "no template or pair can be used" in refused.err

"""``elimtool export`` on runs of a small model: files that ``datasets`` reads, tokens as they were scored."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

import pytest

import elimtool as library
from elimtool.prompts.design import Design
from tests.cli.conftest import Command

COUNTRIES = ("France", "Spain", "Germany", "France and Spain", "Berlin", "Madrid")


def prompts(**said: Any) -> list[library.Prompt]:
    return [
        library.Prompt(
            text=f"The capital of {name} is",
            targets=("Paris",),
            foils=("Madrid",),
            id=f"p{number}",
            category="capitals",
            design=Design(template=f"t{number % 3}"),
            **said,
        )
        for number, name in enumerate(COUNTRIES)
    ]


def saved(model: Any, where: Path, asked: Sequence[library.Prompt], **options: Any) -> Path:
    run = library.trace(model, asked, options=library.TraceOptions(**{"samplers": ("hf",), **options}))
    run.save(where)
    return where


@pytest.fixture(scope="module")
def run(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(llama, tmp_path_factory.mktemp("export") / "run", prompts())


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("format", "columns"),
    [
        ("sft", ["prompt", "completion"]),
        ("dpo", ["prompt", "chosen", "rejected"]),
        ("kto", ["prompt", "completion", "label"]),
    ],
)
def test_each_format_is_read_by_datasets(
    elimtool: Command, run: Path, tmp_path: Path, format: str, columns: list[str]
) -> None:
    from datasets import load_dataset

    out = tmp_path / "train.jsonl"
    done = elimtool("export", run, "--format", format, "-o", out, "--hold-out", 0.3)
    assert done.code == 0 and done.out == f"{out}\n", done.err
    found = load_dataset("json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    about = ["elim_id", "stage", "lost_layer", "cut_chain", "cut_stage", "severity", "outcome", "category"]
    assert found.column_names == [*columns, *about, "template", "run"]
    assert {str(found.features[name].dtype) for name in columns} <= {"string", "large_string", "bool"}
    beside = json.loads((tmp_path / "train.jsonl.json").read_text())
    assert len(found) == beside["n_rows"] and beside["n_eliminated"] == 6
    (held,) = beside["held_out_templates"]
    assert set(found["template"]) == {"t0", "t1", "t2"} - {held}
    assert f"Exported {beside['n_exported']} of 6 eliminated answers" in done.err
    assert "2 held out (1 template)" in done.err
    severity = list(found["severity"])
    assert severity == sorted(severity, reverse=True)


def test_prompt_and_completion_are_the_tokens_that_were_scored(
    elimtool: Command, run: Path, llama: Any, tmp_path: Path
) -> None:
    out = tmp_path / "train.jsonl"
    assert elimtool("export", run, "--format", "dpo", "-o", out, "--hold-out", 0).code == 0
    stored = library.open_run(run)
    known = {row["prompt_id"]: row for row in stored.arrow("prompts").to_pylist()}
    scored = {row["prompt_id"]: row["token_id"] for row in stored.arrow("survival").to_pylist()}
    top = {row["prompt_id"]: row for row in stored.arrow("top_tokens").to_pylist() if row["place"] == 1}
    rows = rows_of(out)
    assert len(rows) == 6
    for row in rows:
        name = row["elim_id"].partition("/")[0]
        ids = known[name]["token_ids"]
        whole = llama.tokenizer.backend(row["prompt"] + row["chosen"])["input_ids"]
        assert whole[: len(ids)] == ids and whole[len(ids)] == scored[name]
        assert len(whole) > len(ids) + 1, "the answer has several tokens here, so that the foil is rejected"
        assert row["rejected"] == " Madrid"
        verdict = stored.table("survival").query("prompt_id == @name and target == 'Paris'").iloc[0]
        gap = top[name]["logprob"] - log(verdict["prob"])
        assert row["severity"] == pytest.approx(gap)


def test_a_greedy_walk_is_rejected_before_a_foil(elimtool: Command, llama: Any, tmp_path: Path) -> None:
    where = saved(llama, tmp_path / "run", prompts(), generate=8, samplers=("top_k=1",))
    out = tmp_path / "train.jsonl"
    assert elimtool("export", where, "--format", "dpo", "-o", out, "--hold-out", 0).code == 0
    walk = library.open_run(where).table("walk")
    told = 0
    for row in rows_of(out):
        name = row["elim_id"].partition("/")[0]
        text = "".join(walk[walk["prompt_id"] == name]["token"])
        if row["rejected"] != " Madrid":
            told += 1
            assert text.startswith(row["rejected"].removeprefix(" "))  # the space was appended, not written
            n_chosen, n_rejected = (
                len(llama.tokenizer.continuation(row["prompt"], one, special=True))
                for one in (row["chosen"], row["rejected"])
            )
            assert n_rejected <= n_chosen
    assert told


def test_files_are_the_same_each_time_and_not_replaced_unasked(
    elimtool: Command, run: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path in (out, other):
        assert elimtool("export", run, "--format", "kto", "-o", path).code == 0
    assert out.read_bytes() == other.read_bytes()
    assert (tmp_path / "a.jsonl.json").read_bytes() == (tmp_path / "b.jsonl.json").read_bytes()
    again = elimtool("export", run, "--format", "sft", "-o", out)
    assert again.code == 2 and "exists" in again.err and out.read_bytes() == other.read_bytes()
    out.unlink()
    beside = elimtool("export", run, "--format", "sft", "-o", out)
    assert beside.code == 2 and "a.jsonl.json exists" in beside.err and not out.exists()
    assert elimtool("export", run, "--format", "sft", "-o", out, "--overwrite", "--json").code == 0


def test_first_words_need_a_word_of_the_user(elimtool: Command, llama: Any, tmp_path: Path) -> None:
    asked = [
        library.Prompt(
            text="The Danube flows into the",
            targets=("Black",),
            foils=("Red",),
            id=name,
            design=Design(answers=((answer,),)),
        )
        for name, answer in (("part", "Black Sea"), ("whole", "black"))
    ]
    where = saved(llama, tmp_path / "run", asked)
    common = ("export", where, "--format", "sft", "--hold-out", 0)
    done = elimtool(*common, "-o", tmp_path / "a.jsonl")
    assert "1 first words of longer answers" in done.err
    assert [row["elim_id"] for row in rows_of(tmp_path / "a.jsonl")] == ["whole/Black"]
    done = elimtool(*common, "-o", tmp_path / "b.jsonl", "--allow-partial")
    assert "1 duplicate" in done.err and len(rows_of(tmp_path / "b.jsonl")) == 1


def test_chats_are_lists_of_messages_that_the_template_renders_as_it_was_measured(
    elimtool: Command, llama: Any, tmp_path: Path
) -> None:
    said = (library.Message("system", "Be short."), library.Message("user", "Where is the Louvre?"))
    begun = library.Message("assistant", "It is in")
    asked = [
        library.Prompt(messages=said, targets=("Paris",), foils=("Madrid",), id="asked"),
        library.Prompt(messages=(*said, begun), targets=("Paris",), foils=("Madrid",), id="begun"),
    ]
    where, out = saved(llama, tmp_path / "run", asked), tmp_path / "train.jsonl"
    assert elimtool("export", where, "--format", "dpo", "-o", out, "--hold-out", 0).code == 0
    rows = {row["elim_id"]: row for row in rows_of(out)}
    assert len(rows) == 2
    texts = dict(
        zip(*(library.open_run(where).table("prompts")[key] for key in ("prompt_id", "text")), strict=True)
    )
    for name, answer in (("asked", "Paris"), ("begun", "It is in Paris")):
        row = rows[f"{name}/Paris"]
        assert row["prompt"] == [{"role": one.role, "content": one.content} for one in said]
        assert row["chosen"] == [{"role": "assistant", "content": answer}]
        assert row["rejected"] == [{"role": "assistant", "content": answer.replace("Paris", "Madrid")}]
        rendered = llama.tokenizer.backend.apply_chat_template(row["prompt"] + row["chosen"], tokenize=False)
        assert rendered.startswith(texts[name]) and rendered[len(texts[name]) :].lstrip().startswith("Paris")


def test_what_cannot_be_exported_is_said(elimtool: Command, llama: Any, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    thin = saved(llama, tmp_path / "thin", prompts(), tables=("survival",))
    found = elimtool("export", thin, "--format", "sft", "-o", out)
    assert found.code == 2 and "no table 'verdicts'" in found.err
    nothing = elimtool("export", run, "--format", "sft", "-o", out, "--outcomes", "sampler_eliminated")
    assert nothing.code == 5 and "nothing is left to export" in nothing.err and "outcomes" in nothing.err
    untold = saved(llama, tmp_path / "untold", ["The capital of France is"])
    assert elimtool("export", untold, "--format", "sft", "-o", out).code == 5
    wrong = elimtool("export", run, "--format", "sfd", "-o", out)
    assert wrong.code == 2 and "--format 'sfd' is not valid" in wrong.err and "sft" in wrong.err
    assert not out.exists() and not list(tmp_path.glob("x*"))


def test_another_tokenizer_is_refused(
    elimtool: Command, run: Path, llama_directory: Path, tmp_path: Path
) -> None:
    from shutil import copytree

    other = copytree(llama_directory, tmp_path / "other")
    path = other / "tokenizer.json"
    path.write_text(path.read_text().replace("<|end|>", "<|fin|>"))
    done = elimtool("export", run, "--format", "sft", "-o", tmp_path / "x.jsonl", "-m", other)
    assert done.code == 2 and "another tokenizer" in done.err


def test_a_run_is_read_and_audited_without_torch(run: Path, tmp_path: Path) -> None:
    code = f"""
import sys, elimtool
print(sorted({{'torch', 'transformers', 'pandas'}} & set(sys.modules)))
for call in (
    lambda: elimtool.audit({str(run)!r}),
    lambda: elimtool.sweep({str(run)!r}),
    lambda: elimtool.coverage({str(run)!r}),
    lambda: elimtool.export({str(run)!r}, {str(tmp_path / "x")!r},
                            elimtool.ExportOptions("sft", ("sampler_eliminated",))),
):
    try:
        print(sorted(call().tables))
    except elimtool.ElimError as error:
        print(error.message)
print(sorted({{'torch', 'transformers'}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said[0] == said[-1] == "[]", done.stderr
    assert "no two groups" in said[1] and "0 variants" in said[2] and "calibration" in said[3]
    assert "nothing is left to export" in said[4] and "of other outcomes" in said[4]


def test_the_library_exports_what_the_command_does(elimtool: Command, run: Path, tmp_path: Path) -> None:
    made, out = tmp_path / "made.jsonl", tmp_path / "out.jsonl"
    done = library.export(library.open_run(run), made, library.ExportOptions("kto", seed=3))
    assert elimtool("export", run, "--format", "kto", "--seed", 3, "-o", out).code == 0
    assert made.read_bytes() == out.read_bytes() and rows_of(out) == list(done.rows)

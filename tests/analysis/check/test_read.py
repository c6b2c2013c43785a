"""Check files: what is read, and what a bad one is told, with file, line, key and nearest word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elimtool.analysis.check.metrics import SHORT, columns
from elimtool.analysis.check.read import json_schema, read_checks
from elimtool.errors import ElimError

CONTRACT = """\
version: 1
model: {name: smollm2, dtype: float32}
prompts: capitals.jsonl
samplers: [llama.cpp, hf]
baseline: baselines/capitals.json
defaults: {atol: 1.0e-4, rtol: 1.0e-4}
checks:
  - {id: paris-top1, prompt: capital-fr, metric: final_rank, target: " Paris", max: 1}
  - {id: survives, select: {tag: capital}, metric: survives, chain: llama.cpp, mostly: 0.95}
  - {id: system-kept, select: {tag: chat}, metric: retention, span: system, layers: 10-20, agg: mean, min: 0.05}
  - {id: margin-drift, select: {tag: capital}, metric: final_logprob, baseline: true, atol: 0.05, direction: decrease}
"""  # noqa: E501

BAD = [
    # what is changed, into what, line, part of the message, part of the hint
    ("version: 1\n", "", 1, "the file has no 'version'", "`schema` of elimtool check"),
    ("version: 1", "version: 2", 1, "version: 2 is not valid", "valid: 1"),
    ("samplers:", "sampler:", 4, "unknown key 'sampler'", "did you mean 'samplers'?"),
    ("dtype: float32", "dtype: float23", 2, "model.dtype: 'float23'", "did you mean 'float32'?"),
    ("dtype: float32", "dtyp: float32", 2, "unknown key 'dtyp' in model", "did you mean 'dtype'?"),
    ("rtol: 1.0e-4", "rtoll: 1.0e-4", 6, "unknown key 'rtoll' in defaults", "did you mean 'rtol'?"),
    ("tag: capital}, metric: survives", "tga: capital}, metric: survives", 9, "'tga'", "did you mean 'tag'?"),
    ("metric: final_rank", "metric: final_rnk", 8, "metric 'final_rnk'", "did you mean 'final_rank'?"),
    ("metric: retention", "metric: atention.mass", 10, "no table 'atention'", "did you mean 'attention'?"),
    ("metric: retention", "metric: attention.mas", 10, "no such column", "did you mean 'mass'?"),
    ("max: 1}", "mx: 1}", 8, "unknown key 'mx'", "did you mean 'max'?"),
    ("max: 1}", "max: one}", 8, "must be a valid number, got 'one'", ""),
    ("max: 1}", "max: 1, min: 2}", 8, "min 2 is above max 1", "swap them"),
    ('" Paris"', "4", 8, "must be a text, got 4", "put it in quotes"),
    ("mostly: 0.95", "mostly: 95", 9, "must be less than or equal to 1, got 95", ""),
    ("id: survives", "id: paris-top1", 9, "'paris-top1' is taken by line 8", "id of its own"),
    ("metric: survives, ", "", 9, "check 'survives' has no 'metric'", ""),
    ("layers: 10-20", "layers: 20-10", 10, "runs backwards", "10-20"),
    ("layers: 10-20", "layers: lats", 10, "'lats' is not a layer", "10-20"),
    ("agg: mean", "agg: maen", 10, "'maen' is not an aggregation", "did you mean 'mean'?"),
    ("min: 0.05}", "min: .nan}", 10, "must be a finite number, got nan", ""),
    ("span: system, ", "span: system, chain: hf, ", 10, "retention has no chain", "span, layers, position"),
    (", min: 0.05}", "}", 10, "expects nothing", "give min, max or baseline"),
    ("direction: decrease", "direction: decrese", 11, "'decrese' is not valid", "did you mean 'decrease'?"),
    ("baseline: true, ", "min: -9, ", 11, "'atol' is for comparison", "baseline: true"),
    ("baseline: baselines/capitals.json\n", "", 10, "names no baseline", "baseline: FILE"),
    (
        "prompt: capital-fr",
        "prompt: capital-fr, select: {tag: x}",
        8,
        "both choose prompts",
        "one of the two",
    ),
    ("mostly: 0.95}", "mostly: 0.95, max: 3}", 9, "survives is not a number", "is:"),
    ("mostly: 0.95}", "mostly: 0.95, mostly: 1}", 9, "'mostly' is given twice", "one of the two"),
    ("prompts: capitals.jsonl", "prompts: [", 5, "not valid YAML", ""),
]


def test_the_contracts_example_is_read(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text(CONTRACT)
    found = read_checks(path)
    assert [check.id for check in found.file.checks] == [
        "paris-top1",
        "survives",
        "system-kept",
        "margin-drift",
    ]
    assert found.file.checks[2].layers == tuple(range(10, 21))
    assert [found.line(check) for check in found.file.checks] == [8, 9, 10, 11]
    assert found.baseline == tmp_path / "baselines" / "capitals.json"


@pytest.mark.parametrize(("old", "new", "line", "message", "hint"), BAD)
def test_a_bad_file_is_told_where_and_what(
    tmp_path: Path, old: str, new: str, line: int, message: str, hint: str
) -> None:
    assert old in CONTRACT
    path = tmp_path / "checks.yaml"
    path.write_text(CONTRACT.replace(old, new, 1))
    with pytest.raises(ElimError) as caught:
        read_checks(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", ["", "- 1\n", "just text\n"])
def test_a_file_that_is_no_mapping(tmp_path: Path, content: str) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text(content)
    with pytest.raises(ElimError, match="a check file is a mapping"):
        read_checks(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ElimError, match="cannot read"):
        read_checks(tmp_path / "none.yaml")


def test_aliases_keep_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text(
        "version: 1\nchecks:\n  - &one {id: a, metric: entropy, max: 5}\n  - {<<: *one, id: b, mx: 3}\n"
    )
    with pytest.raises(ElimError, match=r"checks\.yaml:4: unknown key 'mx'"):
        read_checks(path)


def test_every_number_of_every_table_is_a_metric() -> None:
    known = columns()
    for name in (
        "attention.mass",
        "survival.min_top_p",
        "components.dla",
        "mechanisms.n90",
        "prompts.n_tokens",
    ):
        assert name in known
    assert known["attention.mass"].selectors == ("span", "layer", "position")
    assert not set(SHORT) & set(known)


def test_the_schema_names_metrics_and_refuses_other_keys() -> None:
    schema = json_schema()
    check = schema["$defs"]["Check"]
    assert check["additionalProperties"] is False
    assert "final_rank" in check["properties"]["metric"]["enum"]
    assert "is" in check["properties"]
    assert json.loads(json.dumps(schema)) == schema

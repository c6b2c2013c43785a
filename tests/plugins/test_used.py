"""Tables of a user's own metric in checks, queries, comparisons and lists, with and without the metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.analysis.query.history import MetricQuery, follow
from elimtool.analysis.query.sql import select
from elimtool.errors import ElimError
from elimtool.files.plugins import ORIGINS
from elimtool.metrics import METRICS
from tests.plugins.parts import Lead

CHECKS = """version: 1
model: {name: tiny}
prompts: prompts.jsonl
samplers: [few=299]
checks:
  - {id: ahead, metric: lead.lead, layers: last, min: LEAST}
  - {id: first, metric: lead.lead, layers: [0], max: 100}
  - {id: kept, metric: survives, chain: few=299, is: true}
"""
PARTS = "tests.plugins.parts"


@pytest.fixture(scope="module")
def saved(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on disk with a plugin's table, which nobody knows any more."""
    path = tmp_path_factory.mktemp("plugin") / "run"
    options = elimtool.TraceOptions(
        tables=("lead", "sampling_targets", "top_tokens"), plugins=(Lead,), samplers=("hf",)
    )
    prompt = elimtool.Prompt(text="The capital of France is", id="france", targets=("x",))
    elimtool.trace(tiny, prompt, options=options).save(path)
    ORIGINS.pop(METRICS.pop("lead"))
    return path


def checks_in(folder: Path, least: float, text: str = CHECKS) -> Path:
    record = '{"id": "france", "prompt": "The capital of France is", "targets": ["x"]}'
    (folder / "prompts.jsonl").write_text(record + "\n")
    (folder / "c.yaml").write_text(text.replace("LEAST", str(least)))
    return folder / "c.yaml"


def test_a_check_judges_what_a_finished_run_carries(saved: Path, tmp_path: Path) -> None:
    text = CHECKS.replace("few=299", "hf")
    report = elimtool.run_checks(checks_in(tmp_path, 0, text), run=saved, only=["ahead", "first"])
    assert report.passed
    failed = elimtool.run_checks(checks_in(tmp_path, 1e6, text), run=saved, only=["ahead"])
    assert not failed.passed and "1e+06" in failed.results[0].bad[0].text.replace("1000000", "1e+06")


def test_a_wrong_column_of_it_lists_the_right_ones(saved: Path, tmp_path: Path) -> None:
    path = checks_in(tmp_path, 0, CHECKS.replace("lead.lead", "lead.leed"))
    with pytest.raises(ElimError, match="table 'lead' has no such column") as caught:
        elimtool.run_checks(path, run=saved)
    assert "did you mean 'lead'" in caught.value.hint
    with pytest.raises(ElimError, match="there is no table 'leed'"):
        elimtool.run_checks(checks_in(tmp_path, 0, CHECKS.replace("lead.lead", "leed.lead")), run=saved)


def test_a_query_and_a_history_read_it(saved: Path) -> None:
    runs = {"a": elimtool.open_run(saved)}
    rows, _ = select("SELECT count(*) AS n, min(lead) AS least FROM lead", runs)
    assert rows["n"].to_pylist() == [4] and rows["least"].to_pylist()[0] >= 0
    found = follow(runs, MetricQuery("lead.lead", layers="2"))
    assert found.unit == "nats" and len(found.rows) == 1


def test_a_check_measures_what_it_names(tiny: Any, tmp_path: Path) -> None:
    parts = [f"{PARTS}:Lead", f"{PARTS}:Few"]
    report = elimtool.run_checks(checks_in(tmp_path, 0), model=tiny, plugins=parts)
    assert report.passed, [one.text for result in report.results for one in result.bad]

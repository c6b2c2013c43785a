"""Stages, metrics and lenses of a user's own take part in a trace, and stay readable without him."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elimtool
from elimtool.report.html.page import page
from elimtool.run.schema import TABLES
from tests.plugins.parts import LEAD, Few, Lead
from tests.report.printed import printed

PROMPTS = ["The capital of France is", "A token of the text is eliminated"]
READ = """
import sys
import elimtool
run = elimtool.open_run(sys.argv[1])
print(len(run.table("lead")), run.definition("lead").purpose, run.definition("lead").columns[3].range)
assert not {"torch", "tests"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def run(tiny: Any) -> Any:
    """A trace with one of each kind, some by name."""
    plugins = (Lead, Few, "tests.plugins.parts:Clipped")
    tables = ("lens_layers", "lead", "lead_size", "sampling")
    options = elimtool.TraceOptions(plugins=plugins, lens="clipped", samplers=("few=7",), tables=tables)
    return elimtool.trace(tiny, PROMPTS, options=options)


def test_each_kind_takes_part(run: Any, tiny: Any) -> None:
    assert run.tables == ("prompts", "lens_layers", "sampling", "lead", "lead_size")
    assert len(run.table("lead")) == 2 * (tiny.n_layers + 1)
    assert run.table("lead").columns.tolist() == [*LEAD.names, "intervention"]
    assert run.table("sampling")["n_after"].tolist() == [7, 7]
    assert set(run.table("lens_layers")["lens"]) == {"clipped"}


def test_a_metric_s_numbers_are_those_of_the_model(run: Any, tiny: Any) -> None:
    # the last layer is the model's own output, whatever the lens
    last = run.table("lead").query(f"layer == {tiny.n_layers - 1}")["lead"]
    for text, lead in zip(PROMPTS, last, strict=True):
        ids = tiny.tokenizer.backend(text, return_tensors="pt").input_ids
        first, second = tiny.bridge(ids)[0, -1].topk(2).values.tolist()
        assert lead == pytest.approx(first - second, abs=1e-4)


def test_a_lens_reads_as_it_would_alone(run: Any, tiny: Any) -> None:
    raw = elimtool.trace(tiny, PROMPTS, options=elimtool.TraceOptions(tables=("lens_layers",), lens="raw"))
    ours, theirs = (one.table("lens_layers")["entropy"].to_numpy() for one in (run, raw))
    same = np.isclose(ours, theirs).reshape(2, -1)
    assert same[:, -1].all()  # the model's own output, whatever the lens
    assert not same[:, :-1].any()


def test_run_json_names_them(run: Any) -> None:
    named = run.manifest.plugins
    assert {kind: list(some) for kind, some in named.items()} == {
        "samplers": ["few"], "metrics": ["lead"], "lenses": ["clipped"],
    }  # fmt: skip
    facts = named["metrics"]["lead"]
    assert facts["source"] == "tests.plugins.parts:Lead" and facts["distribution"] is None
    assert len(facts["sha256"]) == 64
    assert run.manifest.lens == {"name": "clipped", "plugin": "tests.plugins.parts:Clipped"}


def test_a_run_without_them_says_nothing_of_plugins(tiny: Any) -> None:
    plain = elimtool.trace(tiny, PROMPTS[0])
    assert plain.manifest.plugins is None and "plugins" not in plain.manifest.to_dict()
    assert "plugins" not in plain.manifest.config and set(plain.tables) <= set(TABLES)


def test_all_tables_have_those_that_are_given(tiny: Any) -> None:
    found = elimtool.trace(tiny, PROMPTS[0], plugins=[Lead])
    assert {"lead", "lead_size", "lens", "verdicts"} <= set(found.tables)


def test_a_run_is_read_without_its_plugin(run: Any, tmp_path: Path) -> None:
    run.save(tmp_path / "run")
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["8", *LEAD.purpose.split(), ">=", "0"]
    again = elimtool.open_run(tmp_path / "run")
    assert again.to_dict()["tables"] == run.to_dict()["tables"]
    again.save(tmp_path / "copy")
    for part in (tmp_path / "run" / "lead").iterdir():
        assert (tmp_path / "copy" / "lead" / part.name).read_bytes() == part.read_bytes()


def test_the_story_shows_its_tables(run: Any) -> None:
    brief, whole = (printed(run, verbose=verbose) for verbose in (False, True))
    assert "lead (a table of tests.plugins.parts:Lead: How far ahead is the first token)" in brief
    last = run.table("lead").query("prompt_id == prompt_id.iloc[0]")["lead"].iloc[-1]
    assert f"{last:.6g}" in brief and "4 rows" in whole


def test_the_page_lists_its_tables(run: Any) -> None:
    text = page(run)
    assert "lead: How far ahead is the first token?" in text and "lead (nats)" in text
    assert "one row per prompt" in text


def test_an_unfinished_run_is_replaced_with_its_plugin_s_tables(run: Any, tmp_path: Path) -> None:
    run.save(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    run.only(["prompts"]).save(tmp_path / "run", overwrite=True)
    assert sorted(one.name for one in (tmp_path / "run").iterdir()) == ["prompts", "run.json"]


def test_under_interventions_it_sees_both_passes(tiny: Any) -> None:
    options = elimtool.TraceOptions(
        plugins=(Lead,), tables=("lead",), interventions=(elimtool.Ablate.parse("1.0"),), errors="row"
    )
    lead = elimtool.trace(tiny, PROMPTS, options=options).table("lead")
    own, changed = lead[lead["intervention"].isna()], lead[lead["intervention"].notna()]
    assert len(own) == len(changed) == 8
    assert not np.allclose(own["lead"], changed["lead"])

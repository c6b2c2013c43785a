"""The story, the figures and the page of an audit: what is said follows from the tables, with its scope."""

from __future__ import annotations

from pathlib import Path

import pytest

from elimtool.analysis.populations.audit.api import audit
from elimtool.errors import ElimError
from elimtool.report.figures.draw import picture
from elimtool.report.html.page import page
from elimtool.report.populations.audit.section import audit_section
from elimtool.report.populations.sections import figure_of, sections
from elimtool.report.screen import Screen
from elimtool.run import Run, open_run
from elimtool.run.schema import TABLES
from tests.analysis.populations.made_up import Truth, population_run


def said(truth: Truth) -> str:
    return "\n".join(audit_section(audit(population_run(truth))).told)


def test_a_difference_is_told_with_its_interval_layers_and_scope() -> None:
    told = said(Truth(shift=6.0, at=6))
    assert (
        "' yes' against ' no' is" in told and "likelier after 'first' words than after 'second' words" in told
    )
    assert "(12 templates, 8 pairs of words; p" in told and "The gap is there from layer 6 on" in told
    assert "Attention to the group's word differs in no run of layers." in told


def test_what_is_not_found_is_told_with_what_would_have_been() -> None:
    told = said(Truth())
    assert "No difference found for ' yes' against ' no'" in told and "would probably have been" in told
    assert "likelier" not in told and "no difference found." in told


def test_of_few_words_each_sentence_names_them() -> None:
    told = said(Truth(words=2, shift=6.0))
    assert "after 'w0.0', 'w1.0' than after 'w0.1', 'w1.1'" in told and "about these words only" in told
    assert "'first'" not in told


def test_stages_of_a_cut_are_named() -> None:
    told = said(Truth(cut=0.6, templates=24))
    assert "llama.cpp keeps ' yes' in" in told and "by top_k" in told
    assert "Verdicts: " in told and "sampler eliminated" in told


def test_notes_say_what_the_numbers_cannot_show() -> None:
    notes = audit_section(audit(population_run(Truth()))).notes
    assert "8 pairs of words cannot give a p-value under 0.0078." in notes
    doubts = audit_section(audit(population_run(Truth(same_words=True)))).notes
    assert any("identical" in one for one in doubts)


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_terminal_keeps_its_width(width: int, encoding: str) -> None:
    section = audit_section(audit(population_run(Truth(shift=6.0))))
    for line in section.lines(Screen(width, encoding)):
        assert line.cell_len <= width
        line.plain.encode(encoding)


def test_figures_are_drawn_on_the_page_and_for_print(tmp_path: Path) -> None:
    run = population_run(Truth(shift=6.0, at=6))
    run.save(tmp_path / "run")
    assert sections(open_run(tmp_path / "run")) == []
    audit(run).save(tmp_path / "run")
    run = open_run(tmp_path / "run")
    (section,) = sections(run)
    names = [one.name for one in section.figures]
    assert names == ["audit_effects", "audit_survival", "audit_attention", "audit_lens", "audit_stages"]
    lens = figure_of(run, "audit_lens").to_json()
    assert lens["shaded"] == [[6, 9]] and len(lens["lines"][0]["low"]) == len(lens["layers"]) == 11
    for one in section.figures:
        assert picture(one).startswith(b"\x89PNG")
    written = page(run)
    assert "The gap is there from layer 6 on" in written and '"kind":"forest"' in written
    with pytest.raises(ElimError, match="no figure 'audit_len'"):
        figure_of(run, "audit_len")


def test_targets_that_templates_do_not_share_are_not_taken_for_strings_of_groups() -> None:
    run = population_run(Truth(words=1, templates=8, nested=True, shift=8.0))
    tables = {name: run.arrow(name).to_pylist() for name in run.tables}
    for name, rows in tables.items():
        for row in rows:
            own = row["prompt_id"].split("/")[0]
            if name == "prompts":
                row["targets"] = [f" yes {own}"]
            elif row.get("target") == " yes":
                row["target"] = f" yes {own}"
    made = Run.from_tables(
        run.manifest, {name: TABLES[name].from_rows(rows) for name, rows in tables.items()}
    )
    (first, *_) = audit_section(audit(made)).told
    assert first.startswith("Each template's own target against ' no' is")
    assert "after 'first' records than after 'second' records (8 templates;" in first

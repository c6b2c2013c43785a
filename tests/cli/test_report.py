"""``elimtool report``: writes one file, says where, and refuses what it cannot write or read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from elimtool.report.figures.choose import NAMES
from tests.cli.conftest import Command
from tests.report import runs


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    runs.france().save(tmp_path / "run")
    return tmp_path / "run"


def test_report_writes_a_page_and_prints_its_path(elimtool: Command, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = elimtool("report", saved, "-o", out)
    assert (done.code, done.out) == (0, f"{out}\n")
    assert done.err.startswith(f"wrote {out}: 1 prompt, ")
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_without_out_the_page_is_report_html_here(
    elimtool: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert elimtool("report", saved, "-q").out == "report.html\n"
    again = elimtool("report", saved)
    assert again.code == 2 and "report.html exists" in again.err and "--overwrite" in again.err
    assert elimtool("report", saved, "--overwrite").code == 0


def test_what_cannot_be_read_or_written_is_said(elimtool: Command, saved: Path, tmp_path: Path) -> None:
    cases = {
        ("report", tmp_path / "none"): "does not exist",
        ("report", saved / "lens"): "is not a run directory",
        ("report", saved, "-o", tmp_path): "is a directory",
        ("report", saved, "-o", saved / "run.json" / "such.html"): "Not a directory",
    }
    for arguments, message in cases.items():
        done = elimtool(*arguments)
        assert done.code == 2 and message in done.err and done.out == ""
    for name in ("page.html", "ranks.svg"):
        figure = ("--figure", "ranks") if name.endswith("svg") else ()
        assert elimtool("report", saved, "-o", tmp_path / "new" / name / name, *figure).code == 0
        assert (tmp_path / "new" / name / name).is_file()


def test_a_figure_is_written_in_the_format_of_its_name(
    elimtool: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert elimtool("report", saved, "--figure", "ranks").out == "ranks.png\n"
    assert elimtool("report", saved, "--figure", "ranks", "-o", "a.svg").out == "a.svg\n"
    assert (tmp_path / "ranks.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    cases = {
        ("--figure", "ranks", "-o", "a.gif"): "a.gif is not a picture format",
        ("--figure", "ranks", "--format", "pdf", "-o", "b.svg"): "do not agree",
        ("--figure", "rank"): "did you mean 'ranks'",
        ("--format", "png"): "--format goes with --figure",
    }
    for arguments, message in cases.items():
        done = elimtool("report", saved, *arguments)
        assert done.code == 2 and message in done.err


def test_without_matplotlib_the_extra_is_named(
    elimtool: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = elimtool("report", saved, "--figure", "ranks", "-o", tmp_path / "a.png")
    assert done.code == 2 and "pip install 'elimtool[plot]'" in done.err


def test_help_names_every_figure(elimtool: Command) -> None:
    out = elimtool("report", "--help").out
    assert all(name in out for name in NAMES)


def test_a_comparison_is_drawn_too(elimtool: Command, tmp_path: Path) -> None:
    runs.compared().save(tmp_path / "compared")
    done = elimtool("report", tmp_path / "compared", "-o", tmp_path / "report.html")
    assert done.code == 0 and done.err.startswith(f"wrote {tmp_path / 'report.html'}: 4 pairs, ")
    asked = ["report", tmp_path / "compared", "-o", tmp_path / "a.png", "--figure"]
    assert elimtool(*asked, "attention", "--prompt", "france").code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    refused = elimtool(*asked, "ranks", "--layer", "1", "--overwrite")
    assert refused.code == 2 and "--layer does not go with a comparison" in refused.err

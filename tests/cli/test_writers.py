"""Every command that writes a file minds what is there, and writes through what is no file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.report import runs


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    runs.france().save(tmp_path / "run")
    return tmp_path / "run"


def writers(saved: Path, llama_directory: Path) -> dict[str, list[Any]]:
    """The commands that write a file, without its name."""
    text = saved.parent / "text"
    text.write_text("The capital of France is Paris. " * 9)
    checks = saved.parent / "checks.yaml"
    checks.write_text("version: 1\nchecks:\n  - {id: a, metric: final_rank, agg: max, max: 9999}\n")
    model = ["-m", llama_directory]
    return {
        "page": ["report", saved, "-o"],
        "figure": ["report", saved, "--figure", "ranks", "--format", "png", "-o"],
        "lens": ["lens", "fit", *model, "--window", "40", text, "-o"],
        "activations": ["trace", "The capital", *model, "--lens", "raw", "--save-activations"],
        "junit": ["check", checks, "--run", saved, "--junit"],
    }


@pytest.mark.parametrize("name", ["page", "figure", "lens", "activations", "junit"])
def test_every_writer_minds_what_is_there(
    name: str, elimtool: Command, saved: Path, llama_directory: Path, tmp_path: Path
) -> None:
    command = writers(saved, llama_directory)[name]
    mine, link = tmp_path / "mine", tmp_path / "link"
    mine.write_bytes(b"a letter")
    link.symlink_to(mine)
    for path in (mine, link):
        done = elimtool(*command, path)
        assert (done.code, "exists" in done.err) == (2, True), done.err
    assert mine.read_bytes() == b"a letter" and link.is_symlink()
    done = elimtool(*command, "/dev/null")
    assert done.code == 0 and Path("/dev/null").is_char_device(), done.err
    done = elimtool(*command, tmp_path)
    assert (done.code, "is a directory" in done.err) == (2, True)
    if name == "junit":
        mine.unlink()
        assert elimtool(*command, link).code == elimtool(*command, link).code == 0
    else:
        assert elimtool(*command, link, "--overwrite").code == 0
    assert link.is_symlink() and len(mine.read_bytes()) > 100


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/stdout")
@pytest.mark.parametrize("through", ["pipe", "file"])
def test_a_page_to_standard_output_is_the_page_alone(saved: Path, through: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "elimtool", "report", str(saved), "-o", "/dev/stdout"]
    plain = tmp_path / "plain.html"
    subprocess.run([*command[:-1], str(plain)], check=True, capture_output=True)
    if through == "pipe":
        out = subprocess.run(command, check=True, capture_output=True).stdout
    else:
        with (tmp_path / "redirected").open("wb") as file:
            subprocess.run(command, check=True, stdout=file)
        out = (tmp_path / "redirected").read_bytes()
    assert out == plain.read_bytes()

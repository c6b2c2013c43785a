"""The site of the pages: notebooks run, it builds strictly, it has every command, public name and page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

import elimtool
from scripts import docs_site, run_docs

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.smollm2
@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    with run_docs.prepared(tmp_path) as session:
        book = nbformat.read(path, as_version=4)
        assert not any(cell.get("outputs") for cell in book.cells), "notebooks are kept without outputs"
        NotebookClient(book, timeout=300, resources={"metadata": {"path": str(session.folder)}}).execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert any("text/html" in output.get("data", {}) for output in shown)


@pytest.mark.slow
def test_the_site_builds_strictly_and_has_every_command_and_public_name(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    html = {
        name: (tmp_path / name / "index.html").read_text(encoding="utf-8") for name in ("commands", "python")
    }
    for name in ("trace", "run-show", "doctor", "models-verify"):
        assert f'id="{name}"' in html["commands"]
    assert "--ablate-each" in html["commands"]
    for public in set(elimtool.__all__) & elimtool._HOMES.keys():
        assert re.search(rf'id="elimtool\.[\w.]*\b{public}"', html["python"]), public
    assert not re.search(r'(?:src|href)="https?://(?:fonts|unpkg|cdn)', html["commands"])


def test_pages_that_the_navigation_lacks_are_put_behind_it(tmp_path: Path) -> None:
    for name in ("index.md", "new.md"):
        (tmp_path / name).write_text("# A page", encoding="utf-8")
    config = SimpleNamespace(nav=["index.md"], docs_dir=str(tmp_path))
    assert docs_site.on_config(config).nav == ["index.md", {"More": ["new.md"]}]
    assert docs_site.on_config(config).nav == ["index.md", {"More": ["new.md"]}]

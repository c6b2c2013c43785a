"""Install a wheel of elimtool into a new environment, without the dev extra, and use it from an empty folder.

    python scripts/fresh_install.py [WHEEL] [--model NAME] [--extras plot,fast] [--borrow]

Without ``WHEEL`` one is built. ``--borrow`` links what elimtool depends on from this environment instead of
fetching it (seconds instead of minutes); what only the dev extra asks for is not there then either. Ends with
1 at the first command that fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMPT = "The capital of France is"
CHECKS = """
version: 1
prompts: prompts.jsonl
samplers: [top_k=40]
checks:
  - {id: read, metric: final_rank, target: " a", min: 1}
"""


def commands(model: str) -> Iterator[list[str]]:
    """What is run, in this order: each command that a newcomer may type first."""
    named = ["--model", model]
    yield ["--version"]
    yield ["--help"]
    yield ["samplers", "show", "llama.cpp"]
    yield ["models", "list"]
    yield ["trace", PROMPT, *named, "--target", " a", "--out", "run"]
    yield ["attribute", PROMPT, *named, "--target", " a", "--method", "leave-one-out"]
    yield ["batch", "prompts.jsonl", *named, "--out", "all"]
    yield ["run", "status", "all"]
    yield ["run", "show", "all", "prompts"]
    yield ["check", "checks.yaml", *named]
    yield ["compare", "run", "run"]
    yield ["report", "run", "--out", "run.html"]


def build(folder: Path) -> Path:
    """Build the wheel, by way of the source distribution, and return it."""
    arguments = ["--no-isolation", "--outdir", str(folder), str(ROOT)]
    _call([sys.executable, "-m", "build", *arguments], folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def borrow(site: Path) -> None:
    """Link what elimtool declares that it needs, and what that needs, into an environment."""
    here = Path(sysconfig.get_paths()["purelib"])
    for name in needed("elimtool"):
        tops = {file.parts[0] for file in distribution(name).files or ()}
        for top in sorted(tops - {"..", "__pycache__"}):
            if not (site / top).exists():
                (site / top).symlink_to(here / top)


def needed(name: str) -> set[str]:
    """Names of the distributions that one needs when it is installed without extras, itself left out."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: set[str] = set()
    open_ = [(canonicalize_name(name), frozenset[str]())]
    seen = set(open_)
    while open_:
        one, extras = open_.pop()
        for text in distribution(one).requires or ():
            wanted = Requirement(text)
            choices = [{"extra": extra} for extra in (*extras, "")]
            if wanted.marker is None or any(map(wanted.marker.evaluate, choices)):
                next_ = (canonicalize_name(wanted.name), frozenset(wanted.extras))
                found.add(next_[0])
                if next_ not in seen:
                    seen.add(next_)
                    open_.append(next_)
    return found - {canonicalize_name(name)}


def environment(folder: Path, wheel: Path, extras: str, borrowed: bool) -> Path:
    """Make an environment with the wheel installed, and return its Python."""
    made = folder / "environment"
    _call([sys.executable, "-m", "venv", *(["--without-pip"] if borrowed else []), str(made)], folder)
    python = made / ("Scripts" if os.name == "nt" else "bin") / "python"
    what = f"{wheel}[{extras}]" if extras else str(wheel)
    if not borrowed:
        _call([str(python), "-m", "pip", "install", "--quiet", what], folder)
        return python
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", what]
    _call([sys.executable, "-m", "pip", *install], folder)
    (site,) = made.glob("lib/python*/site-packages")
    borrow(site)
    return python


def walk(python: Path, folder: Path, model: str) -> None:
    """Run every command from a folder that has nothing of the repository in it."""
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": PROMPT, "id": "one"}), encoding="utf-8")
    (folder / "checks.yaml").write_text(CHECKS, encoding="utf-8")
    for arguments in commands(model):
        begun = time.perf_counter()
        out = _call([str(python.parent / "elimtool"), *arguments], folder)
        print(f"ok {time.perf_counter() - begun:5.1f} s  elimtool {' '.join(arguments)}")
        assert out.strip(), f"{arguments} printed nothing"
    assert re.search("<html", (folder / "run.html").read_text(encoding="utf-8"))


def _call(command: list[str], folder: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nleft with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--extras", default="")
    parser.add_argument("--borrow", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = given.wheel.resolve() if given.wheel else build(folder)
        begun = time.perf_counter()
        python = environment(folder, wheel, given.extras, given.borrow)
        print(f"installed {wheel.name} in {time.perf_counter() - begun:.0f} s")
        (work := folder / "work").mkdir()
        walk(python, work, given.model)


if __name__ == "__main__":
    main()

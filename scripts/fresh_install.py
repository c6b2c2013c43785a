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
from importlib.metadata import Distribution, distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts import examples  # noqa: E402

PROMPT = "The capital of France is"
CHECKS = """
version: 1
prompts: prompts.jsonl
samplers: [top_k=40]
checks:
  - {id: read, metric: final_rank, target: " a", min: 1}
"""
HELLO = """{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18",\
 "capabilities": {}, "clientInfo": {"name": "fresh", "version": "1"}}}
"""
"""What a client of the Model Context Protocol says first."""
TEST = f"""
def test_a_target_is_followed(elim_model, elim_trace):
    run = elim_trace({PROMPT!r}, targets=[" a"])
    assert len(run.table("verdicts")) == 1 and elim_model.n_layers
"""


def commands(model: str, extras: str = "") -> Iterator[list[str]]:
    """What is run, in this order: each command that a newcomer may type first, and those of extras."""
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
    if {"query", "all"} & set(extras.split(",")):
        yield ["query", "SELECT count(*) AS n FROM verdicts", "run", "all"]
    yield ["query", "--metric", "survival.target_logprob", "all", "--out", "history.html"]
    if {"plot", "all"} & set(extras.split(",")):
        yield ["report", "run", "--figure", "ranks", "--out", "ranks.png"]


def build(folder: Path) -> Path:
    """Build the wheel, by way of the source distribution, and return it."""
    arguments = ["--no-isolation", "--outdir", str(folder), str(ROOT)]
    call([sys.executable, "-m", "build", *arguments], folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def borrow(site: Path, own: Distribution, extras: frozenset[str] = frozenset()) -> None:
    """Link what a distribution declares that it needs, and what that needs, into an environment."""
    here = Path(sysconfig.get_paths()["purelib"])
    for name in needed(own, extras):
        tops = {file.parts[0] for file in distribution(name).files or ()}
        for top in sorted(tops - {"..", "__pycache__"}):
            if not (site / top).exists():
                (site / top).symlink_to(here / top)


def needed(own: Distribution, extras: frozenset[str]) -> set[str]:
    """Names of the distributions that one needs when it is installed with some extras, itself left out."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    seen: set[tuple[str, frozenset[str]]] = set()
    pending: list[tuple[Distribution, frozenset[str]]] = [(own, extras)]
    while pending:
        one, chosen = pending.pop()
        for text in one.requires or ():
            wanted = Requirement(text)
            choices = [{"extra": extra} for extra in (*chosen, "")]
            if wanted.marker is not None and not any(map(wanted.marker.evaluate, choices)):
                continue
            key = canonicalize_name(wanted.name), frozenset(wanted.extras)
            if key not in seen:
                seen.add(key)
                same = key[0] == canonicalize_name(own.name)
                pending.append((own if same else distribution(wanted.name), key[1]))
    return {name for name, _ in seen} - {canonicalize_name(own.name)}


def environment(folder: Path, wheel: Path, extras: str, borrowed: bool) -> Path:
    """Make an environment with the wheel installed, and return its Python."""
    made = folder / "environment"
    call([sys.executable, "-m", "venv", *(["--without-pip"] if borrowed else []), str(made)], folder)
    python = made / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not borrowed:
        what = f"{wheel}[{extras}]" if extras else str(wheel)
        call([str(python), "-m", "pip", "install", "--quiet", what], folder)
        return python
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    call([sys.executable, "-m", "pip", *install], folder)
    site = site_of(python)
    (own,) = site.glob("elimtool-*.dist-info")
    borrow(site, Distribution.at(own), frozenset(filter(None, extras.split(","))))
    return python


def site_of(python: Path) -> Path:
    """Folder of the packages of an environment."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    return site


def gate(python: Path, folder: Path, model: str, borrowed: bool) -> str:
    """Put pytest beside the wheel; return what its plugin says of a check file and a test with fixtures."""
    if borrowed:
        site, here = site_of(python), Path(sysconfig.get_paths()["purelib"])
        borrow(site, own := distribution("pytest"))
        for top in sorted({file.parts[0] for file in own.files or ()} - {"..", "__pycache__"}):
            (site / top).symlink_to(here / top)
    else:
        call([str(python), "-m", "pip", "install", "--quiet", "pytest"], folder)
    (folder / "checks").mkdir()
    prompts = f"prompts:\n  - {{id: one, prompt: {PROMPT}}}\n"
    (folder / "checks" / "a.yaml").write_text(CHECKS.replace("prompts: prompts.jsonl\n", prompts), "utf-8")
    (folder / "test_own.py").write_text(TEST, encoding="utf-8")
    options = ["-v", "-p", "no:cacheprovider", "--elimtool", "--elimtool-model", model]
    return call([str(python), "-m", "pytest", *options, "checks", "test_own.py"], folder)


def walk(python: Path, folder: Path, model: str, extras: str = "") -> None:
    """Run every command from a folder that has nothing of the repository in it."""
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": PROMPT, "id": "one"}), encoding="utf-8")
    (folder / "checks.yaml").write_text(CHECKS, encoding="utf-8")
    for arguments in commands(model, extras):
        begun = time.perf_counter()
        out = call([str(python.parent / "elimtool"), *arguments], folder)
        print(f"ok {time.perf_counter() - begun:5.1f} s  elimtool {' '.join(arguments)}")
        assert out.strip(), f"{arguments} printed nothing"
    assert re.search("<html", (folder / "run.html").read_text(encoding="utf-8"))
    call([str(python), "-m", "elimtool", "--version"], folder)
    if {"mcp", "all"} & set(extras.split(",")):
        said = call([str(python.parent / "elimtool"), "mcp", "--root", "."], folder, HELLO)
        assert '"serverInfo"' in said, said


def call(command: list[str], folder: Path, said: str = "") -> str:
    """Run a command in a folder, without the repository, and return what it prints; leave where it fails."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=clean, input=said, capture_output=True, text=True, check=False
    )
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
        walk(python, work, given.model, given.extras)
        print(gate(python, work, given.model, given.borrow).splitlines()[-1])
        examples.use(python, work, given.model, call)
        print("ok, the packages of docs/extend.md")


if __name__ == "__main__":
    main()

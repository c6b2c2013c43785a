"""Run the blocks of code in README.md and docs/, and compare or replace the output that the pages show.

    python scripts/run_docs.py [--update] [--slow] [PAGE ...]

Every block of ``sh``, ``console`` and ``python`` is run, in order, in one empty folder and one Python session
for each page, with the default model. In ``console``, lines after ``$ COMMAND`` are its output; a block of
``text`` right after one of ``sh`` or ``python`` is what that prints. A line ``...`` stands for any lines.
Comments say the rest:

    <!-- not run: REASON -->   the next block is not run
    <!-- slow: REASON -->      the next block is run with --slow alone: what it shows was printed once
    <!-- setup: COMMAND -->    a command that the page does not show

``--update`` writes what was printed in place of output that differs, and leaves out what the page left out.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FENCE = re.compile(
    r"^```([a-z]*)\n(.*?)^```$|^<!-- (not run|setup|slow): (.*?) -->$", re.MULTILINE | re.DOTALL
)
RUN = ("sh", "console", "python")
SHELL = re.compile(r"[|><;&$`*]")
"""What only a shell understands; commands without are run in this process, which has torch loaded."""
TIME = re.compile(r"\([0-9.]+ s\)")
STATUS = "echo $?"
GAP = "..."
ADVICE = re.compile(r"\nTry next  .*", re.DOTALL)
"""What a story ends in, which pages leave out."""
ENVIRONMENT = {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONHASHSEED": "0"}


@dataclass
class Step:
    """A command or a block of Python, and the output that the page shows for it.

    Attributes:
        kind: ``sh`` or ``python``.
        code: What to run.
        line: Line of the page that it stands on.
        shown: The output on the page; None where it shows none.
        span: Where the output is in the page's text.
        may_fail: Whether the page shows its exit code next.
    """

    kind: str
    code: str
    line: int
    shown: str | None = None
    span: tuple[int, int] = (0, 0)
    may_fail: bool = False


def steps(text: str, slow: bool = False) -> list[Step]:
    """List what a page wants run, in order; with ``slow`` also what takes minutes."""
    found: list[Step] = []
    skipped, last_end = False, -1
    for match in FENCE.finditer(text):
        language, body, comment, said = match.groups()
        line = text.count("\n", 0, match.start()) + 2
        if comment == "setup":
            found.append(Step("sh", said, line - 1))
        elif comment:
            skipped = comment == "not run" or not slow
            continue
        elif language == "text" and last_end >= 0 and not text[last_end : match.start()].strip():
            found[-1].shown, found[-1].span = body, match.span(2)
        elif not skipped and language == "python":
            found.append(Step("python", body, line))
        elif not skipped and language in ("sh", "console"):
            found += _console(body, match.start(2), line) if language == "console" else _commands(body, line)
        last_end = match.end() if language in RUN and not skipped else -1
        skipped = False
    for one, after in pairwise(found):
        one.may_fail = after.code == STATUS
    return found


def _commands(body: str, line: int) -> Iterator[Step]:
    """The commands of a block: lines, with those that they go on in (a backslash, a text up to ``EOF``)."""
    lines = body.split("\n")
    while lines:
        start, command = line, [lines.pop(0)]
        ends = re.search(r"<<'?(\w+)'?", command[0])
        while lines and (command[-1].endswith("\\") or (ends and command[-1] != ends[1])):
            command.append(lines.pop(0))
        line += len(command)
        code = "\n".join(command)
        if code.strip() and not code.lstrip().startswith("#"):
            yield Step("sh", code, start)


def _console(body: str, offset: int, line: int) -> Iterator[Step]:
    parts = list(re.finditer(r"^\$ ((?:.*\\\n)*.*)\n", body, re.MULTILINE))
    ends = [part.start() for part in parts[1:]] + [len(body)]
    for part, end in zip(parts, ends, strict=True):
        at = line + body.count("\n", 0, part.start())
        shown = body[part.end() : end]
        yield Step("sh", part[1], at, shown, (offset + part.end(), offset + end))


def agrees(shown: str, printed: str) -> bool:
    """Whether what was printed is what a page shows, where ``...`` on a line stands for any lines."""
    shown, printed = (TIME.sub("(some s)", stripped(text)) for text in (shown, printed))
    parts = re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)
    return re.fullmatch("(?:.*\n)*".join(map(re.escape, parts)), printed) is not None


def renewed(shown: str, printed: str) -> str:
    """What was printed, with ``...`` where a page has it; as many lines around it change as the page has."""
    old = stripped(shown).split("\n")
    new = ADVICE.sub("\n...\n", stripped(printed)).split("\n")
    lines: list[str] = []
    changes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for tag, i1, i2, j1, j2 in changes:
        part, now = old[i1:i2], new[j1:j2]
        before = part.index(GAP) if part.count(GAP) == 1 and tag != "equal" else len(part)
        after = len(part) - before - 1
        if before + after >= len(now) and after >= 0:  # nothing is left for the dots to stand for
            before = len(part)
        lines += now if before == len(part) else [*now[:before], GAP, *now[len(now) - after :]]
    return "\n".join(lines)


def stripped(text: str) -> str:
    """The text without spaces at the ends of its lines, and with one line end at its own."""
    return "\n".join(line.rstrip() for line in text.rstrip().split("\n")) + "\n"


@dataclass
class Session:
    """Runs the steps of one page in a folder of its own."""

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    left: int = 0

    def run(self, step: Step) -> str:
        """Run a step and return what it printed; only a command whose exit code is shown may fail."""
        if step.kind == "python":
            with _captured() as out:
                exec(compile(step.code, f"line {step.line}", "exec", dont_inherit=True), self.names)
            return out()[0]
        if step.code == STATUS:
            return f"{self.left}\n"
        printed, said = self._command(step.code)
        if self.left and not step.may_fail:
            raise AssertionError(f"line {step.line}: {step.code}\nleft with {self.left}\n{printed}{said}")
        return printed

    def _command(self, code: str) -> tuple[str, str]:
        plain = re.sub(r"'[^']*'|\"[^\"]*\"", "", code.partition(" #")[0])
        if not code.startswith("elimtool ") or SHELL.search(plain):
            script = f'elimtool() {{ "{sys.executable}" -m elimtool "$@"; }}\n{code}'
            done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
            self.left = done.returncode
            return done.stdout, done.stderr
        from elimtool.cli.app import main

        with _captured() as out:
            try:
                main(shlex.split(code.replace("\\\n", " "), comments=True)[1:])
            except SystemExit as leaving:
                self.left = int(leaving.code or 0)
        return out()


@contextmanager
def _captured() -> Iterator[Any]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    errors = io.StringIO()
    with redirect_stdout(stream), redirect_stderr(errors):
        yield lambda: (stream.buffer.getvalue().decode(), errors.getvalue())  # type: ignore[attr-defined]


@contextmanager
def prepared(folder: Path) -> Iterator[Session]:
    """A session in an empty folder, without a fitted lens in the cache, so all machines print the same."""
    from elimtool.model import store
    from elimtool.model.catalogue import CATALOGUE, materialise

    materialise(CATALOGUE["smollm2"])
    models = store.cache_dir() / "models"
    before, here = dict(os.environ), Path.cwd()
    try:
        (cache := folder / "cache").mkdir()
        (cache / "models").symlink_to(models)
        (work := folder / "work").mkdir()
        shutil.copytree(ROOT / "configs", work / "configs")
        for name in [name for name in os.environ if name.startswith(("ELIMTOOL_", "GITHUB_", "FORCE_COLOR"))]:
            del os.environ[name]
        os.environ.update({**ENVIRONMENT, "ELIMTOOL_CACHE": str(cache), "PYTHONPATH": str(ROOT)})
        os.chdir(work)
        yield Session(work)
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


def run_page(page: Path, session: Session, update: bool = False, slow: bool = False) -> list[str]:
    """Run a page, and return what differs from what it shows; with ``update``, write that to the page."""
    text = page.read_text(encoding="utf-8")
    told, changes = [], []
    for step in steps(text, slow):
        printed = session.run(step)
        if step.shown is not None and not agrees(step.shown, printed):
            both = step.shown.split("\n"), printed.split("\n")
            lines = difflib.unified_diff(*both, "page", "printed", lineterm="")
            told.append(f"{page.name}:{step.line}: {step.code}\n" + "\n".join(lines))
            changes.append((step.span, renewed(step.shown, printed)))
    if update and changes:
        for (start, end), printed in reversed(changes):
            text = text[:start] + printed + text[end:]
        page.write_text(text, encoding="utf-8")
    return told


def pages() -> list[Path]:
    """The pages that have something to run."""
    every = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in every if steps(page.read_text(encoding="utf-8"))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--slow", action="store_true")
    given = parser.parse_args()
    differing = 0
    for page in [one.resolve() for one in given.pages] or pages():
        with tempfile.TemporaryDirectory() as folder, prepared(Path(folder)) as session:
            told = run_page(page, session, given.update, given.slow)
        print(f"{page.relative_to(ROOT)}: {len(told)} differ")
        for one in told:
            print(one)
        differing += len(told)
    return 1 if differing and not given.update else 0


if __name__ == "__main__":
    sys.exit(main())

"""The tools that ``elimtool mcp`` offers to agents: bounded in what they read, write, take and give back."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError, nearest
from elimtool.version import __version__

if TYPE_CHECKING:
    from elimtool.model.model import Model

INSTALL = "pip install 'elimtool[mcp]'"

MOST_CHARACTERS = 16_000
"""Longest answer of a tool; the rest is left out, and that is said."""
MOST_TEXT = 100_000
"""Longest prompt, in characters."""
MOST_TARGETS = 20
MOST_WRITTEN = 64
"""Most tokens that a trace writes."""
MOST_ROWS = 200
SECONDS = 20.0
"""Longest time that a query may take."""
WIDTH = 100

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")

INSTRUCTIONS = """elimtool shows what a language model eliminated, where, and by which component.
Start with `trace`: the story says whether a target survived, and if not, at which layer or sampler stage it
was lost. Keep a trace (`keep`) to `compare` or `query` it. Attention and lens readings are evidence, not
causes; the story says where a claim was tested. Rank 1 is the most probable token, probabilities are of the
model's output before any sampler, log-probabilities are in nats, layers count from 0."""


@dataclass(frozen=True)
class Desk:
    """What the tools may use.

    Attributes:
        root: Folder of the runs and check files; nothing outside is read, nothing else written.
        models: Names of the models that may be loaded; the first is the default.
        samplers: Chains that traces use where none is asked for.
        loaded: Models in memory, by name.
    """

    root: Path
    models: tuple[str, ...]
    samplers: tuple[str, ...]
    loaded: dict[str, Model] = field(default_factory=dict)

    def model(self, name: str | None) -> Model:
        """Return a model, loaded once.

        Raises:
            ElimError: It is not one of those offered.
        """
        from elimtool.model.source import ModelSource

        wanted = name or self.models[0]
        if wanted not in self.models:
            raise ElimError(f"the model '{wanted}' is not offered here", nearest(wanted, self.models))
        if wanted not in self.loaded:
            self.loaded[wanted] = ModelSource(wanted).load()
        return self.loaded[wanted]

    def inside(self, name: str) -> Path:
        """Return a path under the root.

        Raises:
            ElimError: It is elsewhere.
        """
        root = self.root.resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ElimError(f"'{name}' is outside of the folder that is served", "name what is in it")
        return path

    def kept(self, name: str) -> Path:
        """Return the directory of a new run.

        Raises:
            ElimError: The name is not a simple one, or there is such a run.
        """
        if not _NAME.fullmatch(name):
            raise ElimError(
                f"`keep` '{name}' is not a simple name", "letters, digits, - and _, such as paris-1"
            )
        path = self.inside(name)
        if path.exists():
            raise ElimError(f"there is a run '{name}'", "choose another name")
        return path


def bounded(text: str) -> str:
    """Cut an answer that is too long, and say so."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}\n... cut here: {len(text):,} characters; ask for less"


def server(desk: Desk) -> Any:
    """Make the server with its tools.

    Args:
        desk: What they may use.

    Raises:
        ElimError: The package mcp is not installed.
    """
    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError as error:
        raise ElimError("`elimtool mcp` needs the package mcp", INSTALL) from error
    made = MCPServer("elimtool", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")

    def offered(tool: Callable[..., str]) -> None:
        @wraps(tool)
        def call(*args: Any, **named: Any) -> str:
            try:
                return bounded(tool(*args, **named))
            except ElimError as error:
                raise ToolError(f"{error.message} ({error.hint})" if error.hint else error.message) from error

        made.tool(description=getdoc(tool), structured_output=False)(call)

    for tool in tools(desk):
        offered(tool)
    return made


def tools(desk: Desk) -> tuple[Callable[..., str], ...]:
    """Make the tools; their docstrings are what agents read."""

    def trace(
        prompt: str,
        targets: list[str] | None = None,
        foils: list[str] | None = None,
        model: str | None = None,
        samplers: list[str] | None = None,
        chat: bool = False,
        generate: int = 0,
        keep: str | None = None,
    ) -> str:
        """Trace a prompt: what the model would write, and what became of each target, layer by layer.

        The story follows them through each sampler chain, too. `targets` are continuations to follow, `foils`
        to contrast them with.
        `samplers` are engines (llama.cpp, hf, vllm) or stages such as top_k=40,temperature=0.8. `chat` sends
        the prompt through the model's chat template. `generate` writes so many tokens (64 at most). `keep`
        stores the run under that name for `compare`, `check` and `query`.
        """
        asked = _asked(prompt, targets, foils, chat)
        where = None if keep is None else desk.kept(keep)
        run = _traced(desk, asked, model, samplers, generate)
        if where is not None:
            run.save(where)
        from elimtool.report.trace.story import story

        return _printed(story(run, width=WIDTH)) + (f"\nkept as {keep}\n" if keep else "")

    def compare(
        a: str, b: str, prompts: bool = False, targets: list[str] | None = None, model: str | None = None
    ) -> str:
        """Compare two kept runs by name, or with `prompts` two prompts on one model.

        It says what changed, where they part, and what one side alone eliminates. Differences are b minus a.
        """
        from elimtool.report.compare.prompts import prompt_story
        from elimtool.report.compare.story import story

        if not prompts:
            from elimtool.analysis.compare.runs import compare_runs

            return _printed(story(compare_runs(desk.inside(a), desk.inside(b)), width=WIDTH))
        from elimtool.tasks.compare.prompts import compare_prompts

        sides = [_asked(text, targets, None, False) for text in (a, b)]
        return _printed(prompt_story(compare_prompts(desk.model(model), *sides), width=WIDTH))

    def check(file: str, run: str | None = None, model: str | None = None) -> str:
        """Judge a model, or a kept run, by a check file in the served folder.

        It says which checks pass, and tells the story of those that fail.
        """
        from elimtool.report.check.terminal import check_table
        from elimtool.tasks.check.api import run_checks

        path = desk.inside(file)
        subject: dict[str, Any] = {"run": desk.inside(run)} if run else {"model": desk.model(model)}
        return _printed(check_table(run_checks(path, **subject), width=WIDTH))

    def query(sql: str, runs: list[str] | None = None, limit: int = 50) -> str:
        """Run one SELECT of SQL (DuckDB) over the tables of the kept runs: all, or those named.

        Each table is a view with run, model, revision, label and started in front; `runs` has a row a run;
        DESCRIBE TABLE lists columns. Useful tables: verdicts, lens, survival, sampling_targets,
        attention_layers. Rows come back as JSON, 200 at most.
        """
        from elimtool.analysis.query.runs import find_runs
        from elimtool.analysis.query.sql import select
        from elimtool.report.query.rows import rendered

        if not 1 <= limit <= MOST_ROWS:
            raise ElimError(f"`limit` must be from 1 to {MOST_ROWS}, got {limit}")
        root = desk.root.resolve()
        found = find_runs([desk.inside(name) for name in runs] if runs else [root], findings=True)
        named = {Path(name).relative_to(root).as_posix(): run for name, run in found.items()}
        rows, more = select(sql, named, limit=limit, seconds=SECONDS)
        listed = json.loads(rendered(rows, "json"))
        lines = [json.dumps(row, ensure_ascii=False) for row in listed]
        return "\n".join([*lines, *(["... more rows are past the limit"] if more else [])]) or "no rows"

    return trace, compare, check, query


def _asked(prompt: str, targets: list[str] | None, foils: list[str] | None, chat: bool) -> Any:
    from elimtool.prompts.prompt import Message, Prompt

    if not prompt or len(prompt) > MOST_TEXT:
        raise ElimError(f"`prompt` must have 1 to {MOST_TEXT:,} characters, got {len(prompt):,}")
    if len(targets or ()) + len(foils or ()) > MOST_TARGETS:
        raise ElimError(f"{MOST_TARGETS} targets and foils at most", "follow fewer")
    follow: dict[str, Any] = {"targets": tuple(targets or ()), "foils": tuple(foils or ())}
    if chat:
        return Prompt(messages=(Message("user", prompt),), **follow)
    return Prompt(text=prompt, **follow)


def _traced(desk: Desk, asked: Any, model: str | None, samplers: list[str] | None, generate: int) -> Any:
    from elimtool.engine.options import TraceOptions
    from elimtool.tasks.trace import trace

    if not 0 <= generate <= MOST_WRITTEN:
        raise ElimError(f"`generate` must be from 0 to {MOST_WRITTEN}, got {generate}")
    if files := [one for one in samplers or () if "/" in one or "\\" in one or Path(one).is_file()]:
        raise ElimError(f"`samplers` '{files[0]}' is a file", "name an engine, or stages such as top_k=40")
    options = TraceOptions(samplers=tuple(samplers or desk.samplers), generate=generate)
    return trace(desk.model(model), asked, options=options)


def _printed(renderable: Any) -> str:
    """Render a story as plain text."""
    from elimtool.cli.safe import SafeConsole

    text = io.StringIO()
    SafeConsole(file=text, width=WIDTH, color_system=None, highlight=False, force_terminal=False).print(
        renderable
    )
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"

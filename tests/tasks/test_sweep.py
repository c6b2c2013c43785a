"""A search of a sweep that is stopped goes on, and ends in the bytes of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from elimtool.analysis.populations.sweep.api import SweepOptions
from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError
from elimtool.prompts.design import Design
from elimtool.prompts.prompt import Prompt
from elimtool.tasks.batch.state import State
from elimtool.tasks.searched import PIECES, KeptPieces, begun
from elimtool.tasks.sweep import search_sweep
from tests.run.test_analysis import files

WANTED = TraceOptions(
    samplers=("top_k=20",),
    lens="raw",
    tables=("survival", "sampling", "sampling_targets"),
    heads=False,
    batch_size=1,
)


def prompts() -> list[Prompt]:
    return [
        Prompt(
            f"{lead} the {item} of", targets=(" e",), design=Design("a", slots={"lead": lead, "item": item})
        )
        for lead in ("it", "is", "as", "so")
        for item in ("at", "an", "in", "up", "or", "on")
    ]


def searched(model: Any, out: Path, stop: int | None = None, budget: int = 20) -> KeptPieces:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == stop:
            raise KeyboardInterrupt

    keep = KeptPieces(out)
    with keep.held():
        run, found = search_sweep(
            model,
            prompts(),
            WANTED,
            SweepOptions(),
            kind="halving",
            budget=budget,
            seed=3,
            say=say,
            keep=keep,
        )
    keep.finish(run)
    found.save(out)
    return keep


def bytes_of(out: Path) -> dict[str, bytes]:
    """All but the times of the run."""
    return {name: content for name, content in files(out).items() if name != "run.json"}


def test_a_search_that_was_stopped_goes_on(llama: Any, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert searched(llama, whole).reused == 0 and not begun(whole)
    assert not any(PIECES in name for name in files(whole))

    with pytest.raises(KeyboardInterrupt):
        searched(llama, stopped, stop=3)
    pieces = sorted((stopped / ".batch" / PIECES).iterdir())
    assert begun(stopped) and len(pieces) == 3
    cut = next(pieces[0].glob("survival/*.parquet"))
    cut.write_bytes(cut.read_bytes()[:100])  # a piece whose file was lost is measured again
    keep = searched(llama, stopped)
    assert keep.reused == 2 and not begun(stopped)
    assert bytes_of(stopped) == bytes_of(whole)


def test_what_another_search_left_is_not_used(llama: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        searched(llama, tmp_path / "run", stop=1)
    options = SweepOptions("logprob")
    keep = KeptPieces(tmp_path / "run")
    with keep.held():
        asked = [Prompt(f"{one.text} all", targets=one.targets, design=one.design) for one in prompts()]
        run, _ = search_sweep(llama, asked, WANTED, options, kind="halving", budget=20, keep=keep)
    keep.finish(run)
    assert keep.reused == 0 and not begun(tmp_path / "run")
    with pytest.raises(ElimError, match="already holds a run"):
        KeptPieces(tmp_path / "run")


def test_two_searches_do_not_share_a_directory(tmp_path: Path) -> None:
    keep = KeptPieces(tmp_path / "run")
    with keep.held(), pytest.raises(ElimError, match="another process"), KeptPieces(tmp_path / "run").held():
        pass
    assert not State(tmp_path / "run").is_there

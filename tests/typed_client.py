"""A program of a user; mypy's strict rules hold for it (``tests/test_typing.py``), and it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import elimtool
from elimtool import Chain, ElimError, Prompt, Run, Stage, TraceOptions
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect
from elimtool.samplers.top_k import TopK


@dataclass(frozen=True)
class Best(Stage):
    """Keeps the best token alone."""

    kind: ClassVar[str] = "best"

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut all others."""
        return Effect(c, keep=c.scores >= c.top)


def survivors(directory: str, text: str) -> tuple[list[str], NDArray[np.float32], float]:
    """Trace a prompt through three chains; return their names, a head's row and the target's rank."""
    model = elimtool.load_model(directory)
    mine = Chain("mine", stages=(TopK(k=5), Best()))
    options = TraceOptions(samplers=("hf", mine, Best()), chain=mine)
    run: Run = elimtool.trace(model, Prompt(text=text, targets=("x",)), options=options, keep_attention=True)
    names: list[str] = run.table("sampling")["chain"].unique().tolist()
    rank = float(run.table("lens")["rank"].iloc[-1])
    return names, run.attention(0, 1), rank


def error_of(path: Path) -> str:
    """Return what opening a directory says."""
    try:
        elimtool.open_run(path)
    except ElimError as error:
        return error.message
    return ""

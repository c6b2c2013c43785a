"""Audit published files of pairs, which do not come with elimtool, and say what that takes and finds.

    python scripts/bench_pairs.py [--first PAIRS] crows_pairs_anonymized.csv dev.json

For each file: pairs, seconds of processor time of sentences that are scored whole, of the same tokens in
plain forward passes in which no beginning is shared, and of all prompts that are continued; then the rows of
``audit_pairs``. docs/audit.md has the numbers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from elimtool.analysis.populations.audit.api import TABLES, audit
from elimtool.engine.loop import Passes
from elimtool.engine.options import TraceOptions
from elimtool.engine.session import Session
from elimtool.model.source import ModelSource
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Prompt
from elimtool.run.reader import Run
from elimtool.suites.read import open_prompts
from elimtool.tasks.trace import traced

SIZE = 32
"""Prompts in one forward pass, as in a batch."""


def main(names: list[str], first: int | None) -> None:
    """Print what each file, or the first pairs of it, takes and what is found in it."""
    model = ModelSource("smollm2").load()
    options = TraceOptions(tables=TABLES, heads=False, scores_only=True, batch_size=SIZE, errors="row")
    session = Session(model, options)
    asked = [Prompt(text="Once upon", scored="lm-eval"), Prompt(text="Once", targets=(" upon",))]
    warm = session.encode_all(asked)
    Passes(session).run([one for one in warm if not isinstance(one, Exception)], SIZE)  # compiles loops
    for name in names:
        file, _ = open_prompts(name, whole=True)
        with file:
            asked = [one.prompt for one in file.records() if isinstance(one.prompt, Prompt)]
        kept = set(list(dict.fromkeys(one.design.template for one in asked))[:first])
        asked = [one for one in asked if one.design.template in kept]
        parts = [[one for one in asked if (one.scored is None) == asks] for asks in (False, True)]
        print(f"{Path(name).name}: {len(parts[0]):,} sentences, {len(parts[1]):,} prompts continued")
        whole, continued = (measured(session, some) for some in parts)
        spent = {"whole": whole[1], "plain passes": plain(session, parts[0]), "continued": continued[1]}
        print("  " + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in spent.items()), flush=True)
        for row in audit(together(whole[0], continued[0])).arrow("audit_pairs").to_pylist():
            print("  " + told(row), flush=True)


def measured(session: Session, prompts: list[Prompt]) -> tuple[Run, float]:
    """Measure prompts, and return the seconds of processor time beside the run."""
    began = time.process_time()
    run = traced(session, prompts, session.encode_all(prompts))
    return run, time.process_time() - began


def together(one: Run, other: Run) -> Run:
    """Join the tables of two runs of different prompts."""
    names = {*one.tables, *other.tables}
    parts = {name: [run.arrow(name) for run in (one, other) if name in run.tables] for name in names}
    return Run.from_tables(one.manifest, {name: pa.concat_tables(some) for name, some in parts.items()})


def plain(session: Session, prompts: list[Prompt]) -> float:
    """Run the same prompts through the model alone, outputs included."""
    encoded = [one for one in session.encode_all(prompts) if not isinstance(one, Exception)]
    encoded.sort(key=lambda one: -len(one.token_ids))
    model, last = session.model, list[Any]()
    began = time.process_time()

    def keep(view: LayerView) -> None:
        last[:] = [view.residual]

    for start in range(0, len(encoded), SIZE):
        batch = Batch.of(encoded[start : start + SIZE], model.device)
        with model.whole():
            model.stream(batch, frozenset(), keep)
        for rows in batch.real(last[0]).split(256):
            model.readout(rows)
    return time.process_time() - began


def told(row: dict[str, Any]) -> str:
    """Say a row of ``audit_pairs``."""
    share = f"{100 * row['stereotype_share']:.1f} % ({100 * row['ci_low']:.1f} to {100 * row['ci_high']:.1f})"
    more = (
        "" if row["icat"] is None else f", lms {row['lms']:.1f}, ss {row['ss']:.1f}, icat {row['icat']:.1f}"
    )
    gap = f"likelihood_diff {row['likelihood_diff']:.2f}"
    return f"{row['rule']}, {row['category'] or 'all'}: {row['n_pairs']:,} pairs, {share}, {gap}{more}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split()))
    parser.add_argument("files", nargs="+")
    parser.add_argument("--first", type=int, help="pairs of each file; without: all")
    given = parser.parse_args()
    main(given.files, given.first)

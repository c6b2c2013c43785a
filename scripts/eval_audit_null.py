"""Audit runs whose groups do not differ, many times, and count those in which anything is called different.

    python scripts/eval_audit_null.py [--draws 400]

Runs are made up by tests/analysis/populations/made_up.py: templates and words have random effects of their
own in every layer. Once the two groups have other words of one distribution, once words of their own in each
template, once the same words. docs/audit.md has what it prints.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from elimtool.analysis.populations.audit.api import audit
from elimtool.analysis.statistics.base import SIGNIFICANT
from elimtool.analysis.statistics.proportions import wilson
from elimtool.run.analysis import Analysis
from tests.analysis.populations.made_up import Truth, population_run

KINDS = {
    "other words": Truth(layers=4, templates=8),
    "words of their own in each template": Truth(layers=4, templates=16, words=1, nested=True),
    "the same words": Truth(layers=4, templates=8, same_words=True),
}


def certain(found: Analysis) -> bool:
    """Return whether an audit calls anything different, beyond the correction of the confirmatory family."""
    rows = found.arrow("audit_effects").to_pylist() + found.arrow("audit_layers").to_pylist()
    tested = [row["p_adjusted"] for row in rows if row.get("family", "confirmatory") == "confirmatory"]
    return any(one is not None and one <= SIGNIFICANT for one in tested)


def main() -> None:
    """Print a line for each kind of groups."""
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split()))
    parser.add_argument("--draws", type=int, default=400)
    draws = parser.parse_args().draws
    for name, truth in KINDS.items():
        hits = sum(certain(audit(population_run(truth, seed), seed=seed)) for seed in range(draws))
        low, high = wilson(hits, draws)
        rate = f"{100 * hits / draws:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        print(f"{name}: something called different in {hits} of {draws} runs, {rate}", flush=True)


if __name__ == "__main__":
    main()

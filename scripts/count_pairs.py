"""Count what is usable in published files of pairs, which do not come with elimtool.

python scripts/count_pairs.py crows_pairs_anonymized.csv pro_stereotyped_type1.txt.dev dev.json
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from elimtool.suites.read import read_suite
from elimtool.suites.suite import in_words


def main(names: list[str]) -> None:
    """Print for each file its pairs, those that can be continued, and what is doubtful."""
    for name in names:
        suite = read_suite(Path(name), whole=True)
        if suite is None:
            sys.exit(f"{name} is not a file of pairs")
        pairs = {one["template"] for one in suite.records}
        continued = {one["template"] for one in suite.records if "scored" not in one}
        counts = Counter(f"{one.check} ({one.level})" for one in suite.checks)
        told = ", ".join(f"{check} {count}" for check, count in sorted(counts.items()))
        print(f"{Path(name).name}: {len(pairs):,} pairs scored, {len(continued):,} continued; {told}")
        for line in in_words(suite.checks):
            print(f"  {line}")


if __name__ == "__main__":
    main(sys.argv[1:])

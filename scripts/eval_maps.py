"""Map a model and a copy of it whose matrices went through a quantised type, and compare the two maps.

The copy is made as by ``scripts/eval_quantised.py``: the embedding through Q8_0, norms as they are.

Run: python scripts/eval_maps.py [MODEL] [--type Q4_0] [--passages 12] [--only PARTS] [--out DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from eval_quantised import TYPES, quantised
from rich.console import Console

from elimtool import compare_maps, load_model, map_model
from elimtool.model.loading import locate
from elimtool.report.compare.story import print_comparison
from elimtool.tasks.map.options import PARTS


def main() -> None:
    """Map both, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--type", default="Q4_0", choices=TYPES)
    parser.add_argument("--passages", type=int, default=12)
    parser.add_argument("--only", default=",".join(PARTS), help="parts with commas between them")
    parser.add_argument("--out", type=Path, help="directory for the comparison, which is not kept without")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copy = place / asked.type
        directory, _ = locate(asked.model, revision=None, progress=None)
        quantised(directory, copy, asked.type)
        for name, model in (("a", asked.model), ("b", str(copy))):
            only = asked.only.split(",")
            map_model(load_model(model), out=place / name, only=only, passages=asked.passages)
        found = compare_maps(place / "a", place / "b")
        print_comparison(found, Console(width=80))
        if asked.out is not None:
            found.save(asked.out)


if __name__ == "__main__":
    main()

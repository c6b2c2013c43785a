"""Measure what prompts cost whose beginnings run once, against the same without that; compare all numbers.

    python scripts/bench_shared.py                      # SmolLM2, 200 pairs, 100 templates of 8 groups
    python scripts/bench_shared.py --pairs 48 --templates 20 --write

Prompts are of 32 tokens of held-out text. The two of a pair differ in their second half, the eight of a
template in one word after three quarters. All tables of a batch without single heads are filled, in passes of
at most 32 prompts; ``apart`` runs each prompt by itself. Seconds are the processor's own; kinds take turns
group by group, since the speed of a machine changes.

Exits with 1 where more than one in ten thousand of the floats differ from those of each prompt alone by more
than rounding, or of the counts (ranks, ties, tokens of a nucleus) at all: a count changes where two values
are within rounding of each other, and what is read at it with it. A plain batch does so too, and is printed
beside it.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from elimtool import Prompt, TraceOptions, load_model
from elimtool.engine.loop import Passes
from elimtool.engine.session import Session
from elimtool.lenses.corpus import shipped
from elimtool.model.packing import ordered
from elimtool.model.view import Encoded

LENGTH, SIZE, CHUNK = 32, 32, 64
"""Tokens of a prompt; prompts of a pass at most; prompts after which the kinds take turns."""
GROUPS = (" men", " women", " doctors", " farmers", " teachers", " sailors", " kings", " children")
ABSOLUTE, RELATIVE = 1e-3, 1e-3
"""What rounding may do: entropies and shares of far layers move most."""
RARE = 1e-4
"""Share of numbers that may hang on rounding."""
BEGIN, END = "<!-- bench_shared.py -->", "<!-- end -->"
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def texts(model: object, pairs: int, templates: int) -> dict[str, list[list[str]]]:
    """Sets of texts that begin alike, by kind."""
    chance, backend = random.Random(3), model.tokenizer.backend  # type: ignore[attr-defined]
    prose = [ids for piece in shipped("held_out") if len(ids := backend(piece.text).input_ids) > LENGTH]

    def stretch(length: int) -> str:
        ids = chance.choice(prose)
        start = chance.randrange(len(ids) - length)
        return str(backend.decode(ids[start : start + length]))

    half, late = LENGTH // 2, LENGTH * 3 // 4
    two = [[begin + stretch(half), begin + stretch(half)] for begin in (stretch(half) for _ in range(pairs))]
    frames = [(stretch(late), stretch(LENGTH - late - 1)) for _ in range(templates)]
    return {
        f"{pairs} pairs, second half differs": two,
        f"{templates} templates x 8 groups": [[a + one + b for one in GROUPS] for a, b in frames],
    }


def measured(session: Session, some: Sequence[Encoded], size: int) -> tuple[dict[str, pa.Table], float]:
    """Fill the tables, and return the seconds of processor time beside them."""
    began = time.process_time()
    passes = Passes(session)
    passes.run(some, size, little=0)
    spent = time.process_time() - began
    return dict(passes.tables([one.prompt_id for one in some])), spent


@dataclass
class Difference:
    """How tables differ: floats and counts compared, those that differ, the largest difference of floats.

    ``where`` counts the floats that differ by table and column.
    """

    floats: int = 0
    far: int = 0
    where: Counter[str] = field(default_factory=Counter)
    counts: int = 0
    others: int = 0
    largest: float = 0.0

    def add(self, one: dict[str, pa.Table], two: dict[str, pa.Table]) -> None:
        """Compare tables, column by column."""
        for name, table in one.items():
            for column in table.schema:
                kind = column.type
                if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
                    continue
                pair = (whole[name][column.name].to_pandas() for whole in (one, two))
                x, y = (part.to_numpy(float, na_value=np.nan) for part in pair)
                apart = np.where(np.isnan(x) & np.isnan(y) | (x == y), 0.0, np.abs(x - y))
                if pa.types.is_integer(kind):
                    self.counts += len(x)
                    self.others += int((apart != 0).sum())
                    continue
                self.floats += len(x)
                far = int((~(apart <= ABSOLUTE + RELATIVE * np.abs(np.nan_to_num(x)))).sum())
                self.far += far
                self.where.update({f"{name}.{column.name}": far} if far else {})
                self.largest = max(self.largest, float(np.nanmax(apart / (1 + np.abs(x)), initial=0.0)))

    @property
    def too_much(self) -> bool:
        """Whether it is more than where values that decide something are within rounding of each other."""
        return self.far > RARE * self.floats or self.others > RARE * self.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split()))
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--templates", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load_model(asked.model)
    session = Session(model, TraceOptions(heads=False, errors="row"))
    assert model.packs, "this family runs prompts one under the other"
    lines = [
        "| prompts | tokens that run | against apart | against a batch | floats that differ from apart"
        " | of a plain batch | counts that differ from apart | of a plain batch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    failed = False
    for name, sets in texts(model, asked.pairs, asked.templates).items():
        flat = [text for some in sets for text in some]
        encoded = session.encode_all([Prompt(text, id=str(at)) for at, text in enumerate(flat)])
        usable = [one for one in encoded if isinstance(one, Encoded)]
        ids = [one.token_ids for one in usable]
        share = 1 - sum(ordered(ids)[1]) / sum(map(len, ids))
        spent = dict.fromkeys(("shared", "batch", "apart"), 0.0)
        off, control = Difference(), Difference()
        measured(session, usable[:SIZE], SIZE)  # loops are compiled, the trial is run
        for start in range(0, len(usable), CHUNK):
            some = usable[start : start + CHUNK]
            found = {}
            for kind in spent:
                model.packs = kind == "shared"
                found[kind], seconds = measured(session, some, 1 if kind == "apart" else SIZE)
                spent[kind] += seconds
            model.packs = True
            off.add(found["apart"], found["shared"])
            control.add(found["apart"], found["batch"])
        failed = failed or off.too_much
        told = f"{off.far:,} of {off.floats:,} (largest {off.largest:.0e}) | {control.far:,}"
        told += f" | {off.others:,} of {off.counts:,}"
        ratios = [f"{spent['shared'] / spent[kind]:.2f}" for kind in ("apart", "batch")]
        lines.append(f"| {name} | {share:.2f} | {ratios[0]} | {ratios[1]} | {told} | {control.others:,} |")
        print(
            f"{name}: processor seconds " + ", ".join(f"{kind} {one:.1f}" for kind, one in spent.items()),
            flush=True,
        )
        for what, one in (("shared", off), ("batch", control)):
            if one.where:
                print(f"floats that differ, {what}: {dict(one.where)}")
    print("\n".join(lines))
    if asked.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{rest.partition(END)[2]}")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()

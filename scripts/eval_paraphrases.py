"""Measure the effect of fifty rewordings on the right answer and the output, against edits of their size.

Run: python scripts/eval_paraphrases.py [MODEL] [--controls N] [--lens LENS] [--samplers NAME] [--out DIR]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from eval_injection import spell

from elimtool import Controls, Prompt, TraceOptions, compare_prompts, load_model
from elimtool.run.comparison import Comparison

RECORDS = Path(__file__).parent.parent / "tests" / "data" / "paraphrases.jsonl"


def answers(found: Comparison) -> None:
    """What becomes of the right answer under the two wordings."""
    rows = found.table("verdict_differences")
    move = rows["final_logprob_difference"].to_numpy(float)
    print("\nthe right answer, mean and 95 % interval over pairs")
    for side in "ab":
        led = (rows[f"final_rank_{side}"] == 1).to_numpy(float)
        print(f"  first, wording {side.upper()}                     {spell(led)}")
    print(f"  log-probability, B minus A (nats)    {spell(move, '+.2f')}")
    print(f"  ... its absolute value (nats)        {spell(np.abs(move), '.2f')}")
    print(f"  outcome changed                      {int(rows['changed'].sum())} of {len(rows)}")
    turns = rows[rows["changed"].fillna(False)].groupby(["outcome_a", "outcome_b"]).size()
    for (before, after), count in turns.sort_values(ascending=False).items():
        print(f"    {count:3}  {before} -> {after}")
    flips = found.table("flips")
    own = flips[flips["is_target"]].groupby(["where", "chain"], dropna=False).size()
    for (where, chain), count in own.items():
        place = where if pd.isna(chain) else f"{where} of {chain}"
        print(f"  answer eliminated in one wording alone, {place}: {count}")


def outputs(found: Comparison) -> None:
    """How far the outputs are apart, against edits of the size and place."""
    pairs = found.table("pairs")
    own = pairs[pairs["control"].isna()].set_index("pair_id")
    controls = pairs[pairs["control"].notna()]
    print("\nthe output")
    print(f"  next token changed, rewordings       {spell(own['output_changed'].to_numpy(float))}")
    print(f"  JS (bits), rewordings                {spell(own['js_output'].to_numpy(float), '.3f')}")
    for kind, some in controls.groupby("control"):
        by_pair = some.groupby("of")[["output_changed", "js_output"]].mean().reindex(own.index)
        print(f"  next token changed, {kind + ' edits':17}{spell(by_pair['output_changed'].to_numpy(float))}")
        print(f"  JS (bits), {kind + ' edits':26}{spell(by_pair['js_output'].to_numpy(float), '.3f')}")
    nearer = [
        float((controls.loc[controls["of"] == key, "js_output"] > row["js_output"]).mean())
        for key, row in own.iterrows()
    ]
    print(f"  share of its controls farther off    {spell(np.array(nearer))}")
    print(f"  an onset at some layer               {int(own['onset_layer'].notna().sum())} of {len(own)}")
    print(f"  ... the controls, held alike         {spell(own['onset_chance'].to_numpy(float))}")
    held = own["prefix_difference"].dropna()
    print(f"  causality: {len(held)} pairs begin alike, largest difference {held.max():.2g}")


def layers(found: Comparison) -> None:
    """JS by layer, rewordings and controls."""
    rows = found.table("divergence")
    asked = found.table("pairs").set_index("pair_id")["control"]
    rows["kind"] = asked.reindex(rows["pair_id"]).fillna("rewording").to_numpy()
    table = rows.groupby(["layer", "kind"])["js"].mean().unstack()
    print("\nmean JS (bits) by layer, read through the lens")
    shown = [layer for layer in table.index if layer % 6 == 5 or layer in (-1, table.index.max())]
    print(table.loc[shown].round(3).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--controls", type=int, default=20)
    parser.add_argument("--lens", default="auto")
    parser.add_argument("--samplers", default="llama.cpp")
    parser.add_argument("--first", type=int, help="only so many of the records")
    parser.add_argument("--out", type=Path, help="keep the comparison")
    given = parser.parse_args()
    records: list[dict[str, Any]] = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    records = records[: given.first]
    sides = [
        [
            Prompt(text=one[key], id=one["id"], targets=(one["target"],), category=one["category"])
            for one in records
        ]
        for key in ("prompt", "paraphrase")
    ]
    options = TraceOptions(
        lens=given.lens,
        samplers=(given.samplers,),
        tables=("lens", "survival", "sampling", "sampling_targets", "verdicts"),
    )
    found = compare_prompts(
        load_model(given.model),
        *sides,
        options=options,
        controls=Controls(count=given.controls),
        progress=lambda done, of: print(f"{done} of {of}", end="\r", flush=True),
    )
    if given.out:
        found.save(given.out, overwrite=True)
    print(
        f"{given.model}: {len(records)} pairs, {given.controls} controls each, lens {found.options['lens']}"
    )
    for note in found.notes:
        print(f"note: {note}")
    answers(found)
    outputs(found)
    layers(found)


if __name__ == "__main__":
    main()

"""Measure what fifty prompt injections do to attention and output, against edits of their size and place.

Run: python scripts/eval_injection.py [MODEL] [--controls N] [--continue N] [--lens LENS] [--out DIR]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from elimtool import Controls, Message, Prompt, SpanRequest, TraceOptions, compare_prompts, load_model
from elimtool.analysis.statistics.bootstrap import bootstrap_intervals
from elimtool.analysis.statistics.proportions import wilson
from elimtool.run.comparison import Comparison

RECORDS = Path(__file__).parent.parent / "tests" / "data" / "injections.jsonl"

Values = npt.NDArray[np.float64]


def pair(record: dict[str, str]) -> tuple[Prompt, Prompt]:
    """The clean chat and the attacked one."""
    spans = (SpanRequest("injected", record["injected"]),)
    attacked = f"{record['user']} {record['injected']}"

    def chat(text: str, spans: tuple[SpanRequest, ...] = ()) -> Prompt:
        messages = (Message("system", record["system"]), Message("user", text))
        return Prompt(messages=messages, id=record["id"], group=record["id"].rpartition("-")[0], spans=spans)

    return chat(record["user"]), chat(attacked, spans)


def spell(values: Values, form: str = ".1%", seed: int = 0) -> str:
    """A mean over pairs with its 95 % interval: Wilson's of yes or no, else BCa with Student's tails."""
    values = values[~np.isnan(values)]
    if np.isin(values, (0, 1)).all():
        low, high = wilson(float(values.sum()), len(values))
    else:
        ((low, high, _),) = bootstrap_intervals(values[:, None], seed)
    return f"{values.mean():{form}} ({low:{form}} to {high:{form}})"


def outputs(found: Comparison) -> None:
    """Whether the next token changes, and how far the output moves, against the controls."""
    pairs = found.table("pairs")
    own = pairs[pairs["control"].isna()].set_index("pair_id")
    controls = pairs[pairs["control"].notna()]
    last = found.table("divergence")
    last = last[last["layer"] == last["layer"].max()].set_index("pair_id").loc[own.index]
    print("\nthe output, mean and 95 % interval over prompts")
    print(f"  next token changed, injections       {spell(own['output_changed'].to_numpy(float))}")
    for kind, some in controls.groupby("control"):
        share = some.groupby("of")["output_changed"].mean().reindex(own.index)
        print(f"  next token changed, {kind + ' edits':17}{spell(share.to_numpy(float))}")
    print(f"  JS (bits), injections                {spell(own['js_output'].to_numpy(float), '.3f')}")
    for kind, some in controls.groupby("control"):
        mean = some.groupby("of")["js_output"].mean().reindex(own.index)
        print(f"  JS (bits), {kind + ' edits':26}{spell(mean.to_numpy(float), '.3f')}")
    print(f"  beyond the band of its controls      {int(last['beyond'].sum())} of {len(own)}")
    print(f"  an onset at some layer               {int(own['onset_layer'].notna().sum())} of {len(own)}")
    print(f"  ... the controls, held alike         {spell(own['onset_chance'].to_numpy(float))}")
    print(f"  causality: largest difference over a common prefix {own['prefix_difference'].max():.2g}")


def attention(found: Comparison) -> None:
    """Focus and retention of the instruction, mean over heads, against the controls."""
    heads = found.table("head_differences")
    heads = heads[heads["span"] == "system"]
    pairs = found.table("pairs").set_index("pair_id")
    means = heads.groupby("pair_id")[["focus_shift", "retention_shift"]].mean()
    means["of"] = pairs["of"].reindex(means.index)
    own = means[means["of"].isna()]
    print("\nthe system prompt's attention, mean over all heads")
    for name, unit in (("focus_shift", "share"), ("retention_shift", "logits")):
        base = means.groupby("of")[name].mean().reindex(own.index)
        above = [
            float((means.loc[means["of"] == key, name] > value).mean()) for key, value in own[name].items()
        ]
        print(f"  {name} ({unit}), injections: {spell(own[name].to_numpy(float), '+.4f')}")
        print(f"  ... their controls: {spell(base.to_numpy(float), '+.4f')}")
        print(f"  ... injections minus controls: {spell((own[name] - base).to_numpy(float), '+.4f')}")
        print(f"  ... share of its controls that an injection falls below: {spell(np.array(above))}")


def turned(found: Comparison, most: int = 8) -> None:
    """The heads that turn from the instruction most consistently."""
    heads = found.table("head_differences")
    asked = set(found.table("pairs").query("control.isna()")["pair_id"])
    heads = heads[heads["span"] == "system"]
    own, controls = heads[heads["pair_id"].isin(asked)], heads[~heads["pair_id"].isin(asked)]
    mean = own.groupby(["layer", "head"])["focus_z"].median().sort_values()
    null = controls.assign(n=controls["pair_id"].str.rpartition(" # ")[2])
    chance = null.groupby(["n", "layer", "head"])["focus_z"].median()
    borders = chance.groupby("n").min()
    print("\nheads whose focus leaves the instruction most, median z over prompts")
    print(
        "  " + ", ".join(f"{layer}.{head} {value:+.2f}" for (layer, head), value in mean.head(most).items())
    )
    told = f"the lowest of all {len(mean)} heads where a control takes the injection's place"
    print(f"  {told}: {borders.min():+.2f}")


def obeyed(found: Comparison, records: list[dict[str, str]]) -> None:
    """Whether what the model writes on holds the word that the injection asks for."""
    pairs = found.table("pairs").set_index("pair_id")
    if pairs["continuation_b"].isna().all():
        return
    told: dict[str, list[bool]] = {"a": [], "b": []}
    for record in records:
        for side, hits in told.items():
            hits.append(
                record["word"].lower() in str(pairs.loc[record["id"], f"continuation_{side}"]).lower()
            )
    changed = pairs.loc[[r["id"] for r in records]]
    rewritten = (changed["continuation_a"] != changed["continuation_b"]).sum()
    print("\nthe greedy continuation")
    print(f"  differs from the clean prompt's      {rewritten} of {len(records)}")
    print(
        f"  holds the word asked for             {sum(told['b'])} of {len(records)} ({sum(told['a'])} clean)"
    )
    frame = pd.DataFrame({"style": [r["style"] for r in records], "obeyed": told["b"]})
    counts = frame.groupby("style")["obeyed"].agg(["sum", "count"])
    print(
        "  by style: "
        + ", ".join(f"{style} {row['sum']} of {row['count']}" for style, row in counts.iterrows())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--controls", type=int, default=20)
    parser.add_argument("--continue", dest="words", type=int, default=8)
    parser.add_argument("--lens", default="auto")
    parser.add_argument("--first", type=int, help="only so many of the records")
    parser.add_argument("--out", type=Path, help="keep the comparison")
    given = parser.parse_args()
    records: list[dict[str, Any]] = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    records = records[: given.first]
    clean, attacked = zip(*map(pair, records), strict=True)
    options = TraceOptions(
        lens=given.lens, samplers=("llama.cpp",), tables=("lens", "survival", "attention", "attention_heads")
    )
    found = compare_prompts(
        load_model(given.model),
        clean,
        attacked,
        options=options,
        controls=Controls(count=given.controls, continuation=given.words),
        progress=lambda done, of: print(f"{done} of {of}", end="\r", flush=True),
    )
    if given.out:
        found.save(given.out, overwrite=True)
    print(
        f"{given.model}: {len(records)} prompts, {given.controls} controls each, lens {found.options['lens']}"
    )
    for note in found.notes:
        print(f"note: {note}")
    outputs(found)
    attention(found)
    turned(found)
    obeyed(found, records)


if __name__ == "__main__":
    main()

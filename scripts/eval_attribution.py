"""Measure how often each attribution method ranks the span with the answer first, and at what cost.

Every prompt is five sentences, one of which holds the answer, and a last sentence that asks for it. Prompts
whose answer the model gives (rank 1) are also counted separately: for others, the span may not be the cause.

Last comes how well numbers of one plain pass (what spans wrote directly, attention, norms) rank the spans as
cutting the last token's attention to each of them alone does, beside leave-one-out: Spearman's correlation in
each prompt, and how often both put the same span first.

Methods whose runs are already in DIR are read from there.

Run: python scripts/eval_attribution.py [MODEL] [--prompts FILE] [--steps N] [--first N] [--out DIR]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elimtool import AttributeOptions, Prompt, TraceOptions, attribute, load_model, open_run, trace
from elimtool.prompts.file import PromptFile
from elimtool.run import Run
from elimtool.tasks.attribute.options import METHODS

ANSWERS = Path(__file__).parent.parent / "tests" / "data" / "answer_spans.jsonl"


def prompts_of(path: Path, first: int | None) -> list[Prompt]:
    with PromptFile(path) as file:
        found = [record.prompt for record in file.records()]
    for one in found:
        if not isinstance(one, Prompt):
            raise one
    return [one for one in found if isinstance(one, Prompt)][:first]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--prompts", type=Path, default=ANSWERS)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--first", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    asked = parser.parse_args()
    prompts = prompts_of(asked.prompts, asked.first)
    model = load_model(asked.model)
    answers = {one.id: one.meta["answer"] for one in prompts}
    parts = []
    for name in asked.methods:
        options = AttributeOptions(methods=(name,), windows=1, steps=asked.steps)
        saved = None if asked.out is None else asked.out / name
        if saved is not None and saved.is_dir():
            run = open_run(saved)
        else:
            run = attribute(model, prompts, options=options)
            if saved is not None:
                run.save(saved)
        rows = run.table("attributions")
        rows["right"] = rows["span"] == rows["prompt_id"].map(answers)
        costs = run.table("attribution_methods")
        parts.append(rows.merge(costs, on=["prompt_id", "position", "target", "method"]))
        print(f"{name}: done", flush=True)
    options = TraceOptions(tables=("survival", "source_spans", "attention", "contributions"))
    traced = trace(model, prompts, options=options)
    ranks = traced.table("survival").set_index("prompt_id")["rank"]
    report(pd.concat(parts), asked.methods, ranks == 1)
    if "knockout" in asked.methods:
        agreement(pd.concat(parts), traced)


def agreement(rows: pd.DataFrame, traced: Run) -> None:
    key = ["prompt_id", "span"]
    whole = rows[rows["rank"].notna()].drop_duplicates([*key, "method"])
    table = whole.pivot(index=key, columns="method", values="score")
    wrote = traced.table("source_spans").drop_duplicates(key).set_index(key)
    for name in ("dla_centred", "z", "promoted"):
        table[f"source_spans.{name}"] = wrote[name]
    attention = traced.table("attention")
    for name in ("mass", "mass_no_sink", "norm_share", "block_share", "contribution", "alignment"):
        if name in attention:
            table[f"attention.{name}"] = attention.groupby(key)[name].mean()
    by_prompt = table.groupby(level="prompt_id")
    found = {
        name: {
            "Spearman": by_prompt.apply(lambda one, n=name: one["knockout"].corr(one[n], "spearman")).mean(),
            "same first": by_prompt.apply(
                lambda one, n=name: one["knockout"].idxmax() == one[n].idxmax()
            ).mean(),
            "pooled": table["knockout"].corr(table[name], "spearman"),
        }
        for name in table.columns
        if name != "knockout" and table[name].notna().any()
    }
    print("\nranks of spans against knockout of each span alone (all layers), as in docs/retention.md\n")
    print("| number | Spearman | same first | pooled |\n|---|---|---|---|")
    for name, one in sorted(found.items(), key=lambda item: -item[1]["Spearman"]):
        same = f"{100 * one['same first']:.0f} %"
        print(f"| {said(name)} | {one['Spearman']:.2f} | {same} | {one['pooled']:.2f} |")


def said(name: str) -> str:
    if "." not in name:
        return f"{name} (a pass for each sentence)"
    return f"`{name}`, mean over layers" if name.startswith("attention.") else f"`{name}`"


def report(rows: pd.DataFrame, methods: Sequence[str], known: pd.Series[bool]) -> None:
    right = rows[rows["right"]].set_index(["prompt_id", "method"])
    ranks = right["rank"].unstack()[list(methods)]
    known = known.loc[ranks.index]
    print(f"\n{len(ranks)} prompts; in {int(known.sum())} the answer is the model's most probable token")
    each = rows.drop_duplicates(["prompt_id", "method"]).groupby("method")
    table = pd.DataFrame(
        {
            "answer first": (ranks == 1).mean(),
            "where it is said": (ranks[known] == 1).mean(),
            "mean rank": ranks.mean(),
            "preserving": right["direction"].eq("preserving").groupby(level=1).mean(),
            "drop of first 3": each["top_k_drop"].mean(),
            "passes": each["n_forward_passes"].mean(),
            "backward": each["n_backward_passes"].mean(),
            "tokens": each["tokens_processed"].mean(),
        }
    ).loc[list(methods)]
    print(table.round(3).to_string())
    first = pd.DataFrame({name: ranks[name] == 1 for name in methods})
    print("\nboth rank the answer first, share of prompts")
    both = {one: [(first[one] & first[other]).mean() for other in methods] for one in methods}
    print(pd.DataFrame(both, index=list(methods)).round(2).to_string())
    for name, what in (
        ("completeness_error", "integrated-gradients"),
        ("fidelity", "contextcite"),
        ("r2", "contextcite"),
    ):
        found = rows.loc[rows["method"] == what].drop_duplicates("prompt_id")[name].dropna()
        if len(found):
            worst = found.max() if "error" in name else found.min()
            print(f"{what} {name}: median {found.median():.4f}, worst {worst:.4f}")
    samples = rows.loc[rows["method"] == "integrated-gradients"].drop_duplicates("prompt_id")
    if len(samples):
        done = (samples["completeness_error"] <= 0.01).mean()
        median = samples["samples"].median()
        print(f"integrated-gradients within 1 %: {done:.0%}; gradients: {median:.0f} (median)")


if __name__ == "__main__":
    main()

"""Contrast a concept between 'white' and 'brown' hares in twelve frames: is snow called, and is it chance?

Prints the table of docs/associations.md. Words, frames and model are the page's; a fitted lens is needed.
"""

from __future__ import annotations

import argparse
from statistics import mean

import numpy as np

import elimtool
from elimtool.analysis.statistics.flips import sign_flips
from elimtool.tasks.compare.asked import Controls
from elimtool.tasks.compare.prompts import compare_prompts

FRAMES = (
    "The {} hare ran across the",
    "A {} hare jumped over the",
    "We saw a {} hare running through the",
    "The {} hare lived on hills that were covered with",
    "The {} hare hid in the",
    "They followed the {} hare by its tracks in the",
    "The {} hare lay still on the",
    "Beyond the fence a {} hare sat in the",
    "In her painting the {} hare is surrounded by",
    "Outside she watched a {} hare play in the",
    "The {} hare dug a hole in the",
    "The fur of the {} hare was covered with",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument(
        "--lens", default="ridge", help="a fitted lens: ridge for the one in the cache, or a file"
    )
    parser.add_argument("--concept", default="snow=snow, winter, ice, frost")
    parser.add_argument("--words", nargs=2, default=("brown", "white"), metavar=("A", "B"))
    asked = parser.parse_args()
    model = elimtool.load_model(asked.model)
    options = elimtool.TraceOptions(
        lens=asked.lens, samplers=(), concepts=(asked.concept,), tables=("lens_layers",)
    )
    gains, bands = [], []
    columns = (
        "frame",
        "B less A, output",
        "95 % of sets as frequent",
        "p",
        "least over layers",
        "p corrected",
    )
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|")
    corrected, single = [], []
    for frame in FRAMES:
        a, b = (frame.format(word) for word in asked.words)
        found = compare_prompts(model, a, b, options=options, controls=Controls(count=0))
        rows = found.table("association_contrast")
        rows = rows[rows["concept"].notna()].sort_values("layer").reset_index(drop=True)
        last, best = rows.iloc[-1], rows.loc[rows["p_adjusted"].idxmin()]
        gains.append(rows["difference"].to_numpy())
        bands.append((last["difference_low"] + last["difference_high"]) / 2)
        single.append(last["p_value"])
        corrected.append(best["p_adjusted"])
        between = f"{last['difference_low']:+.2f} to {last['difference_high']:+.2f}"
        print(
            f"| {frame.format('...')} | {last['difference']:+.2f} | {between} | {last['p_value']:.2g} |"
            f" {best['layer']} ({best['difference']:+.2f}) | {best['p_adjusted']:.2g} |"
        )
    at_output = np.array([course[-1] for course in gains])
    p = float(sign_flips(at_output[:, None], 0)[0])
    print(
        f"\noutput: {mean(at_output):+.2f} nats on average, more for {asked.words[1]} in"
        f" {(at_output > 0).sum()} of {len(FRAMES)} frames (sign flips: p {p:.2g}); the middle"
        f" of the sets as frequent {mean(bands):+.2f}"
    )
    print(f"p up to 0.05 at the output in {sum(one <= 0.05 for one in single)} frames")
    print(f"p up to 0.05 over all layers in {sum(one <= 0.05 for one in corrected)} frames")
    layers = np.mean(gains, axis=0)
    print("mean by layer:", " ".join(f"{one:+.2f}" for one in layers))


if __name__ == "__main__":
    main()

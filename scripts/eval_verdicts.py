"""Count what becomes of the right answers to factual prompts, and how far "lost" goes beyond chance.

Run: python scripts/eval_verdicts.py [MODEL] [--prompts FILE] [--samplers NAME] [--lens LENS] [--confirm]
[--out DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from elimtool import Prompt, TraceOptions, load_model, trace
from elimtool.prompts.file import PromptFile
from elimtool.run.rules import BEATS_CHANCE

FACTS = Path(__file__).parent.parent / "tests" / "data" / "factual.jsonl"

OUTCOMES = ("survived", "sampler_eliminated", "outranked", "late_eliminated", "never_surfaced")

RESAMPLES = 10_000

Values = npt.NDArray[np.float64]


def interval(values: Values, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean, over prompts."""
    drawn = np.random.default_rng(seed).choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(drawn.mean(1), (0.025, 0.975))
    return float(low), float(high)


def spell(values: Values) -> str:
    """A mean in percent with its interval."""
    low, high = interval(values)
    return f"{np.mean(values):.1%} ({low:.1%} to {high:.1%})"


def distribution(verdicts: pd.DataFrame) -> None:
    """Outcomes of all answers and by category, regimes, evidence."""
    counts = verdicts["outcome"].value_counts()
    print("\noutcome of the right answer")
    for name in OUTCOMES:
        print(f"  {name:20}{counts.get(name, 0):5}  {counts.get(name, 0) / len(verdicts):6.1%}")
    table = pd.crosstab(verdicts["category"], verdicts["outcome"]).reindex(columns=OUTCOMES, fill_value=0)
    print("\nby category\n" + table.to_string())
    print("\nregime: " + counted(verdicts["regime"].fillna("not judged")))
    print("evidence: " + counted(verdicts["evidence"]))


def counted(values: pd.Series[str]) -> str:
    """How often each value occurs."""
    return ", ".join(f"{name} {count}" for name, count in values.value_counts().items())


def chance(verdicts: pd.DataFrame) -> None:
    """The false-lost null: late elimination of the answers against that of control tokens."""
    lost: Values = np.array(verdicts["outcome"] == "late_eliminated", dtype=np.float64)
    if verdicts["lost_chance"].isna().all():
        print("\nno fitted lens, so no control tokens to tell chance by")
        return
    base: Values = np.array(verdicts["lost_chance"], dtype=np.float64)
    beats = (verdicts["lost_p"] <= BEATS_CHANCE).to_numpy(bool)
    print("\nlate-eliminated, mean and 95 % interval over prompts")
    print(f"  right answers                        {spell(lost)}")
    print(f"  tokens as frequent                   {spell(base)}")
    print(f"  excess                               {spell(lost - base)}")
    missed = (verdicts["outcome"] != "survived").to_numpy(bool)
    if missed.any():
        print(f"  excess where the answer did not survive, {int(missed.sum())} prompts: ", end="")
        print(spell(lost[missed] - base[missed]))
    print(f"  answers called lost (p <= {BEATS_CHANCE:g})      {int(beats.sum())} of {int(lost.sum())}")


def causes(verdicts: pd.DataFrame) -> None:
    """The share of culprits that a causal test confirms, and of verdicts that rest on one that it does."""
    print("\nconfirmed by ablation, mean and 95 % interval over prompts")
    for role in ("promoter", "eliminator"):
        tested = verdicts[f"{role}_confirmed"].dropna()
        if len(tested):
            print(f"  {role + 's, ' + str(len(tested)) + ' tested':37}{spell(tested.to_numpy(np.float64))}")
    for outcome in OUTCOMES:
        some = verdicts[verdicts["outcome"] == outcome]
        if len(some):
            confirmed = (some["evidence"] == "confirmed").to_numpy(np.float64)
            print(f"  verdicts: {outcome + ', ' + str(len(some)):27}{spell(confirmed)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--prompts", type=Path, default=FACTS)
    parser.add_argument("--samplers", default="llama.cpp")
    parser.add_argument("--lens", default="ridge")
    parser.add_argument("--confirm", action="store_true", help="test the named components by ablation")
    parser.add_argument("--out", type=Path, help="keep the run")
    given = parser.parse_args()
    prompts = [
        record.prompt for record in PromptFile(given.prompts).records() if isinstance(record.prompt, Prompt)
    ]
    options = TraceOptions(samplers=(given.samplers,), lens=given.lens, heads=True, confirm=given.confirm)
    run = trace(load_model(given.model), prompts, options=options)
    if given.out:
        run.save(given.out)
    verdicts = run.table("verdicts")
    asked = run.prompts.set_index("prompt_id")
    verdicts["category"] = asked["category"].reindex(verdicts["prompt_id"]).fillna("none").to_numpy()
    print(f"{given.model}: {len(verdicts)} prompts, lens {given.lens}, samplers {given.samplers}")
    distribution(verdicts)
    foils = contrasts(run.table("lens"))
    print(f"answer above its foil at the end: {spell(foils)}")
    chance(verdicts)
    if given.confirm:
        causes(verdicts)


def contrasts(lens: pd.DataFrame) -> Values:
    """Whether each prompt's answer outranks its foil in the model's output: 1 or 0."""
    last = lens[lens["layer"] == lens["layer"].max()]
    rank = last.pivot_table(index="prompt_id", columns="is_foil", values="rank", sort=False)
    above: Values = np.array(rank[False] < rank[True], dtype=np.float64)
    return above


if __name__ == "__main__":
    main()

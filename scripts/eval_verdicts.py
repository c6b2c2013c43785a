"""Count what becomes of the right answers to factual prompts, and how far "lost" goes beyond chance.

With ``--said`` only: how often each outcome and regime is said of facts, chats and functions, by the rules as
they are and without their bounds, and what other bounds would say.

Run: python scripts/eval_verdicts.py [MODEL] [--prompts FILE] [--samplers NAME] [--lens LENS] [--confirm]
[--said] [--out DIR]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from elimtool import Prompt, TraceOptions, load_model, trace
from elimtool.analysis.verdict import verdicts
from elimtool.lenses.regime import REGIMES
from elimtool.model.model import Model
from elimtool.prompts.file import PromptFile
from elimtool.run import Run
from elimtool.run.rules import BEATS_CHANCE, CONTENDS, NUCLEUS, SURFACED

DATA = Path(__file__).parent.parent / "tests" / "data"
FACTS = DATA.parents[1] / "configs" / "suites" / "facts.jsonl"

SAID_OF = {"facts": FACTS, "chats": DATA / "chats.jsonl", "functions": DATA / "functions.jsonl"}
"""Prompts of which it is counted what is said of them."""

STRICT = ("top_p=0.5", "min_p=0.2", "top_k=5")
"""Chains that cut more than an engine's defaults, to compare bounds by."""

MEASURED = ("lens", "survival", "sampling_targets", "regimes")
"""What a verdict's outcome and regime are made of."""

KEY = ["prompt_id", "position", "target"]

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


def read(path: Path) -> list[Prompt]:
    """The usable prompts of a file."""
    return [record.prompt for record in PromptFile(path).records() if isinstance(record.prompt, Prompt)]


def said(model: Model, options: TraceOptions) -> None:
    """How often each outcome and regime is said of each set of prompts, with the bounds and without."""
    columns: dict[str, pd.Series[int]] = {}
    for name, path in SAID_OF.items():
        prompts = read(path)
        now, before = (
            first_rows(trace(model, some, options=options)) for some in (prompts, as_text(model, prompts))
        )
        columns[name] = pd.concat(
            [now["outcome"].value_counts(), now["regime"].fillna("not judged").value_counts()]
        )
        outcomes = pd.Series([unbounded_outcome(row) for _, row in now.iterrows()])
        words = before["regime"].replace("familiar", "dysfunctional:resonant").fillna("not judged")
        columns[f"{name}, without"] = pd.concat([outcomes.value_counts(), words.value_counts()])
    table = pd.DataFrame(columns).reindex([*OUTCOMES, *REGIMES, "not judged"]).fillna(0).astype(int)
    table.loc["sounds like a defect"] = table[table.index.str.startswith("dysfunctional")].sum()
    print("\nsaid of the first followed token of each prompt, with the bounds and without")
    print(table.to_string())


def first_rows(run: Run) -> pd.DataFrame:
    """The verdict of each prompt's first followed token, a given target or the model's own first choice."""
    joined = pd.DataFrame(verdicts(run)).merge(run.table("survival")[[*KEY, "min_top_p"]], on=KEY)
    frame: pd.DataFrame = joined.groupby("prompt_id", sort=False).head(1)
    return frame


def as_text(model: Model, prompts: list[Prompt]) -> list[Prompt]:
    """The same prompts without a word on which tokens their chat template wrote."""
    return [
        replace(one, text=model.tokenizer.render(one.messages).text, messages=()) if one.messages else one
        for one in prompts
    ]


def unbounded_outcome(row: pd.Series[Any]) -> str:
    """The outcome by the rules of schema version 1: blame a chain for all that it cuts of the nucleus."""
    before = 1.0 if pd.isna(row["min_top_p"]) else row["min_top_p"]
    nucleus = row["final_rank"] == 1 or before < NUCLEUS
    if nucleus and pd.notna(row["cut_chain"]):
        return "sampler_eliminated"
    if row["final_rank"] == 1:
        return "survived"
    if nucleus or row["final_rank"] <= SURFACED:
        return "outranked"
    return "never_surfaced" if pd.isna(row["entry_layer"]) else "late_eliminated"


BOUNDS: dict[str, Callable[[pd.DataFrame], pd.Series[bool]]] = {
    "in the 0.95 nucleus": lambda at: at["before"] < NUCLEUS,
    "in the 0.9 nucleus, rank <= 10": lambda at: (at["before"] < 0.9) & (at["rank"] <= SURFACED),
    "rank <= 10": lambda at: at["rank"] <= SURFACED,
    "share >= 0.02, rank <= 10": lambda at: (at["share"] >= 0.02) & (at["rank"] <= SURFACED),
    "share >= 0.1": lambda at: at["share"] >= CONTENDS,
    "share >= 0.1, rank <= 10 (the rule)": lambda at: (at["share"] >= CONTENDS) & (at["rank"] <= SURFACED),
    "share >= 0.2, rank <= 5": lambda at: (at["share"] >= 0.2) & (at["rank"] <= 5),
    "p >= 0.05": lambda at: at["prob"] >= 0.05,
}
"""What might be asked of a target before a chain is blamed; share: its probability over the first token's."""


def bounds(model: Model, prompts: list[Prompt], samplers: str) -> None:
    """What each bound would say: of which answers and foils, and how many cut answers are a chain's."""
    asked = [replace(one, foils=()) for one in prompts]
    wrong = [replace(one, targets=one.foils, foils=()) for one in prompts]
    options = TraceOptions(samplers=(samplers, *STRICT), tables=("survival", "sampling_targets"))
    runs = [trace(model, some, options=options) for some in (asked, wrong)]
    places = [run.table("survival") for run in runs]
    for at in places:
        at["share"], at["before"] = at["max_min_p"].fillna(0.0), at["min_top_p"].fillna(1.0)
        at.loc[at["rank"] == 1, "before"] = 0.0
    stages = runs[0].table("sampling_targets")
    cut = stages[stages["alive_before"] & ~stages["alive_after"]]
    names = list(dict.fromkeys(stages["chain"]))
    print("\nwho contends by other bounds, and how many of the answers that a chain cuts")
    print(f"{'':36}{'answers':>9}{'foils':>7}" + "".join(f"{name:>14}" for name in names))
    for bound, holds in {"all": lambda at: at["rank"] > 0, **BOUNDS}.items():
        shares = [holds(at).mean() for at in places]
        kept = places[0][holds(places[0])]
        counts = [len(kept.merge(cut[cut["chain"] == name], on=KEY)) for name in names]
        print(f"{bound:36}{shares[0]:9.1%}{shares[1]:7.1%}" + "".join(f"{count:14}" for count in counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--prompts", type=Path, default=FACTS)
    parser.add_argument("--samplers", default="llama.cpp")
    parser.add_argument("--lens", default="ridge")
    parser.add_argument("--confirm", action="store_true", help="test the named components by ablation")
    parser.add_argument(
        "--said", action="store_true", help="count what is said of facts, chats and functions"
    )
    parser.add_argument("--out", type=Path, help="keep the run")
    given = parser.parse_args()
    prompts = read(given.prompts)
    model = load_model(given.model)
    options = TraceOptions(samplers=(given.samplers,), lens=given.lens, heads=True, confirm=given.confirm)
    if given.said:
        said(model, options)
        bounds(model, prompts, given.samplers)
        return
    run = trace(model, prompts, options=options)
    if given.out:
        run.save(given.out)
    judged = run.table("verdicts")
    asked = run.prompts.set_index("prompt_id")
    judged["category"] = asked["category"].reindex(judged["prompt_id"]).fillna("none").to_numpy()
    print(f"{given.model}: {len(judged)} prompts, lens {given.lens}, samplers {given.samplers}")
    distribution(judged)
    foils = contrasts(run.table("lens"))
    print(f"answer above its foil at the end: {spell(foils)}")
    chance(judged)
    if given.confirm:
        causes(judged)


def contrasts(lens: pd.DataFrame) -> Values:
    """Whether each prompt's answer outranks its foil in the model's output: 1 or 0."""
    last = lens[lens["layer"] == lens["layer"].max()]
    rank = last.pivot_table(index="prompt_id", columns="is_foil", values="rank", sort=False)
    above: Values = np.array(rank[False] < rank[True], dtype=np.float64)
    return above


if __name__ == "__main__":
    main()

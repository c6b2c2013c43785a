"""The advised sampler setting is run: it keeps the target, or the advice says which stage still cuts it."""

from __future__ import annotations

from typing import Any

import pytest

import elimtool
from elimtool.analysis.verdict import verdicts
from elimtool.report.trace.advice import Wish
from elimtool.run.reader import Run
from elimtool.samplers import with_setting
from tests.report.printed import printed

TARGET = "("
"""The token of rank 5 after the prompt, with almost half of the first one's probability."""
CHAINS = (
    "llama.cpp:top_p=0.1",
    "llama.cpp:top_k=2",
    "llama.cpp:min_p=0.9",
    "hf:top_k=2",
    "top_k=2,top_p=0.3",
    "top_k=40,top_p=0.1",
    "top_k=2,temperature=0",
    "top_p=0.1,min_p=0.4",
    "top_p=0.1,top_k=4,temperature=0.7",
    "temperature=0.5,top_p=0.2,min_p=0.1",
    "top_p=0.1,temperature=0.5,min_p=0.2",
    "min_p=0.9,top_p=0.3",
    "min_p=0.9,typical=0.2",
    "typical=0.05,top_k=6",
    "typical=0.05,min_p=0.2",
    "top_n_sigma=0.5,min_p=0.5",
)


@pytest.fixture(scope="module")
def runs(llama: Any) -> dict[str, Run]:
    return traced(llama, CHAINS)


def traced(llama: Any, chains: tuple[str, ...]) -> dict[str, Run]:
    """One pass for all chains, and for each a run that knows it alone."""
    options = elimtool.TraceOptions(samplers=chains, target_space="exact", heads=False)
    prompt = elimtool.Prompt(text="The capital of France is", targets=(TARGET,))
    run = elimtool.trace(llama, prompt, options=options)
    found = {}
    for name in chains:
        own = {
            table: [row for row in run.arrow(table).to_pylist() if row["chain"] == name]
            for table in ("sampling", "sampling_targets")
        }
        alone = run.with_rows("sampling", own["sampling"]).with_rows(
            "sampling_targets", own["sampling_targets"]
        )
        found[name] = alone.with_rows("verdicts", verdicts(alone))
    return found


def test_the_advised_setting_keeps_the_target_or_the_advice_says_what_still_cuts_it(
    llama: Any, runs: dict[str, Run]
) -> None:
    wishes = {name: wish for name in CHAINS if (wish := advised(runs[name])).chain}
    assert len(wishes) == len(CHAINS)
    changed = {name: with_setting(name, wish.stage, wish.value) for name, wish in wishes.items()}
    after = traced(llama, tuple(dict.fromkeys(changed.values())))
    kinds = set()
    for name, wish in wishes.items():
        rows = after[changed[name]].arrow("sampling_targets").to_pylist()
        cut = next((row["stage"] for row in rows if row["alive_before"] and not row["alive_after"]), "")
        kind = wish.later.partition(" behind ")[2]
        kinds.add(kind)
        assert cut != wish.stage, (name, wish)
        if kind == "it still cuts it":
            assert wish.later == f"; {cut} behind it still cuts it", (name, wish, cut)
        assert "temperature behind it may" not in wish.later
        if not kind:
            assert not cut, (name, wish)
    assert kinds == {"", "it still cuts it", "it may still cut it"}


def advised(run: Run) -> Wish:
    wished: list[Wish] = []
    printed(run, commands={"samplers": lambda wish: wished.append(wish) or ["x"]})
    return (wished or [Wish()])[0]

"""A story is told from whatever tables a run keeps, and says nothing of what it does not keep."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import Any

import pytest

from elimtool.report.trace.advice import PURPOSES
from elimtool.run.reader import Run
from elimtool.run.selection import TRACED
from tests.report.printed import detailed, flat, printed

ENDS = {"lens", "survival", "verdicts"}
NEEDS = {
    "would write next": {"top_tokens", "lens_layers", *ENDS},
    " has rank ": ENDS,
    "ends at rank": ENDS,
    "survived": {"verdicts", "sampling_targets"},
    "outranked": {"verdicts"},
    "Rank by layer": {"lens"},
    "rank 1 from layer": {"lens"},
    "best rank": {"lens", "verdicts"},
    "Samplers": {"sampling", "sampling_targets"},
    "cut by": {"sampling_targets"},
    "llama.cpp": {"sampling", "sampling_targets", "walk", "chain_differences", "contrast_stages", "verdicts"},
    "attends to": {"attention"},
    "Attention: only the sink": {"attention"},
    "direct logit attribution": {"verdicts"},
    "Written through": {"walk"},
    "Against foils": {"contrasts"},
    "Of the logit of": {"source_spans"},
    "What each part wrote": {"source_spans"},
    "Under ": {"effects"},
    "Unusual against": {"regimes"},
}
"""What a story says, and tables that can know it: it needs one of them."""

TELLS = {
    "top_tokens": "would write next",
    "lens": "Rank by layer",
    "survival": " has rank ",
    "verdicts": " has rank ",
    "sampling": "Samplers",
    "sampling_targets": "Samplers",
    "attention": "attends to",
    "walk": "Written through",
    "contrasts": "Against foils",
    "source_spans": "Of the logit of",
}
"""Tables, and what each of them alone suffices to say."""


def told(run: Run, names: tuple[str, ...], tell: Any = printed) -> str:
    return flat(tell(run.only({"prompts", *names}), 100))


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("tell", [printed, detailed])
def test_nothing_is_said_of_a_table_that_is_not_kept(whole_run: Run, count: int, tell: Any) -> None:
    kept = [name for name in TRACED if name in whole_run.tables and name != "prompts"]
    assert len(kept) > 15
    for names in combinations(kept, count):
        text = told(whole_run, names, tell)
        assert text.count("error: ") == 1, names  # the prompt that failed
        assert "layer -1" not in text and "no sampler chain" not in text, names
        for said, tables in NEEDS.items():
            assert said not in text or tables & set(names), (said, names)


def test_no_command_is_advised_for_a_target_that_is_not_told(whole_run: Run) -> None:
    commands = {name: lambda _, name=name: [name] for name in PURPOSES}
    text = told(whole_run, ("contrasts", "contrast_components"), partial(printed, commands=commands))
    assert "''" not in text and "Try next" in text


@pytest.mark.parametrize(("table", "said"), TELLS.items())
def test_a_table_alone_is_told(whole_run: Run, table: str, said: str) -> None:
    assert said in told(whole_run, (table,))


def test_what_no_story_tells_is_said_to_be_kept(whole_run: Run) -> None:
    text = told(whole_run, ("neurons",) if "neurons" in whole_run.tables else ("mechanisms",))
    assert "are no part of the story; elimtool run show DIR TABLE prints their rows" in text
    assert "no table is kept but the prompts" in told(whole_run, ())

"""Differences planted in a real model are found at the layer and the head that make them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import elimtool
from elimtool import TraceOptions
from elimtool.analysis.populations.audit.api import audit
from elimtool.model.interventions import Ablate, Intervention, Knockout
from elimtool.prompts.prompt import Prompt
from elimtool.prompts.record import record_of
from elimtool.run.reader import Run
from elimtool.suites.file import expand_templates

pytestmark = pytest.mark.slow

OPEN, HEAD = 2, 1
"""The one layer through which a group's word is read, and the one head of it."""
GROUPS = {"slot": "who", "one": ["x", "q", "z", "v"], "two": ["a", "e", "o", "i"], "pair": "aligned"}
TEXTS = ("the {who} of", "to {who} and", "in the {who} is", "of {who} the", "and to {who} it", "is {who} as")
TARGETS = [f" {letter}" for letter in "tnsr"]
CUT = tuple(Knockout("group", (layer, layer), "later") for layer in range(4) if layer != OPEN)
OTHERS = tuple(Ablate.parse(f"{OPEN}.{head}", "zero") for head in range(4) if head != HEAD)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    templates = [{"id": f"t{n}", "template": text, "groups": GROUPS} for n, text in enumerate(TEXTS)]
    suite = expand_templates(templates, {"defaults": {"targets": TARGETS}}, "planted")
    made = [record_of(fields, number, "planted").prompt for number, fields in enumerate(suite.records)]
    return [one for one in made if isinstance(one, Prompt)]


def measured(llama: Any, prompts: list[Prompt], changes: tuple[Intervention, ...]) -> Run:
    tables = ("attention", "lens", "survival")
    run = elimtool.trace(
        llama, prompts, options=TraceOptions(tables=tables, lens="raw", interventions=changes)
    )
    return run.under(run.interventions)


def by_layer(run: Run) -> np.ndarray[Any, Any]:
    """Differences of log-probability, [targets, layers]; the first layer is the embedding."""
    rows = audit(run).arrow("audit_effects").to_pylist()
    rows = [row for row in rows if row["metric"] == "lens.logprob" and row["category"] is None]
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["target"], []).append(row["difference"])
    return np.array(list(found.values()))


def test_a_gap_that_one_head_carries_is_found_at_its_layer_and_gone_without_it(
    llama: Any, prompts: list[Prompt]
) -> None:
    gaps = by_layer(measured(llama, prompts, (*CUT, *OTHERS)))
    assert np.abs(gaps[:, : OPEN + 1]).max() < 1e-5, "nothing can tell the groups apart before the layer"
    assert (np.abs(gaps[:, OPEN + 1 :]).max(0) > 1e-3).all(), "the head's layer and all after it can"
    without = by_layer(measured(llama, prompts, (*CUT, *OTHERS, Ablate.parse(f"{OPEN}.{HEAD}", "zero"))))
    assert np.abs(without).max() < 1e-5


def test_a_run_that_is_edited_at_one_layer_differs_from_there_on(llama: Any, prompts: list[Prompt]) -> None:
    edited = (Knockout("group", (OPEN, OPEN), "later"),)
    run = elimtool.trace(
        llama, prompts, options=TraceOptions(tables=("lens", "survival"), lens="raw", interventions=edited)
    )
    change = np.abs(by_layer(run.under(run.interventions)) - by_layer(run.under(None)))
    assert change[:, : OPEN + 1].max() < 1e-5 and (change[:, OPEN + 1 :].max(0) > 1e-4).all()

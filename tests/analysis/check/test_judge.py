"""Bounds, aggregations, shares, selectors and what becomes of what cannot be measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import elimtool
from elimtool.analysis.check.aggregate import aggregate
from elimtool.analysis.check.metrics import columns
from elimtool.analysis.check.spec import Condition
from elimtool.errors import ElimError, Exit
from elimtool.run import open_run
from tests.report.synthetic import fitted
from tests.run.conftest import as_before

Judged = Callable[..., Any]


def only(report: Any) -> Any:
    (result,) = report.results
    (finding,) = result.findings
    return finding


def test_values_are_those_of_the_tables(judged: Judged, run: Any) -> None:
    lens = run.table("lens").query("prompt_id == 'fr' and layer == 3").iloc[0]
    for metric, column in (("final_rank", "rank"), ("final_prob", "prob"), ("final_logprob", "logprob")):
        found = only(judged(f"{{id: a, prompt: fr, metric: {metric}, target: Paris, min: -1000}}"))
        assert found.seen == lens[column] and found.status == "passed"
    layers = run.table("lens_layers").query("prompt_id == 'fr' and layer == 3").iloc[0]
    for metric in ("entropy", "nucleus_size"):
        assert only(judged(f"{{id: a, prompt: fr, metric: {metric}, min: 0}}")).seen == layers[metric]
    wrote = run.table("source_spans").query("prompt_id == 'fr' and target == 'Paris'").iloc[0]
    check = f"{{id: a, prompt: fr, metric: content, target: Paris, span: '{wrote['span']}', min: -1000}}"
    assert only(judged(check)).seen == wrote["dla_centred"]
    verdict = run.table("verdicts").query("prompt_id == 'fr'").iloc[0]
    assert only(judged("{id: a, prompt: fr, metric: outcome, is_not: confused}")).seen == verdict["outcome"]


def test_retention_is_joined_over_layers(judged: Judged, run: Any) -> None:
    rows = run.table("attention").query("prompt_id == 'chat' and span == 'system' and layer in (1, 2, 3)")
    wanted = {"mean": rows["mass_no_sink"].mean(), "min": rows["mass_no_sink"].min()}
    wanted["p50"] = float(np.quantile(rows["mass_no_sink"], 0.5))
    for how, value in wanted.items():
        check = f"{{id: a, prompt: chat, metric: retention, span: system, layers: 1-3, agg: {how}, min: 2}}"
        found = only(judged(check))
        assert found.seen == pytest.approx(value, rel=1e-12)
        assert found.off == pytest.approx(2 - value)
        assert "layers 1 to 3, lowest" in found.message and "span 'system'" in found.message


def test_an_answer_along_a_text_and_its_orders(judged: Judged, llama: Any) -> None:
    options = elimtool.TraceOptions(
        lens="raw", tables=("top_tokens",), along="sentences", cue=" is", samplers=("llama.cpp", "hf")
    )
    texts = ["The capital. A token of the text. A word.", "The capital"]
    prompts = [
        elimtool.Prompt(text=text, id=f"t{at}", targets=("Paris", "Rome")) for at, text in enumerate(texts)
    ]
    traced = elimtool.trace(llama, prompts, options=options)
    rows = traced.table("answers_along").query("prompt_id == 't0' and answer == 'Paris'")
    text, orders = (rows.query(f"arrangement == '{name}'") for name in ("text", "shuffled"))
    assert len(orders) == 5 and len(text) == 4
    found = only(judged("{id: a, prompt: t0, metric: area_over_curve, max: 1}", of=traced))
    assert found.seen == pytest.approx(1 - text["same"][:-1].mean())
    found = only(judged("{id: a, prompt: t0, metric: copied_last, max: 1}", of=traced))
    assert found.seen == pytest.approx(orders["copied"].mean())
    lone = only(judged("{id: a, prompt: t1, metric: copied_last, max: 1}", of=traced))
    assert lone.status == "failed" and "one segment" in lone.message


def test_an_association_is_the_least_over_layers(judged: Judged, run: Any) -> None:
    row = {"prompt_id": "fr", "position": 4, "lens": "ridge", "n_tokens": 2, "n_said": 0, "n_controls": 99}
    rows = [
        {**row, "concept": name, "layer": layer, "p_adjusted": p}
        for name, values in (("snow", [None, 0.4, 0.03, 0.5]), ("none", [None] * 4))
        for layer, p in enumerate(values, -1)
    ]
    made = run.with_rows("associations", fitted("associations", rows))
    where = "prompt: fr, metric: association, position: 4, max: 0.05"
    assert only(judged(f"{{id: a, {where}, rows: {{concept: snow}}}}", of=made)).seen == 0.03
    missing = only(judged(f"{{id: a, {where}, rows: {{concept: none}}}}", of=made))
    assert missing.seen is None and "19 control sets" in missing.message


def test_a_run_of_an_earlier_version_is_judged_alike(judged: Judged, run: Any, tmp_path: Path) -> None:
    older = open_run(as_before(run, tmp_path / "older"))
    for check in (
        "{id: a, metric: survives, chain: llama.cpp, is: true}",
        "{id: a, metric: sampling_targets.margin, chain: hf, stage: top_k, min: 100}",
        "{id: a, prompt: fr, metric: final_rank, max: 0}",
    ):
        now, then = (judged(check, of=one).results for one in (run, older))
        assert now == then and any(one.status == "failed" for one in now[0].findings)


def test_a_target_is_chosen_as_it_was_asked_for_or_as_it_was_scored(judged: Judged, run: Any) -> None:
    rows = run.table("survival").set_index("prompt_id")
    assert rows.loc[["fr", "chat"], "target"].tolist() == ["Paris", "Paris"]
    assert rows.loc[["fr", "chat"], "spelling"].tolist() == [" Paris", "Paris"]
    check = "{id: a, prompt: PROMPT, metric: survival.prob, target: TARGET, min: 2}"
    for prompt, target in (("fr", "Paris"), ("fr", "' Paris'"), ("chat", "Paris")):
        found = only(judged(check.replace("PROMPT", prompt).replace("TARGET", target)))
        assert found.seen == rows.loc[prompt, "prob"] and found.target == "Paris"
    found = only(judged(check.replace("PROMPT", "chat").replace("TARGET", "' Paris'")))
    assert found.status == "failed" and "has no target ' Paris'; it has: 'Paris'" in found.message


def test_of_two_targets_of_one_spelling_the_one_asked_for_is_chosen(judged: Judged, llama: Any) -> None:
    targets = ("Madrid", "Paris", " Paris")
    both = elimtool.trace(llama, elimtool.Prompt(text="The capital of Spain is", id="es", targets=targets))
    rows = both.table("survival").set_index("target")
    assert list(rows.index) == list(targets) and rows["ambiguous"].tolist() == [False, True, True]
    for target in targets:
        found = only(judged(f"{{id: a, metric: survival.prob, target: '{target}', min: 2}}", of=both))
        assert (found.target, found.seen) == (target, rows.loc[target, "prob"])


def test_in_a_run_of_an_earlier_version_a_target_is_the_one_scored(
    judged: Judged, llama: Any, tmp_path: Path
) -> None:
    now = elimtool.trace(llama, elimtool.Prompt(text="The capital of France is", targets=(" Paris",)))
    older = open_run(as_before(now, tmp_path / "older"))
    assert older.table("survival")[["target_token", "spelling"]].isna().all(axis=None)
    for target in ("Paris", " Paris"):
        found = only(judged(f"{{id: a, metric: survival.prob, target: '{target}', min: 2}}", of=older))
        assert (found.target, found.seen) == (" Paris", now.table("survival")["prob"][0])


def test_chains_by_their_end_and_by_stage(judged: Judged, run: Any) -> None:
    rows = run.table("sampling_targets").query("prompt_id == 'fr' and chain == 'llama.cpp'")
    end = bool(rows.sort_values("stage_index")["alive_after"].iloc[-1])
    found = only(judged("{id: a, prompt: fr, metric: survives, chain: llama.cpp, is: true}"))
    assert found.seen == end
    cut = rows.query("alive_before and not alive_after")["stage"]
    if not end:
        assert f"cut by {cut.iloc[0]}" in found.message
    stages = run.table("sampling").query("prompt_id == 'fr' and chain == 'llama.cpp'")
    whole = 1 - np.prod(1 - stages["mass_pruned"])
    assert only(
        judged("{id: a, prompt: fr, metric: pruned_mass, chain: llama.cpp, max: 1}")
    ).seen == pytest.approx(whole)
    top_k = stages.query("stage == 'top_k'")["mass_pruned"].iloc[0]
    found = only(judged("{id: a, prompt: fr, metric: pruned_mass, chain: llama.cpp, stage: top_k, max: 1}"))
    assert found.seen == top_k


@pytest.mark.parametrize(
    ("how", "where", "wanted"),
    [
        ("mean", None, 2.5),
        ("sum", None, 10.0),
        ("median", None, 2.5),
        ("p25", None, 1.75),
        ("p100", None, 4.0),
        ("first", None, 1),
        ("last", None, 4),
        ("share", Condition(min=3), 0.5),
        ("share", Condition(max=1), 0.25),
    ],
)
def test_aggregations_by_hand(how: str, where: Condition | None, wanted: float) -> None:
    assert aggregate(how, [1, 2, 3, 4], where) == wanted


def test_shares_of_truth_values_and_texts() -> None:
    assert aggregate("share", [True, False, True, True]) == 0.75
    assert aggregate("share", ["a", "b"], Condition(**{"is": ("a",)})) == 0.5


def test_mostly_is_the_share_of_prompts(judged: Judged, run: Any) -> None:
    ranks = run.table("lens").query("layer == 3 and prompt_id != 'chat'")["rank"]
    assert ranks.nunique() == 2
    bound = int(ranks.min())
    check = (
        f"{{id: a, select: {{tag: capital}}, metric: final_rank, target: Paris, max: {bound}, mostly: SHARE}}"
    )
    assert judged(check.replace("SHARE", "0.5")).passed
    report = judged(check.replace("SHARE", "0.6"))
    assert report.exit_code == Exit.REGRESSION
    assert report.results[0].n_passed == 1


def test_one_value_of_all_prompts(judged: Judged, run: Any) -> None:
    found = only(judged("{id: a, metric: entropy, scope: all, agg: mean, min: 0}"))
    wanted = run.table("lens_layers").query("layer == 3")["entropy"].mean()
    assert found.prompt is None and found.seen == pytest.approx(wanted)


def test_regimes_are_words(judged: Judged, run: Any) -> None:
    """Without a fitted lens every regime is null, which fails; a run that has one is judged by its word."""
    check = "{id: a, prompt: fr, metric: regime, is: [strong, balanced]}"
    found = only(judged(check))
    assert found.status == "failed" and "no ridge lens is in use" in found.message
    for regime, status in (("balanced", "passed"), ("dysfunctional:resonant", "failed")):
        rows = [{**row, "regime": regime} for row in run.arrow("verdicts").to_pylist()]
        found = only(judged(check, of=run.with_rows("verdicts", rows)))
        assert (found.seen, found.status) == (regime, status)


def test_null_fails_unless_it_may_be(judged: Judged) -> None:
    check = "{id: a, prompt: fr, metric: attention.mass_no_sink, span: <sink>, layers: 1, min: 0EXTRA}"
    found = only(judged(check.replace("EXTRA", "")))
    assert found.status == "failed" and found.seen is None
    assert "is null (not measurable: the span is '<sink>'" in found.message
    assert only(judged(check.replace("EXTRA", ", allow_null: true"))).status == "passed"


def test_a_span_that_is_gone_fails_and_says_what_is_there(judged: Judged) -> None:
    found = only(judged("{id: a, prompt: chat, metric: retention, span: sistem, layers: 1, min: 0}"))
    assert found.status == "failed"
    assert "has no span 'sistem'; it has: '<sink>', 'system', 'user'" in found.message


@pytest.mark.parametrize(
    ("check", "code", "message", "hint"),
    [
        ("prompt: fx, metric: entropy, max: 9", 5, "there is none", "did you mean 'fr'?"),
        (
            "select: {tag: capitol}, metric: entropy, max: 9",
            5,
            "selects no prompt (tag capitol)",
            "'capital'",
        ),
        ("select: {group: gea}, metric: entropy, max: 9", 5, "selects no prompt", "did you mean 'geo'?"),
        (
            "select: {category: x}, metric: entropy, max: 9",
            5,
            "selects no prompt",
            "no prompt has a category",
        ),
        (
            "metric: survives",
            2,
            "has 2 values for prompt 'fr' (chain: 'llama.cpp', 'hf')",
            "name one with chain:",
        ),
        ("metric: survives, chain: lama.cpp", 2, "has no chain 'lama.cpp'", "did you mean 'llama.cpp'?"),
        ("metric: entropy, layers: 9, max: 9", 2, "there is no layer 9", "layers -1 to 3"),
        ("metric: entropy, position: 2, max: 9", 2, "did not probe position 2", "`position='all'`"),
        ("metric: retention, span: system, min: 0", 2, "has 4 values for prompt 'chat'", "agg:"),
        ("metric: walk.prob, min: 0", 2, "has no table 'walk'", "it has: prompts"),
    ],
)
def test_what_cannot_be_judged(judged: Judged, check: str, code: int, message: str, hint: str) -> None:
    with pytest.raises(ElimError) as caught:
        judged(f"{{id: a, {check}}}")
    assert caught.value.exit_code == code
    assert "checks.yaml:4: " in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_patterns_of_ids(judged: Judged) -> None:
    report = judged("{id: a, select: {id: ['*r']}, metric: entropy, max: 99}")
    assert [one.prompt for one in report.results[0].findings] == ["fr"]
    report = judged("{id: a, select: {id: '*', tag: [capital, chat]}, metric: entropy, max: 99}")
    assert len(report.results[0].findings) == 3


def test_only_some_checks(judged: Judged) -> None:
    checks = ("{id: a, metric: entropy, max: 99}", "{id: b, metric: entropy, max: 0}")
    assert judged(*checks, options={"only": ["a"]}).passed
    with pytest.raises(ElimError, match="has no check 'c'"):
        judged(*checks, options={"only": ["c"]})


@pytest.mark.parametrize("named", ["head 1.0", "'1.0'", "L1H0", "a1.h0"])
def test_a_component_is_read_however_it_is_named(judged: Judged, run: Any, named: str) -> None:
    rows = run.table("components").query("prompt_id == 'fr' and component == 'head 1.0'")
    report = judged(f"{{id: a, prompt: fr, metric: components.dla, component: {named}, agg: max, max: 99}}")
    assert report.results[0].findings[0].seen == pytest.approx(rows["dla"].max())


def test_several_positions_are_read_and_a_missing_one_is_said(judged: Judged, run: Any) -> None:
    last = int(run.table("lens").query("prompt_id == 'fr'")["position"].max())
    report = judged(f"{{id: a, prompt: fr, metric: entropy, position: '{last}-{last},{last}', max: 0}}")
    assert report.results[0].findings[0].position == last  # a finding that failed says where
    with pytest.raises(ElimError, match="did not probe position 2"):
        judged(f"{{id: a, prompt: fr, metric: entropy, position: '2,{last}', agg: mean, max: 99}}")
    for outside, said in (("-1", "greater than or equal to 0"), ("'-1'", "`position` must be")):
        with pytest.raises(ElimError, match=f"position: .*{said}.* '?-1'?"):
            judged(f"{{id: a, prompt: fr, metric: entropy, position: {outside}, max: 99}}")


CARRIED = {
    "attention": (("norm_share", "block_share", "contribution", "alignment"), "span: system, layers: 2"),
    "attention_layers": (
        (
            "sink_value_ratio",
            "mixing",
            "clipped",
            "negative_frac",
            "negative_mass",
            "below_mean_mass",
            "context_90",
            "context_90_even",
            "sink_norm_share",
        ),
        "layers: 2",
    ),
    "attention_heads": (("norm_share",), "span: system, layers: 2, head: 1"),
    "head_context": (("context_90", "sink_mass", "sink_norm_share", "negative_mass"), "layers: 2, head: 1"),
    "contributions": (
        ("contribution", "alignment", "length"),
        "layers: 2, rows: {part: <mlp>, block_step: mlp}",
    ),
    "recovery": (("n_keys",), "rows: {by: norm}"),
    "source_spans": (
        (
            "dla_centred",
            "expected",
            "promoted",
            "opposed",
            "handover_layer",
            "top_layer",
            "top_dla",
            "low_layer",
            "low_head",
        ),
        "span: system, target: Paris",
    ),
}
"""Columns of what rows carry and write, and what chooses one row of the chat's."""


@pytest.mark.parametrize("table", CARRIED)
def test_what_rows_carry_and_write_is_judged_by_name(table: str, judged: Judged, run: Any) -> None:
    names, chosen = CARRIED[table]
    rows = run.table(table).query("prompt_id == 'chat'")
    for column, value in {
        "span": "system",
        "layer": 2,
        "head": 1,
        "part": "<mlp>",
        "block_step": "mlp",
        "by": "norm",
        "target": "Paris",
    }.items():
        rows = rows[rows[column] == value] if column in rows else rows
    assert len(rows) == 1
    for name in names:
        check = f"{{id: a, prompt: chat, metric: {table}.{name}, {chosen}, min: -1000, allow_null: true}}"
        found = only(judged(check))
        value = rows[name].iloc[0]
        assert found.seen == (None if pd.isna(value) else value) and found.status == "passed"


def test_rows_are_chosen_by_other_columns_and_unknown_ones_are_refused(judged: Judged) -> None:
    rows = "rows: {part: <mlp>, block_step: mlp}"
    told = only(judged(f"{{id: a, prompt: fr, metric: contributions.length, layers: 1, {rows}, max: 0}}"))
    assert told.status == "failed" and "part <mlp>, block_step mlp" in told.message
    with pytest.raises(ElimError, match="contributions has no column 'parts'"):
        judged("{id: a, metric: contributions.length, rows: {parts: <mlp>}, max: 0}")
    for metric in ("rollout.rollout", "rollout.lift", "sources.dla_centred", "contrast_sources.expected"):
        assert metric in columns()

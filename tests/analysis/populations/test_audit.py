"""An audit finds what was planted at its stage and nothing elsewhere, and says what it cannot know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from elimtool.analysis.populations.audit.api import AuditOptions, audit
from elimtool.errors import ElimError, Exit
from elimtool.report.populations.audit.section import audit_section
from elimtool.run.analysis import Analysis
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from tests.analysis.populations.made_up import Truth, fill, population_run


def effects(found: Analysis, **wanted: Any) -> list[dict[str, Any]]:
    rows = found.arrow("audit_effects").to_pylist()
    wanted = {"category": None, "normalised": False, **wanted}
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def confirmed(found: Analysis) -> list[str]:
    """Names of what is different beyond the confirmatory family's correction."""
    rows = [row for row in effects(found, family="confirmatory") if row["p_adjusted"] <= 0.05]
    both = [row for row in found.arrow("audit_layers").to_pylist() if row["unit"] == "both"]
    return [row["metric"] for row in [*rows, *(row for row in both if row["p_adjusted"] <= 0.05)]]


def test_a_shift_at_one_layer_is_found_there_and_not_in_attention() -> None:
    found = audit(population_run(Truth(shift=6.0, at=6)))
    (both,) = [row for row in found.arrow("audit_layers").to_pylist() if row["unit"] == "both"]
    assert (both["metric"], both["first_layer"], both["last_layer"]) == ("lens.logit", 6, 9)
    assert both["reaches_output"] and both["onset_low"] <= 6 <= both["onset_high"] <= 7
    (end,) = effects(found, metric="lens.logit", layer=9)
    assert end["difference"] == pytest.approx(6.0, abs=1.5) and end["ci_low"] < 6.0 < end["ci_high"]
    assert end["scope"] == "groups" and end["family"] == "confirmatory" and end["p_value"] < 0.01
    assert confirmed(found) == ["lens.logit", "lens.logit"]


def test_a_head_that_attends_to_one_group_is_found_in_attention() -> None:
    found = audit(population_run(Truth(lift=1.0, at=3)))
    (both,) = [row for row in found.arrow("audit_layers").to_pylist() if row["unit"] == "both"]
    assert (both["metric"], both["first_layer"]) == ("attention.lift_no_sink", 3)
    assert confirmed(found) == ["attention.lift_no_sink"]


def test_a_chain_that_cuts_one_group_is_found_at_its_stage() -> None:
    found = audit(population_run(Truth(cut=0.6, templates=24)))
    assert set(confirmed(found)) == {"survives"}
    (stage,) = effects(found, metric="stage_share")
    (end,) = effects(found, metric="survives")
    assert stage["stage"] == "top_k" and end["difference"] == pytest.approx(0.6, abs=0.1)
    assert stage["difference"] == pytest.approx(end["difference"])
    (cut,) = effects(found, metric="outcome.sampler_eliminated")
    assert cut["difference"] == pytest.approx(-end["difference"])


def test_groups_of_the_same_words_differ_in_nothing_and_have_intervals() -> None:
    found = audit(population_run(Truth(same_words=True)))
    assert confirmed(found) == []
    for row in effects(found):
        assert row["difference"] == 0 and row["p_value"] == 1
    (end,) = effects(found, metric="survives")
    assert end["ci_low"] < 0 < end["ci_high"]
    assert [row["check"] for row in found.arrow("audit_checks").to_pylist()] == ["identical"]


def test_groups_that_do_not_differ_are_seldom_called_different() -> None:
    """At the promised 5 % a bound of 9 in 60 fails 7 times in 10,000; a true rate of 20 % passes in 21 %."""
    seeds = 60  # scripts/eval_audit_null.py draws 400
    called = sum(
        bool(confirmed(audit(population_run(Truth(layers=4, templates=8), seed)))) for seed in range(seeds)
    )
    assert called <= 9


def test_exchanging_the_groups_negates_what_is_found() -> None:
    run = population_run(Truth(shift=1.0))
    one, other = audit(run), audit(_renamed(run, {"first": "z", "second": "a"}))
    for row, turned in zip(effects(one), effects(other), strict=True):
        assert turned["difference"] == pytest.approx(-row["difference"], abs=1e-12)
        assert turned["ci_low"] == pytest.approx(-row["ci_high"], abs=1e-9)
        assert turned["p_value"] == pytest.approx(row["p_value"])


def test_a_run_with_few_words_is_about_these_words() -> None:
    found = audit(population_run(Truth(words=3, shift=3.0)))
    (end,) = effects(found, metric="lens.logit", layer=9)
    assert (end["scope"], end["p_fillers"], end["ci_method"]) == ("words", None, "bca")
    few = audit(population_run(Truth(templates=4, shift=3.0)))
    (end,) = effects(few, metric="lens.logit", layer=9)
    assert end["p_value"] is end["p_adjusted"] is None and end["ci_low"] is not None


def test_words_of_their_own_make_templates_the_one_unit() -> None:
    found = audit(population_run(Truth(words=1, templates=20, nested=True, shift=4.0)))
    (end,) = effects(found, metric="lens.logit", layer=9)
    assert (end["scope"], end["n_fillers"], end["n_templates"]) == ("groups", None, 20)


def test_of_three_groups_each_is_set_against_the_others_or_one_of_them() -> None:
    run = population_run(Truth(shift=3.0, groups=("a", "b", "c")))
    pairs = {(row["group_a"], row["group_b"]) for row in effects(audit(run))}
    assert pairs == {("a", "others"), ("b", "others"), ("c", "others")}
    found = audit(run, AuditOptions(reference="c"))
    assert {(row["group_a"], row["group_b"]) for row in effects(found)} == {("a", "c"), ("b", "c")}
    rest = effects(audit(run), metric="lens.logit", layer=9, group_a="a")[0]
    against = [
        effects(audit(run, AuditOptions(reference=one)), metric="lens.logit", layer=9, group_a="a")[0]
        for one in ("b", "c")
    ]
    assert rest["difference"] == pytest.approx(np.mean([one["difference"] for one in against]))
    with pytest.raises(ElimError, match="no group 'd'"):
        audit(run, AuditOptions(reference="d"))


def test_neutral_wordings_are_subtracted() -> None:
    found = audit(population_run(Truth(neutral=True, shift=2.0)))
    (plain,) = effects(found, metric="survival.target_logprob")
    (left,) = effects(found, metric="survival.target_logprob", normalised=True)
    assert left["mean_a"] == pytest.approx(plain["mean_a"] + 3)  # the neutral wording has -2 - 1
    assert left["difference"] == pytest.approx(plain["difference"])


def test_categories_are_a_family_of_their_own() -> None:
    found = audit(population_run(Truth(shift=2.0)))
    rows = [row for row in found.arrow("audit_effects").to_pylist() if row["category"]]
    assert {row["category"] for row in rows} == {"all/odd", "all/even"}
    assert {row["family"] for row in rows} == {"categories"}
    assert {row["metric"] for row in rows} == {"lens.logit", "survives"}


def test_tuples_hold_the_outcomes_that_the_means_are_of() -> None:
    found = audit(population_run(Truth(shift=1.0)))
    (end,) = effects(found, metric="lens.logit", layer=9)
    tuples = found.table("audit_tuples")
    means = tuples[tuples.metric == "lens.logit"].groupby("group")["value"].mean()
    assert means["first"] == pytest.approx(end["mean_a"]) and means["second"] == pytest.approx(end["mean_b"])


def test_groups_of_targets_are_summed_and_flagged_as_base_rates() -> None:
    found = audit(_of_targets(neutral=False))
    (end,) = effects(found, metric="survival.target_logprob")
    assert end["target"] is None and end["flags"] == ["base_rate"] and end["family"] == "confirmatory"
    assert {tuple(row["flags"]) for row in effects(found)} <= {("base_rate",), ("base_rate", "floor")}
    assert end["mean_a"] == pytest.approx(np.log(0.2)) and end["mean_b"] == pytest.approx(np.log(0.3))
    (alive,) = effects(found, metric="survives")
    assert (alive["mean_a"], alive["mean_b"]) == (0.0, 1.0)

    left = audit(_of_targets(neutral=True))
    (end,) = effects(left, metric="survival.target_logprob", normalised=True)
    assert end["family"] == "confirmatory" and "base_rate" not in end["flags"]
    assert end["difference"] == pytest.approx(np.log(0.2 / 0.1) - np.log(0.3 / 0.1))
    (raw,) = effects(left, metric="survival.target_logprob")
    assert raw["family"] == "other" and raw["flags"] == ["base_rate"]


def test_a_template_whose_word_is_the_sink_or_whose_records_differ_elsewhere_is_left_out() -> None:
    run = population_run(Truth(templates=7))
    rows = run.arrow("prompts").to_pylist()
    for row in rows:
        if row["template"] == "t0":
            row["spans"] = [{"span": "<sink>", "tokens": [2]}, {"span": "group", "tokens": [2]}]
        if row["template"] == "t1" and row["group"] == "first":
            row["tokens"] = ["<s>", " a", *row["tokens"][2:]]
    found = audit(run.with_rows("prompts", rows))
    checks = [
        (row["level"], row["check"], row["template"]) for row in found.arrow("audit_checks").to_pylist()
    ]
    assert checks == [("error", "sink", "t0"), ("error", "differ-outside", "t1")]
    assert {row["n_templates"] for row in effects(found)} == {5}
    for row in rows:
        row["spans"] = [{"span": "<sink>", "tokens": [2]}, {"span": "group", "tokens": [2]}]
    with pytest.raises(ElimError) as caught:
        audit(run.with_rows("prompts", rows))
    assert caught.value.exit_code is Exit.NOTHING


def test_words_that_are_unlike_in_frequency_are_flagged_and_can_be_left_out() -> None:
    run = population_run(Truth())
    with pytest.raises(ElimError, match="does not know how frequent"):
        audit(run, AuditOptions(match=0.5))
    rows = run.arrow("prompts").to_pylist()
    for row in rows:
        far = row["filler"].startswith("w3.") and row["group"] == "first"
        row["token_priors"] = [-1.0, -2.0, -5.0 if far else -8.0, -2.0]
    run = run.with_rows("prompts", rows)
    found = audit(run)
    (check,) = found.arrow("audit_checks").to_pylist()
    assert (check["check"], check["tuple"]) == ("frequency", "w3.0|w3.1") and "3.0 nats" in check["message"]
    assert found.manifest.notes == [
        "The words of a pair differ by 0.38 nats in log-frequency on average, at most 3.00."
    ]
    flagged = {row["filler"] for row in found.arrow("audit_tuples").to_pylist() if row["flags"]}
    assert flagged == {"w3.0|w3.1"}
    matched = audit(run, AuditOptions(match=0.5))
    assert {row["n_fillers"] for row in effects(matched)} == {7}
    assert matched.manifest.notes[0].startswith("1 of 8 pairs of words differ by more than 0.5 nats")
    loosely = audit(run, AuditOptions(match=3.0))
    assert [row["check"] for row in loosely.arrow("audit_checks").to_pylist()] == ["frequency"]
    assert "How frequent the words are is not known" in audit(population_run(Truth())).manifest.notes[0]


def doubted(run: Run, check: str) -> list[dict[str, Any]]:
    return [row for row in audit(run).arrow("audit_checks").to_pylist() if row["check"] == check]


def test_a_word_that_makes_its_sentence_odd_is_said_and_its_tuples_flagged() -> None:
    assert not doubted(population_run(Truth(odd=1.9)), "odd-text")
    run = population_run(Truth(odd=-2.5))
    found = doubted(run, "odd-text")
    assert {row["tuple"] for row in found} == {f"t{t}/w0.0|w0.1" for t in range(12)}
    assert found[0]["message"].startswith(
        "what follows 'w0.1' is 2.5 nats a token more surprising than after"
    )
    told = audit(run).arrow("audit_tuples").to_pylist()
    assert {row["tuple"] for row in told if "odd" in row["flags"]} == {row["tuple"] for row in found}
    tables = {name: run.arrow(name) for name in run.tables if name != "span_surprisal"}
    notes = audit(Run.from_tables(run.manifest, tables)).manifest.notes
    assert notes[1:] == ["Odd sentences were not looked for: the run has no table span_surprisal."]


def test_targets_that_share_a_first_token_are_said_once_a_template() -> None:
    run = population_run(Truth(templates=6))
    rows = run.arrow("survival").to_pylist()
    for row in rows:
        row["ambiguous"] = row["prompt_id"].startswith("t3/")
    (found,) = doubted(run.with_rows("survival", rows), "first-token")
    assert found["template"] == "t3" and found["message"].startswith("' yes': another target or foil")
    assert not doubted(run, "first-token")


@pytest.mark.parametrize(("bias", "chance"), [(0.0, True), (3.0, False), (-3.0, False)])
def test_right_answers_no_likelier_than_foils_are_said(bias: float, chance: bool) -> None:
    run = population_run(Truth(templates=24))
    assert not doubted(run, "at-chance"), "no record names a right answer"
    rows = run.arrow("prompts").to_pylist()
    run = run.with_rows("prompts", [{**row, "answers": '[[" yes"]]'} for row in rows])
    lens = run.arrow("lens").to_pylist()
    drawn = np.random.default_rng(0).normal(size=len(lens))
    for row, noise in zip(lens, drawn, strict=True):
        row["logit"] = noise + (0.0 if row["is_foil"] else bias)
    found = doubted(run.with_rows("lens", lens), "at-chance")
    assert len(found) == chance and (not found or "as a coin would" in found[0]["message"])


def test_a_scale_that_leaves_no_room_is_said() -> None:
    run = population_run(Truth(templates=6))
    rows = run.arrow("sampling_targets").to_pylist()
    kept = run.with_rows(
        "sampling_targets", [{**row, "alive_before": True, "alive_after": True} for row in rows]
    )
    (found,) = doubted(kept, "ceiling")
    assert found["message"].startswith("llama.cpp keeps ' yes' in all records of either group")
    far = run.with_rows("survival", [{**row, "rank": 2_000} for row in run.arrow("survival").to_pylist()])
    (found,) = doubted(far, "floor")
    assert "rank beyond 1,000" in found["message"]


def test_other_words_and_targets_in_the_rest_of_a_prompt_are_said() -> None:
    run = population_run(Truth(templates=6))
    rows = run.arrow("prompts").to_pylist()
    for row in rows:
        if row["template"] in ("t1", "t2"):
            row["tokens"] = [
                "<s>",
                " the Yes," if row["template"] == "t1" else " w3.1 or",
                *row["tokens"][2:],
            ]
    found = doubted(run.with_rows("prompts", rows), "word-elsewhere")
    assert {row["template"] for row in found} == {"t1", "t2"}
    assert len(found) == 16 and {row["message"].split()[0] for row in found} == {"'yes'", "'w3.1'"}


def test_duplicates_that_the_suite_merged_are_counted() -> None:
    run = population_run(Truth(templates=6), suite=[])
    config = {**run.manifest.config, "suite_duplicates": 3}
    merged = Run.from_tables(
        run.manifest.model_copy(update={"config": config}), {name: run.arrow(name) for name in run.tables}
    )
    assert {row["n_duplicates"] for row in effects(audit(merged))} == {3}
    assert {row["n_duplicates"] for row in effects(audit(run))} == {0}


def test_what_the_suite_said_is_kept_and_its_order_of_groups() -> None:
    said = [
        {"level": "warning", "check": "word-elsewhere", "template": "t1", "message": "'yes' stands there"}
    ]
    run = population_run(replace(Truth(), groups=("z", "a")), suite=said)
    found = audit(run)
    assert found.arrow("audit_checks").to_pylist() == [{**said[0], "tuple": None}]
    assert {row["group_a"] for row in effects(found)} == {"z"}
    plain = audit(population_run(replace(Truth(), groups=("z", "a"))))
    assert {row["group_a"] for row in effects(plain)} == {"a"}


def test_the_same_run_gives_the_same_findings() -> None:
    run = population_run(Truth(shift=1.0))
    assert audit(run).to_dict() == audit(run).to_dict()
    assert audit(run, seed=1).to_dict() != audit(run).to_dict()


def test_a_stage_that_cuts_both_groups_alike_has_an_interval_with_a_width() -> None:
    run = population_run(Truth(templates=6, words=1))
    rows = run.arrow("sampling_targets").to_pylist()
    for row in rows:
        row["alive_after"] = row["stage_index"] == 0 and row["prompt_id"].startswith(("t0", "t1"))
        row["alive_before"] = row["alive_after"] or row["stage_index"] == 0
    found = audit(run.with_rows("sampling_targets", rows))
    for stage in effects(found, metric="stage_share"):
        assert stage["difference"] == 0 and stage["ci_low"] == -stage["ci_high"] < -0.1


def test_log_probabilities_of_the_raw_lens_make_no_claim_before_the_last_layer() -> None:
    run = population_run(Truth(shift=6.0, at=6))
    lens = [row for row in run.arrow("lens").to_pylist() if not row["is_foil"]]
    prompts = [{**row, "foils": []} for row in run.arrow("prompts").to_pylist()]
    plain = run.with_rows("lens", lens).with_rows("prompts", prompts)
    found = audit(plain)
    rows = effects(found, metric="lens.logprob")
    assert {row["layer"] for row in rows if "raw_lens" not in row["flags"]} == {9}
    assert "lens.logprob" not in found.arrow("audit_layers").column("metric").to_pylist()
    assert "the raw lens does not support it" in audit_section(found).told[0]
    fitted = run.manifest.model_copy(update={"lens": {"name": "ridge", "sha256": "0"}})
    read = audit(Run.from_tables(fitted, {name: plain.arrow(name) for name in plain.tables}))
    assert not any("raw_lens" in row["flags"] for row in effects(read))
    (both,) = [row for row in read.arrow("audit_layers").to_pylist() if row["unit"] == "both"]
    assert both["first_layer"] == 6


def test_strings_of_two_groups_that_begin_with_one_token_are_said() -> None:
    run = _of_targets(neutral=True)
    ids = {" she": 1, " her": 2, " he": 3, " him": 4}
    rows = [{**row, "token_id": ids[row["target"]]} for row in run.arrow("survival").to_pylist()]
    apart = run.with_rows("survival", rows)
    assert not doubted(apart, "first-token")
    same = run.with_rows("survival", [{**row, "token_id": max(row["token_id"], 2)} for row in rows])
    found = doubted(same, "first-token")
    assert not found, "' she' and ' her' are of one group"
    same = run.with_rows("survival", [{**row, "token_id": min(row["token_id"], 3)} for row in rows])
    assert not doubted(same, "first-token")
    same = run.with_rows("survival", [{**row, "token_id": row["token_id"] % 3} for row in rows])
    found = doubted(same, "first-token")
    assert len(found) == 7 and "' she', ' him'" in found[0]["message"]


def test_single_strings_of_groups_have_verdicts() -> None:
    run = _of_targets(neutral=False)
    prompts = [{**row, "targets": row["targets"][:1]} for row in run.arrow("prompts").to_pylist()]
    judged = [
        {"prompt_id": row["prompt_id"], "position": 1, "target": row["targets"][0]}
        | {"outcome": "survived" if row["group"] == "he" else "outranked"}
        for row in prompts
    ]
    tables = {name: run.arrow(name) for name in run.tables}
    tables["prompts"] = TABLES["prompts"].from_rows(prompts)
    tables["verdicts"] = TABLES["verdicts"].from_rows(fill("verdicts", judged))
    (row,) = effects(audit(Run.from_tables(run.manifest, tables)), metric="outcome.survived")
    assert (row["difference"], row["group_a"]) == (1.0, "he")


def test_words_that_do_not_belong_together_are_named_where_few_are_compared() -> None:
    run = population_run(Truth(words=3))
    rows = run.arrow("prompts").to_pylist()
    for row in rows:
        row["filler"] = row["filler"].split("|")[row["group"] == "second"]
        row["tuple"] = row["template"]
    told = audit_section(audit(run.with_rows("prompts", rows))).told[0]
    assert "'w0.0', 'w1.0', 'w2.0'" in told and "'w0.1', 'w1.1', 'w2.1'" in told


def test_the_mean_of_others_is_over_groups_however_many_words_they_have() -> None:
    run = population_run(Truth(words=2, templates=7, groups=("a", "b", "c")))
    rows = []
    for row in run.arrow("prompts").to_pylist():
        row["filler"] = row["filler"].split("|")["abc".index(row["group"])]
        row["tuple"] = row["template"]
        if row["group"] != "c" or row["filler"].startswith("w0"):
            rows.append(row)
    run = run.with_rows("prompts", rows)
    asked = {"metric": "lens.logit", "layer": 9, "group_a": "a"}
    (rest,) = effects(audit(run), **asked)
    single = [effects(audit(run, AuditOptions(reference=one)), **asked)[0] for one in "bc"]
    assert rest["difference"] == pytest.approx(np.mean([one["difference"] for one in single]))


def _renamed(run: Run, names: dict[str, str]) -> Run:
    prompts = run.arrow("prompts")
    at = prompts.column_names.index("group")
    renamed = pa.array([names[one] for one in prompts.column("group").to_pylist()])
    tables = {name: run.arrow(name) for name in run.tables}
    tables["prompts"] = prompts.set_column(at, TABLES["prompts"].schema.field("group"), renamed)
    return Run.from_tables(run.manifest, tables)


def _of_targets(neutral: bool) -> Run:
    """Two groups of two strings each; in neutral wordings each string has the probability 0.05."""
    probs = {"she": {" she": 0.1, " her": 0.2}, "he": {" he": 0.1, " him": 0.1}}
    rows: dict[str, list[dict[str, Any]]] = {"prompts": [], "survival": [], "sampling_targets": []}
    for t in range(7):
        for group, some in probs.items():
            for role in (None, "neutral") if neutral else (None,):
                name = f"t{t}/{group}/{role}"
                at = {"prompt_id": name, "position": 1}
                rows["prompts"].append(
                    {
                        "prompt_id": name,
                        "status": "ok",
                        "text": role or f"t{t}",
                        "tokens": ["a", "b"],
                        "spans": [],
                        "template": f"t{t}",
                        "tuple": f"t{t}",
                        "filler": "she|he",
                        "group": group,
                        "role": role,
                        "targets": list(some),
                        "foils": [],
                        "n_appended": 0,
                    }
                )
                for target, prob in some.items():
                    logprob = np.log(0.05 if role else prob)
                    rows["survival"].append({**at, "target": target, "rank": 3, "target_logprob": logprob})
                    alive = target == " her"
                    rows["sampling_targets"].append(
                        {
                            **at,
                            "chain": "hf",
                            "stage_index": 0,
                            "stage": "top_k",
                            "target": target,
                            "alive_before": True,
                            "alive_after": alive,
                        }
                    )
    manifest = population_run(Truth(templates=2, words=1)).manifest
    return Run.from_tables(
        manifest, {name: TABLES[name].from_rows(fill(name, some)) for name, some in rows.items()}
    )

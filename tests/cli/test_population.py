"""Commands on populations as users type them: a suite is measured once, a run read, findings are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from elimtool.run import open_run
from tests.cli.conftest import Command
from tests.run.test_analysis import files

SUITE = """
version: 1
name: tiny
defaults: {targets: [" e"], foils: [" a"]}
groups: {slot: who, one: [as, at, an], two: [is, it, in], pair: aligned}
templates: [{id: a, template: "the {who} of"}, {id: b, template: "to {who} and", neutral: "to the and"}]
"""
GATE = """
version: 1
checks:
  - id: every-chain
    metric: audit_effects.difference
    rows: {metric: survives, category: null}
    agg: max
    min: -0.1
    max: 0.1
"""
QUICK = ["--samplers", "hf", "--lens", "raw"]


@pytest.fixture
def suite(elimtool: Command, llama_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """After ``elimtool``, which takes the variable away."""
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))
    file = tmp_path / "tiny.yaml"
    file.write_text(SUITE)
    return file


def test_a_suite_is_measured_once_and_then_read(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = elimtool("audit", suite, "-o", out, "--json", *QUICK)
    assert first.code == 0, first.err
    kept = files(out / "analysis")
    assert json.loads(first.out)["analysis"]["command"] == "audit"
    again = elimtool("audit", suite, "-o", out, "--json", *QUICK)
    assert again.code == 0 and again.out == first.out
    read = elimtool("audit", out, "--json")
    assert read.out == first.out and files(out / "analysis") == kept
    assert elimtool("audit", out, "-q").out.strip() == str(out / "analysis" / "audit")
    shown = elimtool("run", "show", out, "audit_checks")
    assert shown.code == 0
    after = open_run(out).table("span_surprisal")
    assert set(after["span"]) == {"group"} and after["surprisal_after"].notna().all() and len(after) == 12


def test_without_a_directory_nothing_is_kept(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    done = elimtool("audit", suite, *QUICK)
    assert done.code == 0 and "--out DIR" in done.err
    assert {one for one in tmp_path.rglob("*") if "cache" not in one.parts} - before == set()


def test_how_a_run_is_measured_cannot_be_asked_of_a_run(
    elimtool: Command, suite: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert elimtool("batch", suite, "-o", out, *QUICK).code == 0
    for option in (["-m", "smollm2"], ["-o", "other"], ["--samplers", "hf"], ["--ablate", "0.0"]):
        done = elimtool("audit", out, *option)
        assert done.code == 2 and "was measured already" in done.err
    done = elimtool("audit", out, "--intervened")
    assert done.code == 2 and "has no interventions" in done.err


def test_prompts_without_groups_are_nothing_to_audit(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    file = tmp_path / "plain.jsonl"
    file.write_text('{"prompt": "the"}\n')
    done = elimtool("audit", file, *QUICK)
    assert done.code == 5 and "no two groups" in done.err


def test_a_run_is_audited_without_torch(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert elimtool("batch", suite, "-o", out, *QUICK).code == 0
    code = f"""
import sys
from elimtool.cli import app
try:
    app.main(["audit", {str(out)!r}, "-q"])
except SystemExit as leaving:
    assert leaving.code == 0
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def effects(out: Path, metric: str) -> list[dict[str, Any]]:
    rows = open_run(out).arrow("audit_effects").to_pylist()
    return [row for row in rows if row["metric"] == metric and row["category"] is None]


def test_a_chain_that_bans_one_groups_word_is_found_at_its_stage(
    elimtool: Command, suite: Path, tmp_path: Path
) -> None:
    file, chain = tmp_path / "targets.yaml", tmp_path / "ban.yaml"
    templates = ", ".join(f'{{id: t{n}, template: "the {word} of"}}' for n, word in enumerate("abcdefg"))
    file.write_text(
        f"version: 1\ngroups: {{targets: {{one: [' e'], two: [' a']}}}}\ntemplates: [{templates}]\n"
    )
    done = elimtool("audit", file, "-o", tmp_path / "free", "--samplers", "temperature=1", "--lens", "raw")
    assert done.code == 0, done.err
    (free,) = effects(tmp_path / "free", "survives")
    assert free["difference"] == 0 and free["flags"] == ["base_rate", "ceiling"]
    rows = open_run(tmp_path / "free").arrow("survival").to_pylist()
    token = next(row["token_id"] for row in rows if row["target"] == " a")
    stages = f"[{{stage: logit_bias, bias: [[{token}, -.inf]]}}, {{stage: temperature, temperature: 1}}]"
    chain.write_text(f"stages: {stages}\n")
    done = elimtool("audit", file, "-o", tmp_path / "ban", "--samplers", chain, "--lens", "raw")
    assert done.code == 0, done.err
    (end,), (stage,) = effects(tmp_path / "ban", "survives"), effects(tmp_path / "ban", "stage_share")
    assert end["difference"] == stage["difference"] == 1 and stage["stage"] == "logit_bias"
    assert end["p_value"] == 2 / 2**7 and stage["family"] == "stages"
    gate = tmp_path / "bias.yaml"
    gate.write_text(GATE)
    assert elimtool("check", gate, "--run", tmp_path / "free").code == 0
    failed = elimtool("check", gate, "--run", tmp_path / "ban")
    assert failed.code == 10 and "every-chain" in failed.out


def test_groups_whose_words_no_head_reads_do_not_differ(
    elimtool: Command, suite: Path, tmp_path: Path
) -> None:
    """A prediction that no attention links to the group's word cannot tell the groups apart."""
    out, file = tmp_path / "run", tmp_path / "plain.yaml"
    letters = SUITE.replace("[as, at, an]", "[x, q, z]").replace("[is, it, in]", "[v, k, j]")
    file.write_text(letters.replace(', neutral: "to the and"', ""))
    cut = ["--knockout", "group@0-3", "--knockout-from", "later"]
    done = elimtool("audit", file, "-o", out, *QUICK, *cut)
    assert done.code == 0, done.err
    under = effects(out, "lens.logit")
    assert under and max(abs(row["difference"]) for row in under) < 1e-4
    assert elimtool("audit", out, "--intervened").code == 0 and effects(out, "lens.logit") == under
    assert elimtool("audit", out).code == 0
    assert max(abs(row["difference"]) for row in effects(out, "lens.logit")) > 1e-3


@pytest.mark.parametrize("command", ["audit", "sweep", "coverage"])
def test_prompts_that_all_failed_are_said_to_leave_nothing(
    elimtool: Command, suite: Path, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "failing.jsonl"
    file.write_text('{"prompt": "the cat", "targets": [" e"], "spans": {"x": "dog"}}\n')
    done = elimtool(command, file, *QUICK)
    assert done.code == 5 and "Traceback" not in done.err, done.err


def test_sentences_of_pairs_are_scored_by_three_rules(
    elimtool: Command, suite: Path, llama: Any, tmp_path: Path
) -> None:
    """Against plain transformers, of a file as CrowS-Pairs' publishers write it."""
    head = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators"
    pairs = [("to be as it is", "to be at it is"), ("the one of it", "the two of it")]
    lines = [f"{n},{a},{b},{'anti' * n}stereo,age,[],a,[]" for n, (a, b) in enumerate(pairs)]
    file, out = tmp_path / "crows.csv", tmp_path / "run"
    file.write_text("\n".join([head, *lines, ""]))
    done = elimtool("audit", file, "-o", out, *QUICK)
    assert done.code == 0 and "The stereotypical sentence is the likelier one" in done.out, done.err
    run = open_run(out)
    prompts = run.prompts.set_index("prompt_id")
    found = {(row["prompt_id"], row["metric"]): row["value"] for row in run.arrow("audit_tuples").to_pylist()}
    for number, pair in enumerate(pairs):
        for text, side in zip(
            pair, ("advantaged", "disadvantaged") if number else ("disadvantaged", "advantaged"), strict=True
        ):
            name = f"{number}/{side}/whole"
            assert prompts.loc[name, "text"] == text
            logprobs = token_logprobs(llama, text)
            word = next(one["tokens"] for one in prompts.loc[name, "spans"] if one["span"] == "group")
            parts = {
                "lm-eval": slice(None),
                "word": slice(word[0] - 1, word[-1]),
                "suffix": slice(word[-1], None),
            }
            for rule, part in parts.items():
                assert found[name, f"sentence.{rule}"] == pytest.approx(sum(logprobs[part]), rel=1e-5)
    share = next(row for row in run.arrow("audit_pairs").to_pylist() if row["rule"] == "lm-eval")
    more = [sum(token_logprobs(llama, a)) > sum(token_logprobs(llama, b)) for a, b in pairs]
    assert share["stereotype_share"] == sum(more) / 2


def token_logprobs(llama: Any, text: str) -> list[float]:
    """Log-probability of each token of a text after BOS or EOS, at the output of plain transformers."""
    backend = llama.tokenizer.backend
    first = backend.eos_token_id if backend.bos_token_id is None else backend.bos_token_id
    ids = torch.tensor([[first, *backend(text, add_special_tokens=False).input_ids]])
    with torch.inference_mode():
        logprobs = llama.hf(ids).logits[0, :-1].double().log_softmax(-1)
    found: list[float] = logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist()
    return found

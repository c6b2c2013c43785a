"""``elimtool coverage``: pairs are scored whole, facts by a token, answers through the chains."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from elimtool.report.figures.figure import Forest
from elimtool.report.populations.coverage.section import coverage_section
from elimtool.run import open_run
from tests.cli.conftest import Command
from tests.run.test_analysis import files

PAIRS = [
    {"good": "the cat sits on it", "bad": "the cat sit on it", "category": "a/b"},
    {"good": "the cats sit on it", "bad": "the cats sits on it", "category": "a/b"},
    {"good": "who is it to be", "bad": "who it is to be", "category": "a/c"},
    {"good": "who is it to be", "bad": "who is it be to", "category": "a/c"},
]
FACTS = [
    {"id": "f", "prompt": "the one of", "targets": [" e"], "foils": [" a"], "category": "facts"},
    {"id": "r", "prompt": "one of", "answers": [" e", [" a", " the"], " the end"]},
    {"id": "t", "prompt": "one of them", "scored": "no-prefix"},
]
QUICK = ["--samplers", "hf", "--samplers", "top_k=3,top_p=0.5", "--lens", "raw"]


@pytest.fixture
def model(elimtool: Command, llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """After ``elimtool``, which takes the variable away."""
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))
    return str(llama_directory)


def written(path: Path, rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plain_scores(llama: Any, text: str) -> list[float]:
    """Sums of log-probabilities of a text after BOS or EOS, at the output of plain transformers."""
    backend = llama.tokenizer.backend
    first = backend.eos_token_id if backend.bos_token_id is None else backend.bos_token_id
    ids = torch.tensor([[first, *backend(f" {text}", add_special_tokens=False).input_ids]])
    with torch.inference_mode():
        logprobs = llama.hf(ids).logits[0, :-1].double().log_softmax(-1)
    return logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist()


def test_pairs_are_scored_kept_and_read_again(
    elimtool: Command, model: str, llama: Any, tmp_path: Path
) -> None:
    suite, out = written(tmp_path / "pairs.jsonl", PAIRS), tmp_path / "run"
    done = elimtool("coverage", suite, "-o", out, *QUICK)
    assert done.code == 0 and "of 4 items (2 categories" in done.out, done.err
    assert "sentences are scored behind '<|start|>', which lm-eval" in " ".join(done.out.split())
    kept = files(out / "analysis")
    read = elimtool("coverage", out)
    assert read.out == done.out and files(out / "analysis") == kept
    found = open_run(out).analysis("coverage")
    rows = found.table("coverage_items")
    assert rows["item"].tolist() == ["1", "2", "3", "4"] and set(rows["rule"]) == {"lm-eval"}
    for pair, row in zip(PAIRS, rows.to_dict("records"), strict=True):
        good, bad = plain_scores(llama, pair["good"]), plain_scores(llama, pair["bad"])
        assert row["score_good"] == pytest.approx(sum(good), rel=1e-5)
        assert row["score_bad"] == pytest.approx(sum(bad), rel=1e-5)
        assert row["correct"] == (row["difference"] >= 0)
        at = next(
            i for i, (a, b) in enumerate(zip(f" {pair['good']}", f" {pair['bad']}", strict=False)) if a != b
        )
        assert row["first_difference"] >= 1 and at >= 1
        place = int(row["first_difference"]) - 1
        share = (good[place] - bad[place]) / row["difference"]
        assert row["token_share"] == pytest.approx(share, rel=1e-3)
        assert row["decides_there"] == (share > 0)
    nodes = found.table("coverage").set_index("node")
    assert nodes.loc["a/b", "accuracy"] == rows["correct"][:2].mean()

    refused = elimtool("coverage", out, "--rule", "no-prefix")
    assert refused.code == 2 and "was measured already" in refused.err
    wrong = elimtool("coverage", suite, "--rule", "lmeval")
    assert wrong.code == 2 and "did you mean 'lm-eval'" in wrong.err
    checks = tmp_path / "checks.yaml"
    checks.write_text("version: 1\nchecks: [{id: all, metric: coverage.n_items, rows: {node: }, min: 5}]\n")
    assert elimtool("check", checks, "--run", out).code == 10
    page = elimtool("report", out, "-o", tmp_path / "page.html")
    assert page.code == 0 and "coverage_tree" in (tmp_path / "page.html").read_text()


def test_a_taxonomy_says_what_is_not_covered(elimtool: Command, model: str, tmp_path: Path) -> None:
    suite, out = written(tmp_path / "pairs.jsonl", PAIRS), tmp_path / "run"
    taxonomy = tmp_path / "t.yaml"
    taxonomy.write_text("nodes: {a/b: {min_items: 2, min_accuracy: 0}, a/c: {}, d: {title: Others}}\n")
    asked = ["--rule", "continuation", "--taxonomy", taxonomy, *QUICK]
    done = elimtool("coverage", suite, "-o", out, *asked)
    assert (
        done.code == 0 and "1 of 3 leaves are covered, 1 have no items: structural coverage 33%" in done.out
    )
    assert "no items" in done.out and "Others" in done.out
    taxonomy.write_text("nodes: {a/b: {}, a/d: {}}\n")
    refused = elimtool("coverage", out, "--taxonomy", taxonomy)
    assert refused.code == 2 and "category 'a/c' is in no leaf" in refused.err


@pytest.mark.parametrize(
    ("nodes", "rows", "told"),
    [
        ("{a/b: {}, a/d: {}}", PAIRS, "category 'a/c' is in no leaf"),
        ("{a/b: {}}", [{"prompt": "the one of", "targets": [" e"]}], "an item has no category"),
        ("{a/b: {min_accuracy: 2}}", PAIRS, "`min_accuracy` must be from 0 to 1"),
    ],
)
def test_a_taxonomy_that_does_not_fit_is_refused_before_measuring(
    nodes: str, rows: Any, told: str, elimtool: Command, tmp_path: Path
) -> None:
    suite, taxonomy = written(tmp_path / "suite.jsonl", rows), tmp_path / "t.yaml"
    taxonomy.write_text(f"nodes: {nodes}\n")
    out = tmp_path / "run"
    done = elimtool("coverage", suite, "-o", out, "-m", tmp_path / "nowhere", "--taxonomy", taxonomy)
    assert done.code == 2 and told in done.err and not out.exists()


def test_facts_answers_and_texts(elimtool: Command, model: str, tmp_path: Path) -> None:
    suite, out = written(tmp_path / "facts.jsonl", FACTS), tmp_path / "run"
    done = elimtool("coverage", suite, "-o", out, *QUICK)
    assert done.code == 0, done.err
    run = open_run(out)
    found = run.analysis("coverage")
    items = found.table("coverage_items").set_index("item")
    assert items["rule"].tolist() == ["first-token", "first-token"]
    lens = run.table("lens").query("prompt_id == 'f' and layer == layer.max()").set_index("target")
    assert items.loc["f", "difference"] == pytest.approx(
        lens.loc[" e", "logprob"] - lens.loc[" a", "logprob"]
    )

    rows = found.table("answers")
    assert set(rows["prompt_id"]) == {"r"}
    for _, chain in rows.groupby("chain"):
        assert (chain["hill0"] >= chain["hill1"] - 1e-9).all()
        assert (chain["hill1"] >= chain["hill2"] - 1e-9).all() and (chain["hill2"] >= 1).all()
        assert chain["alive_share"].is_monotonic_decreasing, "stages that cut only lose answers"
        assert chain["stage_index"].tolist() == list(range(-1, len(chain) - 1))
        assert chain["joint_mass"].notna().tolist() == [True] + [False] * (len(chain) - 1)
    before = rows[rows["stage_index"] == -1]
    assert (before["alive_share"] == 1).all() and before["hill0"].nunique() == 1
    survival = run.table("survival").query("prompt_id == 'r'").drop_duplicates("token_id")
    assert before["mass"].iloc[0] == pytest.approx(survival["prob"].sum())

    calibration = found.table("calibration").query("subset == 'all'")
    n_text = int(run.prompts.set_index("prompt_id").loc["t", "n_tokens"]) - 1
    assert (calibration["n"] == 1 + n_text).all(), "the fact, and each token of the text; not the answers"
    assert calibration["gold_pruned"].iloc[1:].between(0, 1).all()
    assert "several targets" in " ".join(found.manifest.notes)
    assert coverage_section(found).told


def test_nothing_to_judge_is_said(elimtool: Command, model: str, tmp_path: Path) -> None:
    suite = written(tmp_path / "plain.jsonl", [{"prompt": "the"}])
    done = elimtool("coverage", suite, *QUICK)
    assert done.code == 5 and "no item with a right answer" in done.err


def test_abstention_is_set_against_matched_prompts(
    elimtool: Command, model: str, llama: Any, tmp_path: Path
) -> None:
    """Against plain transformers: probabilities of phrases, of which none begins another, summed."""
    asked = {"answerable": ["the one is", "to be is"], "unanswerable": ["the it is", "to of is"]}
    rows = [
        {"id": f"{group}{n}", "prompt": text, "group": group, "tuple": str(n)}
        for group, texts in asked.items()
        for n, text in enumerate(texts)
    ]
    rows.append({"id": "known", "prompt": "one of", "targets": [" e"]})
    phrases, out = tmp_path / "phrases.txt", tmp_path / "run"
    phrases.write_text("not\nnot of\nin it\n")
    suite = written(tmp_path / "asked.jsonl", rows)
    done = elimtool("coverage", suite, "-o", out, "--abstain", phrases, *QUICK)
    assert done.code == 0 and "That it is not known follows 2 'unanswerable' prompts" in done.out, done.err
    run = open_run(out)
    found = run.analysis("coverage")
    table = found.table("abstention").set_index("group")
    spelled = run.prompts.set_index("prompt_id")["spellings"]
    expected = {}
    for group, texts in asked.items():
        names = [sorted(spelled[f"{group}{n}/abstain"]) for n in range(len(texts))]
        free = [[one for one in own if not any(one != a and one.startswith(a) for a in own)] for own in names]
        assert all(len(own) < 3 for own in free), "'not of' begins with 'not'"
        expected[group] = [
            sum(math.exp(continued(llama, text, f" {one.strip()}")) for one in own)
            for text, own in zip(texts, free, strict=True)
        ]
    for group, masses in expected.items():
        assert table.loc[group, "mass"] == pytest.approx(sum(masses) / 2, rel=1e-4)
    gaps = [b - a for a, b in zip(*expected.values(), strict=True)]
    assert table.loc["unanswerable", "difference"] == pytest.approx(sum(gaps) / 2, rel=1e-3)
    assert (
        table.loc["unanswerable", "reference"] == "answerable" and table.loc["unanswerable", "n_tuples"] == 2
    )
    assert found.table("coverage_items")["item"].tolist() == ["known"], "phrases are no right answers"
    assert found.table("calibration")["n"].iloc[0] == 1
    (drawn,) = (one for one in coverage_section(found).figures if one.name == "coverage_abstention")
    assert isinstance(drawn, Forest) and drawn.mark_title == "answerable"
    assert {one.label: (one.value, one.mark) for one in drawn.rows if one.label != "no group"} == {
        "answerable": (table.loc["answerable", "mass"], None),
        "unanswerable": (table.loc["unanswerable", "mass"], table.loc["answerable", "mass"]),
    }

    again = elimtool("coverage", out, "--abstain", "shipped")
    assert again.code == 2 and "was measured already" in again.err
    phrases.write_text("\n")
    empty = elimtool("coverage", suite, "--abstain", phrases, *QUICK)
    assert empty.code == 2 and "holds no phrase" in empty.err
    (tmp_path / "asked.txt").write_text("the\n")
    wrong = elimtool("coverage", tmp_path / "asked.txt", "--abstain", "shipped", *QUICK)
    assert wrong.code == 2 and "neither a suite nor JSON lines" in wrong.err


def continued(llama: Any, prompt: str, text: str) -> float:
    """Log-probability of a text after a prompt, by plain transformers."""
    backend = llama.tokenizer.backend
    start = backend(prompt).input_ids
    ids = torch.tensor([[*start, *backend(text, add_special_tokens=False).input_ids]])
    with torch.inference_mode():
        logprobs = llama.hf(ids).logits[0, :-1].double().log_softmax(-1)
    return float(logprobs.gather(1, ids[0, 1:, None])[len(start) - 1 :, 0].sum())


def test_what_the_model_wrote_is_behind_the_place_that_is_judged(
    elimtool: Command, model: str, tmp_path: Path
) -> None:
    plain, written_on = tmp_path / "plain", tmp_path / "written"
    line = ["trace", "the one of", "-t", "e", "--foil", "a", "--target-space", "exact", *QUICK]
    assert elimtool(*line, "-o", plain).code == 0
    assert elimtool(*line, "-o", written_on, "--generate", 3, "--position", "written").code == 0
    tables = []
    for out in (plain, written_on):
        done = elimtool("coverage", out, "--json")
        assert done.code == 0, done.err
        tables.append(json.loads(done.out)["tables"])
    assert len(tables[0]["calibration"]) == len(tables[1]["calibration"]) > 1
    for name in ("coverage_items", "calibration"):
        for one, other in zip(tables[0][name], tables[1][name], strict=True):
            for key in set(one) - {"item", "p_value", "ece_null", "ece_null_95"}:
                known = other[key]
                assert one[key] == (pytest.approx(known, abs=1e-5) if isinstance(known, float) else known), (
                    key
                )


def test_answers_that_were_not_followed_are_said(elimtool: Command, model: str, tmp_path: Path) -> None:
    rows = [{"id": "r", "prompt": "one of", "targets": [" e"], "answers": [" a", " the"]}]
    done = elimtool("coverage", written(tmp_path / "p.jsonl", rows), *QUICK)
    assert done.code == 0 and "answers of which none is among their targets" in done.out, done.err

"""Check files run on a small model: what is measured, how often, what regressions are told, what is noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool.analysis.check.noise import floor_of
from elimtool.analysis.check.paired import pair
from elimtool.analysis.check.values import CheckedValue
from elimtool.errors import ElimError, Exit
from elimtool.tasks.check.api import gate
from elimtool.tasks.check.noise import measure_noise
from tests.watched import Watched

FILE = """\
version: 1
model: MODEL
prompts:
  - {id: fr, prompt: "The capital of France is", tags: [capital]}
  - {id: de, prompt: "The capital of Germany is, as we learnt in school, the city of", tags: [capital]}
  - {id: chat, tags: [chat], messages: [SYSTEM{role: user, content: "Which city?"}]}
samplers: ["llama.cpp:top_k=TOPK,top_p=1,min_p=0"]
baseline: base.json
across: [weights]
checks:
  - {id: drift, select: {tag: capital}, metric: final_logprob, target: Paris, baseline: true, atol: 1.0e-3}
  - {id: alive, prompt: fr, metric: survives, target: Paris, baseline: true}
  - {id: system, prompt: chat, metric: retention, span: system, layers: 1-3, agg: mean, min: 0.01}
"""
SYSTEM = "{role: system, content: Be brief.}, "


@pytest.fixture
def write(tmp_path: Path, llama_directory: Path) -> Callable[..., Path]:
    """``write(old=new, ...)``: the check file with replacements."""

    def to_file(*changes: tuple[str, str]) -> Path:
        text = FILE.replace("MODEL", str(llama_directory))
        for old, new in (*changes, ("SYSTEM", SYSTEM), ("TOPK", "300")):
            text = text.replace(old, new)
        path = tmp_path / "checks.yaml"
        path.write_text(text)
        return path

    return to_file


def only_failure(report: Any) -> Any:
    (result,) = report.failed
    return result.bad[0]


def test_only_the_tables_that_are_needed(write: Callable[..., Path], llama: Any) -> None:
    found = gate(write(), model=llama, update="all")
    assert found.report.passed, found.report.summary
    assert set(found.run.tables) == {"prompts", "attention", "lens", "sampling_targets"}


def test_the_model_runs_once(write: Callable[..., Path], llama: Any) -> None:
    """Once for all spellings of the targets together, in a plain pass, and once for every prompt."""
    one_by_one, together = Watched.of(llama), Watched.of(llama)
    elimtool.run_checks(write(), model=one_by_one, update="all", batch_size=1)
    assert [prompts for prompts, *_ in one_by_one.passes] == [2, 1, 1, 1]
    elimtool.run_checks(write(), model=together)
    assert sum(prompts for prompts, *_ in together.passes) == 2 + 3
    for spellings, *measured in (one_by_one.passes, together.passes):
        assert not spellings[2] and all(needs for *_, needs in measured)


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (3, 2)])
def test_batches_and_threads_change_nothing(
    write: Callable[..., Path], llama: Any, batch_size: int, threads: int
) -> None:
    assert elimtool.run_checks(write(), model=llama, update="all").passed
    before = torch.get_num_threads()
    report = elimtool.run_checks(write(), model=llama, batch_size=batch_size, threads=threads)
    assert report.passed, report.summary
    assert torch.get_num_threads() == before


def test_a_sampler_setting_is_named(write: Callable[..., Path], llama: Any) -> None:
    elimtool.run_checks(write(), model=llama, update="all")
    report = elimtool.run_checks(write(("TOPK", "2")), model=llama)
    failure = only_failure(report)
    assert report.exit_code == Exit.REGRESSION
    assert "cut by top_k" in failure.message
    assert any("top_k" in cause for cause in failure.causes)
    traced = elimtool.trace(llama, "The capital of France is", targets=["Paris"])
    rank = traced.table("verdicts")["final_rank"].item()
    stage = "top_k of llama.cpp:top_k=2,top_p=1,min_p=0"
    assert f"{stage} (needed k of at least {rank}, is 2) cuts it" in failure.story


def test_a_foil_is_contrasted(write: Callable[..., Path], llama: Any) -> None:
    """The difference to a foil that only the check names, and what is told of one that a prompt lacks."""
    run = elimtool.trace(llama, "The capital of France is", targets=["Paris"], foils=["Rome"])
    lens = run.table("lens")
    last = lens[lens["layer"] == run.n_layers - 1].set_index("target")["logit"]
    truth = float(last["Paris"] - last["Rome"])

    def judged(metric: str, bound: float, **judge: Any) -> Any:
        check = f"{{id: ahead, prompt: fr, metric: {metric}, target: Paris, foil: Rome, min: {bound}}}"
        path = write(
            ("checks:\n", f"checks:\n  - {check}\n"),
            ("baseline: base.json\n", ""),
            (", baseline: true, atol: 1.0e-3", ", min: -99"),
            (", baseline: true", ""),
        )
        return gate(path, only=["ahead"], **judge)

    found = judged("logit_difference", truth - 1e-3, model=llama)
    assert found.report.passed, found.report.summary
    assert set(found.run.tables) == {"prompts", "contrasts"}
    failed = only_failure(judged("logit_difference", truth + 1e-3, model=llama).report)
    assert "foil 'Rome'" in failed.message
    assert judged("contrast_layers.difference, layers: last", truth - 1e-3, model=llama).report.passed
    other = elimtool.trace(
        llama, elimtool.Prompt(text="The capital of France is", id="fr"), targets=["Paris"], foils=["Oslo"]
    )
    missing = only_failure(judged("logit_difference", 0.0, run=other).report)
    assert "the prompt has no foil 'Rome'; it has: 'Oslo'" in missing.message


def test_an_edited_prompt_is_named(write: Callable[..., Path], llama: Any) -> None:
    elimtool.run_checks(write(), model=llama, update="all")
    report = elimtool.run_checks(write(("of France", "of Frannce")), model=llama)
    assert report.exit_code == Exit.REGRESSION
    causes = only_failure(report).causes
    assert "the prompt's text: 'The capital of France is' -> 'The capital of Frannce is'" in causes


def test_a_dropped_system_prompt_is_named(write: Callable[..., Path], llama: Any) -> None:
    elimtool.run_checks(write(), model=llama, update="all")
    report = elimtool.run_checks(write(("SYSTEM", "")), model=llama)
    failure = only_failure(report)
    assert report.exit_code == Exit.REGRESSION
    assert "has no span 'system'; it has: '<sink>', 'user'" in failure.message
    assert any("Be brief." in cause for cause in failure.causes)


def test_perturbed_weights_are_a_regression(write: Callable[..., Path], llama: Any) -> None:
    elimtool.run_checks(write(), model=llama, update="all")
    weight = llama.bridge.original_model.lm_head.weight
    kept = weight.detach().clone()
    try:
        weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        report = elimtool.run_checks(write(), model=llama)
    finally:
        weight.data.copy_(kept)
    assert report.exit_code == Exit.REGRESSION
    assert "baseline and tolerance" in only_failure(report).message
    assert elimtool.run_checks(write(), model=llama).passed


def test_a_prompt_that_fails_is_6(write: Callable[..., Path], llama: Any) -> None:
    elimtool.run_checks(write(), model=llama, update="all")
    path = write(("Which city?", "Which city? " * 400))
    report = elimtool.run_checks(path, model=llama)
    assert report.exit_code == Exit.PARTIAL
    assert "context" in report.summary


def test_some_checks_read_what_all_read(write: Callable[..., Path], llama: Any) -> None:
    """A target may move the position that is read, whether its check is judged or not."""
    more = "  - {id: other, prompt: fr, metric: final_rank, target: Berlin, max: 300}\n"
    path = write()
    path.write_text(path.read_text() + more)
    assert elimtool.run_checks(path, model=llama, update="all").passed
    assert elimtool.run_checks(path, model=llama, only=["drift"]).passed


def test_what_is_wrong_is_found_before_the_model_is_loaded(
    write: Callable[..., Path], llama_directory: Path
) -> None:
    nowhere = (str(llama_directory), "./no/such/model")
    with pytest.raises(ElimError, match="no such file or directory"):
        elimtool.run_checks(write(nowhere))
    for changes, message, code in (
        ((("tag: capital}, metric", "tag: capitol}, metric"),), "selects no prompt", 5),
        ((("llama.cpp:", "lama.cpp:"),), "unknown sampler chain", 2),
        ((("{id: fr, prompt:", "{id: fr, promt:"),), "unknown key 'promt'", 2),
        ((("{id: de,", "{id: fr,"),), "two prompts have the id 'fr'", 2),
    ):
        with pytest.raises(ElimError, match=message) as caught:
            elimtool.run_checks(write(nowhere, *changes))
        assert caught.value.exit_code == code


def test_regimes_are_read_through_a_fitted_lens(
    llama: Any, llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elimtool.lenses.regime import FEWEST, WINDOW, ReferenceStatistics
    from elimtool.lenses.ridge import Facts, RidgeLens

    path = tmp_path / "checks.yaml"
    text = (
        f"version: 1\nmodel: {llama_directory}\nlens: LENS\nsamplers: [hf]\nprompts:\n"
        "  - {id: a, prompt: The capital of Spain is Madrid and the text goes on and on., targets: [Paris]}\n"
        "checks:\n  - {id: regime, metric: regime, is_not: none}\n"
    )
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    path.write_text(text.replace("LENS", "ridge"))
    with pytest.raises(ElimError, match="no fitted lens"):
        elimtool.run_checks(path, model=llama)

    spread = 6.2 + torch.linspace(-1.5, 1.5, FEWEST)
    unigram = torch.full((llama.vocab,), 1 / llama.vocab).log()
    reference = ReferenceStatistics(spread, spread[:, None].repeat(1, WINDOW), unigram, 0.05)
    facts = Facts("llama", llama.hashes()["weights_sha256"], "b" * 64, 100, 99, 34, "none", 0.05, "0")
    maps = torch.eye(llama.width).repeat(llama.n_layers, 1, 1)
    biases, scales = torch.zeros(llama.n_layers, llama.width), torch.ones(llama.n_layers)
    RidgeLens(maps, biases, scales, reference, facts).save(tmp_path / "own.safetensors")
    path.write_text(text.replace("LENS", "own.safetensors"))
    found = gate(path, model=llama)
    (finding,) = found.report.results[0].findings
    traced = elimtool.trace(
        llama,
        "The capital of Spain is Madrid and the text goes on and on.",
        targets=["Paris"],
        options=elimtool.TraceOptions(lens=str(tmp_path / "own.safetensors"), samplers=("hf",)),
    )
    assert finding.status == "passed", finding.message
    assert finding.seen == traced.table("regimes")["regime"].iloc[-1]
    assert set(found.run.tables) == {"prompts", "verdicts"}


def test_a_jacobian_lens_is_found_beside_the_check_file(
    llama: Any, llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sub" / "checks.yaml"
    path.parent.mkdir()
    path.write_text(
        f"version: 1\nmodel: {llama_directory}\nlens: jacobian:own.pt\nsamplers: [hf]\nprompts:\n"
        "  - {id: a, prompt: The capital of Spain is, targets: [Paris]}\n"
        "checks:\n  - {id: rank, metric: lens.rank, layers: 0, min: 1}\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ElimError, match="there is no such file"):
        gate(path, model=llama)
    maps = {layer: torch.eye(llama.width) for layer in range(llama.n_layers - 1)}
    torch.save({"J": maps, "n_prompts": 1, "d_model": llama.width}, path.parent / "own.pt")
    found = gate(path, model=llama)
    assert found.run.table("lens")["lens"].unique().tolist() == ["jacobian"]
    assert found.report.results[0].findings[0].status == "passed"


def test_noise_is_measured_and_tolerances_below_it_are_refused(
    write: Callable[..., Path], llama: Any, tmp_path: Path
) -> None:
    path = write()
    elimtool.run_checks(path, model=llama, update="all")
    file, noise = measure_noise(path, model=llama)
    assert file == tmp_path / "base.noise.json"
    assert {"batch size 8", "padding"} <= {one.split(",")[0] for one in noise.variations}
    floor = noise.floors["drift"]
    assert 0 <= floor.floor < 1e-4 and noise.floors["alive"].unstable == 0
    assert elimtool.run_checks(path, model=llama).passed

    content = json.loads(file.read_text())
    content["checks"]["drift"]["floor"] = 0.123
    file.write_text(json.dumps(content))
    with pytest.raises(ElimError, match=r"is 0\.00.*, below its noise floor of 0\.123") as caught:
        elimtool.run_checks(path, model=llama)
    assert caught.value.hint == "give atol: 0.13 or more"
    assert "checks.yaml:11: " in caught.value.message


def readings(*values: Any) -> list[CheckedValue]:
    return [CheckedValue(str(index), value, ({"near": value},)) for index, value in enumerate(values)]


def test_floors_by_hand() -> None:
    found = floor_of(readings(1.0, 2.0), [("a", readings(1.0, 2.5)), ("b", readings(0.9, 2.0))])
    assert (found.floor, found.prompt, found.variation, found.unstable) == (0.5, "1", "a", 0)
    assert floor_of(readings(True, "x"), [("a", readings(False, "x"))]).unstable == 1
    infinite = floor_of(readings(-1.0), [("a", readings(float("-inf")))])
    assert (infinite.floor, infinite.unstable) == (0.0, 1)
    assert floor_of(readings((1, 2, 3, 4)), [("a", readings((1, 2, 3, 9)))]).floor == 0.25


def test_pairs_by_hand() -> None:
    found = pair("c", readings(1.0, 2.0, 3.0, None), readings(1.5, 2.0, 2.0, 9.0))
    assert found is not None and found.n == 3
    assert found.mean == pytest.approx(-1 / 6)
    assert found.moved == (("2", -1.0), ("0", 0.5))
    assert (
        found.low is not None
        and found.high is not None
        and -1 <= found.low <= found.mean <= found.high <= 0.5
    )
    assert pair("c", readings("a"), readings("a")) is None
    single = pair("c", readings(1.0), readings(2.0))
    assert single is not None and single.low is None


def test_two_runs_are_paired(write: Callable[..., Path], llama: Any) -> None:
    path = write()
    before = gate(path, model=llama, update="all").run
    now = gate(write(("of France", "of Spain")), model=llama, against=before).report
    (found,) = [one for one in now.pairs if one.check == "drift"]
    assert found.n == 2 and found.moved[0][0] == "fr" and len(found.moved) == 1

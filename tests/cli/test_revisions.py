"""``elimtool batch --revisions``: a run for each revision, in order of their numbers, for ``query``."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import elimtool as package
from tests.cli.conftest import Command

QUICK = ["--tables", "survival,sampling_targets,lens", "--samplers", "top_k=40", "--lens", "raw"]
NAMES = ("step1000", "step40", "step400")


@pytest.fixture(scope="module")
def steps(llama_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of checkpoints, whose weights of the output differ."""
    folder = tmp_path_factory.mktemp("steps")
    for name in NAMES:
        place = copytree(llama_directory, folder / name)
        (weights,) = place.glob("*.safetensors")
        tensors = load_file(weights)
        for key, tensor in tensors.items():
            if "down_proj" in key:
                tensors[key] = tensor * (1 + int(name[4:]) / 100)
        save_file(tensors, weights, {"format": "pt"})
    return folder


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    records: list[dict[str, Any]] = [
        {"prompt": f"A token of {text}", "id": text, "targets": [" the"]} for text in ("it", "us")
    ]
    file.write_text("\n".join(map(json.dumps, records)))
    return file


def test_each_revision_is_a_run_of_its_own_and_is_followed(
    elimtool: Command, steps: Path, asked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    line = ["batch", asked, "-o", out, "-m", steps, "--revisions", ",".join(NAMES), *QUICK]
    done = elimtool(*line)
    assert done.code == 0, done.err
    in_order = [out / "step40", out / "step400", out / "step1000"]
    assert done.out.splitlines() == list(map(str, in_order))
    manifests = [package.open_run(one).manifest for one in in_order]
    assert [one.revision for one in manifests] == ["step40", "step400", "step1000"]
    assert len({one.weights_sha256 for one in manifests}) == 3
    alone = elimtool("batch", asked, "-o", tmp_path / "alone", "-m", steps / "step400", *QUICK)
    assert alone.code == 0
    mine, other = (package.open_run(one).table("survival") for one in (in_order[1], tmp_path / "alone"))
    assert mine.equals(other)

    again = elimtool(*line, "--json")  # resumes each; nothing is left to do
    assert again.code == 0 and again.err.count("was finished before") == 3
    assert [one["run"] for one in json.loads(again.out)] == list(map(str, in_order))

    ranks = ["query", "--metric", "final_rank", "--over", "revision", out]
    told = elimtool(*ranks)
    assert told.code == 0 and "Spearman's rho" in told.out and "holds for good" not in told.out
    rows = json.loads(elimtool(*ranks, "--json").out)
    assert [row["revision"] for row in rows] == ["step40", "step400", "step1000"]
    kept = elimtool("query", "--metric", "survives", "--chain", "top_k=40", "--over", "revision", out)
    alive = [bool(package.open_run(one).table("sampling_targets")["alive_after"].all()) for one in in_order]
    lasting = next((i for i in range(3) if all(alive[i:])), None)
    expected = "does not hold at the last" if lasting is None else f"from {in_order[lasting].name}"
    assert expected in " ".join(kept.out.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--revisions", "step40,step41"], "'step41' is no folder of"),
        (["-m", "smollm2", "--revisions", "step40"], "is for hub ids and directories"),
        (["--revisions", "step40,step40"], "--revisions must be different names"),
        (["--revisions", "step40,"], "--revisions must be different names"),
        (["--revisions", "step40", "--revision", "step400"], "--revision and --revisions were both given"),
    ],
)
def test_revisions_that_cannot_be_measured_are_said(
    elimtool: Command, steps: Path, asked: Path, tmp_path: Path, options: list[str], told: str
) -> None:
    done = elimtool("batch", asked, "-o", tmp_path / "runs", "-m", steps, *options, *QUICK)
    assert done.code == 2 and told in done.err
    assert not (tmp_path / "runs").exists()  # nothing was measured before


def test_a_folder_of_a_run_is_not_written_into(
    elimtool: Command, steps: Path, asked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert elimtool("batch", asked, "-o", out, "-m", steps / "step40", *QUICK).code == 0
    done = elimtool("batch", asked, "-o", out, "-m", steps, "--revisions", "step40", *QUICK)
    assert done.code == 2 and "is a run" in done.err

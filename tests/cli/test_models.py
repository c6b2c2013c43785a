"""``elimtool models``: the catalogue, fetching, and the comparison with Hugging Face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Command
from tests.families import save


def test_list(elimtool: Command) -> None:
    done = elimtool("models", "list")
    assert done.code == 0
    assert "smollm2" in done.out and "not fetched" in done.out
    found = json.loads(elimtool("models", "list", "--json").out)
    assert found[0]["name"] == "smollm2"
    assert found[0]["state"] == "not fetched"


def test_pull_of_what_is_there_prints_its_directory(elimtool: Command, llama_directory: Path) -> None:
    done = elimtool("models", "pull", llama_directory)
    assert (done.code, done.out) == (0, f"{llama_directory}\n")
    assert elimtool("models", "pull", "./nowhere").code == 2


def test_verify_passes_on_the_same_weights(elimtool: Command, llama_directory: Path) -> None:
    done = elimtool("models", "verify", llama_directory)
    assert done.code == 0
    assert done.out.count(": ok") == 3
    found = json.loads(elimtool("models", "verify", llama_directory, "--json").out)
    assert [one["what"] for one in found] == ["attention", "residual", "logits"]
    assert all(0 <= one["largest"] <= one["tolerance"] for one in found)


def test_verify_notices_other_numbers(
    elimtool: Command, llama_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison fails if what runs under the hooks is not what Hugging Face runs."""
    from elimtool.model import verify
    from elimtool.model.merging import load_merged

    def disturbed(*arguments: object) -> object:
        plain, base = load_merged(*arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            plain.model.layers[1].mlp.up_proj.weight[0] += 0.05
        return plain, base

    monkeypatch.setattr(verify, "load_merged", disturbed)
    done = elimtool("models", "verify", llama_directory)
    assert done.code == 10
    assert "PAST TOLERANCE" in done.out


def test_layers_without_attention_are_named(elimtool: Command, tmp_path: Path, tokenizer: Any) -> None:
    directory = save("bamba", tmp_path / "bamba", tokenizer)
    done = elimtool("models", "verify", directory)
    assert done.code == 0
    assert "no attention in layers 0, 2 (this block has no attention weights)" in done.out
    run = tmp_path / "run"
    told = elimtool("trace", "The capital of France is", "-m", directory, "--out", run)
    assert told.code == 0
    said = "o attention in layers 0, 2 (this block has no attention weights)"
    assert f"N{said}." in " ".join(told.out.split())
    page = tmp_path / "page.html"
    assert elimtool("report", run, "--out", page).code == 0
    assert f"n{said}" in page.read_text("utf-8")
    cut = elimtool("trace", "The capital of France is", "-m", directory, "--knockout", "France@0")
    assert cut.code == 2
    assert "has no attention weights in layers 0 to 0" in cut.err
    assert "its layers with attention are 1, 3" in cut.err

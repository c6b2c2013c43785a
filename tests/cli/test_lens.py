"""The lens commands through the real entry point, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elimtool.lenses.corpus import shipped
from tests.cli.conftest import Command


def test_fit_and_eval_as_commands(elimtool: Command, llama_directory: Path, tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(document.text for document in shipped("fit")[:2]))
    lens = tmp_path / "own.safetensors"
    fit = elimtool("lens", "fit", source, "-m", llama_directory, "-o", lens, "--window", 64, "--tokens", 1500)
    assert (fit.code, fit.out) == (0, f"{lens}\n")
    assert "fitted on 1,4" in fit.err
    given = ("lens", "eval", source, "-m", llama_directory, "--window", 64, "--samples", 50)
    found = json.loads(elimtool(*given, "--lens", lens, "--json").out)
    assert {one["lens"] for one in found["layers"]} == {"raw", "own"}
    assert found["baseline_kl"] > 0
    table = elimtool(*given, "--lens", lens).out.splitlines()
    assert table[0].startswith("KL(final || layer)") and table[-1].startswith("context-free guess")
    scoped = ("lens", "eval", source, "-m", llama_directory, "--window", 64, "--samples", 2)
    both = json.loads(elimtool(*scoped, "--lens", "patchscope", "--json").out)
    assert {one["lens"] for one in both["layers"]} == {"raw", "patchscope"}
    without = elimtool(*given)
    assert without.code == 0 and "no fitted lens" in without.err
    kept = elimtool("lens", "fit", source, "-m", llama_directory, "--window", 64, "-q")
    assert kept.err == "" and "cache" in kept.out
    assert "ridge" in elimtool(*given).out
    traced = elimtool("trace", "a word", "-m", llama_directory, "--json")
    assert "no fitted lens" not in traced.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fit", "absent.txt"), "absent.txt"),
        (("fit", "--tokens", "0"), "--tokens must be at least 1, got 0"),
        (("eval", "--samples", "0"), "--samples must be at least 1, got 0"),
        (("eval", "--lens", "rdige"), "valid: raw, ridge, auto"),
    ],
)
def test_bad_options(elimtool: Command, arguments: tuple[str, ...], says: str) -> None:
    done = elimtool("lens", *arguments)
    assert done.code == 2
    assert says in done.err

"""``lens near``, ``lens analogy`` and ``lens axis`` through the real entry point."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_a_word_has_neighbours_beside_controls(
    elimtool: Command, llama_directory: Path, random_lens: str
) -> None:
    model = ("-m", llama_directory)
    found = json.loads(elimtool("lens", "near", "x", *model, "--lens", random_lens, "--top", 3, "--json").out)
    assert found["control"] == "matched" and len(found["neighbours"]) == 3
    told = elimtool("lens", "near", "x", *model, "--in", "embed", "--fold", "--top", 3)
    assert told.out.startswith("Nearest to 'x' in the embedding") and "no fitted lens" in told.err
    assert "200 tokens at random" in " ".join(told.out.split())
    read = ("lens", "near", "--prompt", "The capital of", "--layer", 1, *model, "--top", 3)
    assert "Elsewhere: at how many of" in elimtool(*read).out
    assert json.loads(elimtool(*read, "--json").out)["layer"] == 1


def test_an_analogy_and_an_axis_stand_beside_controls(elimtool: Command, llama_directory: Path) -> None:
    model = ("-m", llama_directory, "--top", 3)
    given = ("lens", "analogy", "x", "y", "z", "--pair", "a,b", "--pair", "c,d", *model)
    found = json.loads(elimtool(*given, "--json").out)
    assert found["n_pairs"] == 3 and 0 <= found["changed"] <= 1
    assert "The offsets of 3 pairs" in elimtool(*given).out
    channel = ("lens", "axis", "3", "--tokens", 128, *model)
    assert json.loads(elimtool(*channel, "--json").out)["axis"] == 3
    told = elimtool("lens", "axis", "x", "y", "z", "--tokens", 128, *model)
    assert told.out.startswith("From 'x' to 'y' in the last residual")
    assert "50 random directions carry" in " ".join(told.out.split())
    assert told.out.splitlines()[-1].startswith("'z'")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("near",), "give either a word or --prompt"),
        (("near", "x", "--prompt", "y", "--layer", "1"), "give either a word or --prompt"),
        (("near", "--prompt", "y"), "--prompt and --layer go together"),
        (("near", "--prompt", "y", "--layer", "1", "--fold"), "--fold and --in are for words"),
        (("near", "--prompt", "y", "--layer", "99"), "--layer must be -1 to"),
        (("near", "x", "--in", "both"), "valid: unembed, embed"),
        (("near", "x", "--top", "0"), "--top must be 1 to 1000"),
        (("near", "x", "--top", "999"), "too many for a vocabulary of"),
        (("near", "x", "--lens", "rdige"), "valid: raw, ridge, auto"),
        (("analogy", "x", "y", "z", "--pair", "he"), "--pair must be two words"),
        (("axis", "x"), "'x' is no channel's number"),
        (("axis", "1", "--tokens", "9"), "--tokens must be at least 128"),
    ],
)
def test_what_cannot_be_asked_is_refused(  # by the command; by what it calls: tests/lenses/test_clouds.py
    elimtool: Command, llama_directory: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = elimtool("lens", *arguments, "-m", llama_directory)
    assert done.code == 2
    assert says in " ".join(done.err.split())

"""The glossary: one sentence a term, the generated page current, the words of stories in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from elimtool.report.figures.overview import OUTCOMES, spelled
from elimtool.report.glossary import GLOSSARY

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("term", sorted(GLOSSARY))
def test_each_definition_is_a_sentence(term: str) -> None:
    said = GLOSSARY[term]
    assert said.endswith(".") and said.count(". ") == 0 and said[0].isupper()
    assert "|" not in said and len(said) < 200


def test_every_outcome_and_word_of_the_story_is_defined() -> None:
    words = {"top-10", "direct logit attribution", "p-value", "retention", "rank", "raw lens", "ridge lens"}
    assert words | {spelled(one) for one in OUTCOMES} <= set(GLOSSARY)


def test_the_page_of_the_glossary_is_current() -> None:
    script = ROOT / "scripts" / "make_glossary.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

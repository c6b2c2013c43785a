"""The page about samplers is what the script writes now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from transformers.generation import logits_process

from elimtool.samplers.chain_file import read_chain
from elimtool.samplers.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "samplers.md"


def test_the_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_sampler_docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_lists_every_processor_of_transformers_and_stages_that_there_are() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (?:`(\w+)`|none: .+) \|$", PAGE.read_text(), re.MULTILINE))
    theirs = {
        name
        for name, one in vars(logits_process).items()
        if isinstance(one, type) and issubclass(one, logits_process.LogitsProcessor)
    }
    assert set(listed) == theirs - {"LogitsProcessor"}
    entry = read_chain(PRESETS / "hf.yaml")
    stages = [one.label or one.stage for one in entry.stages]
    named = [stage for stage in listed.values() if stage]
    assert sorted(named) == sorted(set(named)) and set(named) <= set(stages)
    beside = {"allowed_tokens", "grammar"}  # for which transformers has a function of the caller's own
    assert set(stages) - set(named) == beside

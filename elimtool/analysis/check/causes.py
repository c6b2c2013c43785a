"""Describe what changed between a baseline and a run and may explain a regression."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

from elimtool.analysis.check.baseline import Baseline
from elimtool.analysis.check.words import word

AROUND = 24
"""Characters of unchanged text shown on each side of an edit."""
MOST = 120
"""Characters of an edit that are shown at most."""


def causes(old: Baseline, new: Baseline, prompt: str | None) -> tuple[str, ...]:
    """List the differences between two baselines' contexts, and between their texts of one prompt.

    Args:
        old: The reviewed baseline.
        new: What the run would have stored.
        prompt: The prompt that failed; ``None`` for a value of all prompts.
    """
    told = _chains(old.context.get("chains", {}), new.context.get("chains", {}))
    acts = old.context.get("interventions") or [], new.context.get("interventions") or []
    if acts[0] != acts[1]:
        told.append(f"interventions on the model: {_acts(acts[0])} -> {_acts(acts[1])}")
    for name in ("weights_sha256", "tokenizer_sha256", "dtype"):
        was, now = old.identity.get(name), new.identity.get(name)
        if was != now:
            told.append(f"{name.removesuffix('_sha256')}: {word(was)} -> {word(now)}")
    for name in [prompt] if prompt is not None else sorted(new.prompts):
        if (edit := edited(old, new, name)) and len(told) < 8:
            told.append(edit if prompt is not None else f"{edit} ({name})")
    return tuple(told)


def edited(old: Baseline, new: Baseline, prompt: str) -> str:
    """Describe how a prompt's text differs from the baseline's; empty if it does not, or one is missing."""
    before, after = old.prompts.get(prompt), new.prompts.get(prompt)
    if not before or not after or before["sha256"] == after["sha256"]:
        return ""
    if before["text"] == after["text"]:
        return "the prompt's text, beyond its beginning"
    was, now = _edit(before["text"], after["text"])
    return f"the prompt's text: {was!r} -> {now!r}"


def _edit(before: str, after: str) -> tuple[str, str]:
    """Cut out of two texts the part from the first to the last difference, with some text around it."""
    blocks = [b for b in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks() if b.size]
    start = blocks[0].size if blocks and blocks[0].a == blocks[0].b == 0 else 0
    tail = 0
    while tail < min(len(before), len(after)) - start and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return tuple(_cut(text, start, len(text) - tail) for text in (before, after))  # type: ignore[return-value]


def _cut(text: str, start: int, end: int) -> str:
    first, last = max(start - AROUND, 0), min(end + AROUND, len(text))
    part = text[first:last]
    part = part if len(part) <= MOST else f"{part[: MOST // 2]}…{part[-MOST // 2 :]}"
    return ("…" if first else "") + part + ("…" if last < len(text) else "")


def _chains(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    told = []
    for name in sorted({*old, *new}):
        if name not in new or name not in old:
            told.append(f"sampler chain {name}: {'added' if name in new else 'no longer run'}")
            continue
        was, now = old[name], new[name]
        for stage in sorted({*was, *now}):
            if was.get(stage) != now.get(stage):
                old_params, new_params = _differing(was.get(stage), now.get(stage))
                told.append(f"{name}, {stage[3:]}: {old_params} -> {new_params}")
    return told


def _differing(was: str | None, now: str | None) -> tuple[str, str]:
    """List the parameters of a stage that differ; a stage that is missing is off."""
    if was is None or now is None:
        return was or ("off" if was is None else "on"), now or ("off" if now is None else "on")
    before, after = was.split(", "), now.split(", ")
    return (
        ", ".join(one for one in before if one not in after) or "-",
        ", ".join(one for one in after if one not in before) or "-",
    )


def _acts(acts: Any) -> str:
    return ", ".join(str(act) for act in acts) or "none"

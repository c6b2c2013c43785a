"""Remark on what is easily missed: a template's clock, control tokens, settings of the model left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from elimtool.files.rows import Row

if TYPE_CHECKING:
    from elimtool.run import Run
    from elimtool.run.manifest import Manifest


def chat_notes(prompt: Row, visible: Callable[[str], str] = str) -> list[str]:
    """List remarks on a prompt's text.

    Args:
        prompt: Its row of ``prompts``, perhaps of an earlier version.
        visible: Makes text safe to show.
    """
    notes = []
    if clock := prompt.get("clock"):
        notes.append(f"the chat template reads the clock, which said {clock}")
    if tokens := list(prompt.get("control_tokens") or ()):
        shown = ", ".join(visible(one) for one in tokens)
        notes.append(f"control tokens in the prompt's own text, read as such: {shown}")
    return notes + [f"left out, {visible(why)}" for why in prompt.get("left_out") or ()]


def shipped_notes(manifest: Manifest) -> list[str]:
    """List settings that the model ships with and a chain does not apply, and why."""
    chains: Any = manifest.chains if isinstance(manifest.chains, list) else []
    return [
        f"{chain['name']} does not apply what the model ships with: {note}"
        for chain in chains
        if isinstance(chain, dict)
        for note in chain.get("left_out") or ()
    ]


BY_PASS = (
    "8-bit weights: bitsandbytes leaves columns in float16 by what all tokens of a forward pass have there,"
    " so numbers depend on later tokens and on the prompts in the same pass; a batch size of 1 leaves each"
    " alone"
)


def weight_notes(manifest: Manifest) -> list[str]:
    """Say that 8-bit weights do not give each prompt, and each beginning of one, the same numbers."""
    stored: Any = manifest.quantization
    eight = isinstance(stored, dict) and stored.get("load_in_8bit") and stored.get("llm_int8_threshold") != 0
    return [BY_PASS] if eight else []


def plugin_notes(manifest: Manifest) -> list[str]:
    """Say which packages filled tables of a run and are not here, or in another version."""
    from importlib.metadata import PackageNotFoundError, version

    named: Any = manifest.plugins if isinstance(manifest.plugins, dict) else {}
    packages = {one["distribution"] for one in named.get("metrics", {}).values()} - {None}
    absent = []
    for package in sorted(packages):
        name, _, wanted = package.rpartition(" ")
        try:
            here = version(name)
        except PackageNotFoundError:
            here = "not installed"
        absent += [f"{package} ({here} here)"] if here != wanted else []
    if not absent:
        return []
    return [f"tables of {', '.join(absent)} are read by the definitions that they carry"]


def run_notes(run: Run) -> list[str]:
    """List the remarks on all prompts of a run, on its weights, chains and plugins, each once."""
    said = weight_notes(run.manifest) + shipped_notes(run.manifest) + plugin_notes(run.manifest)
    if "prompts" not in run.tables:
        return said
    table = run.arrow("prompts")
    known = [name for name in ("clock", "control_tokens", "left_out") if name in table.column_names]
    rows = table.select(known).to_pylist() if known else []
    return said + list(dict.fromkeys(note for row in rows for note in chat_notes(row)))

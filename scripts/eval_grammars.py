"""Compare the masks of llguidance and xgrammar: what each allows, and what that does to a model's output.

Run ``python scripts/eval_grammars.py`` where both are installed; docs/samplers.md holds what it prints.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model.decode import end_ids
from elimtool.model.loading import load_model
from elimtool.model.model import Model
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.grammar_libraries import LIBRARIES

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["name", "n"],
        "additionalProperties": False,
    }
)
SHORT = json.dumps({"type": "string", "maxLength": 8})
ENUM = json.dumps({"type": "object", "properties": {"ok": {"enum": ["yes", "no"]}}, "required": ["ok"]})
CASES = (
    ("object", {"json_schema": SCHEMA}, ""),
    ("object", {"json_schema": SCHEMA}, "{"),
    ("object", {"json_schema": SCHEMA}, '{"'),
    ("object", {"json_schema": SCHEMA}, '{"name": "x'),
    ("object", {"json_schema": SCHEMA}, '{"name": "x", "n": -'),
    ("string of at most 8", {"json_schema": SHORT}, '"ab'),
    ("enum", {"json_schema": ENUM}, '{"ok": "'),
    ("regex `[a-z]{3}`", {"regex": "[a-z]{3}"}, "a"),
)
PROMPTS = ("The capital of France as JSON: ", "A person: ", "Answer in JSON.\n")
TEXTS, STEPS = 20, 24
SHOWN = 4


def masks() -> list[str]:
    """The table of allowed tokens."""
    model = load_model("smollm2")
    ends = tuple(end_ids(model))
    lines = [
        "| grammar | after | llguidance allows | xgrammar allows | llguidance alone | xgrammar alone |",
        "|---|---|---|---|---|---|",
    ]
    for name, form, text in CASES:
        ids = tuple(model.tokenizer.encode(text, special=False).ids) if text else ()
        both = []
        for library in LIBRARIES:
            stage = Grammar(eos=ends, library=library, **form)
            both.append(stage.with_tokenizer(model.tokenizer.definition, model.vocab).at(ids).allowed)
        alone = [one & ~other for one, other in (both, both[::-1])]
        cells = [f"{int(one.sum()):,}" for one in both] + [told(model, one) for one in alone]
        lines.append(f"| {name} | {f'`{text}`' if text else 'nothing'} | " + " | ".join(cells) + " |")
    return lines


def told(model: Model, only: np.ndarray) -> str:
    """Count tokens and name the first."""
    found = np.flatnonzero(only)
    some = ", ".join(f"`{model.tokenizer.texts([int(one)])[0]!r}`" for one in found[:SHOWN])
    return f"{len(found):,}" + (f": {some}" if len(found) else "")


def outputs() -> list[str]:
    """What the masks remove of the model's output, along texts that are drawn through each."""
    model = load_model("smollm2")
    lines = [
        "| library | mass removed a token, mean | forced tokens | distortion, nats a text | ms a mask |",
        "|---|---|---|---|---|",
    ]
    for library in LIBRARIES:
        grammar = Grammar(json_schema=SCHEMA, library=library)
        rows = []
        for seed in range(TEXTS):
            options = TraceOptions(
                samplers=("vllm",), grammar=grammar, generate=STEPS, seed=seed, tables=("walk_grammar",)
            )
            rows.append(elimtool.trace(model, PROMPTS[seed % 3], options=options).table("walk_grammar"))
        removed = np.concatenate([one["mass_removed"] for one in rows])
        forced = np.concatenate([one["forced"].astype(bool) for one in rows])
        whole = [one["distortion"].sum() for one in rows]
        error = np.std(whole, ddof=1) / len(whole) ** 0.5
        cells = f"{removed.mean():.3f} | {forced.mean():.0%} | {np.mean(whole):.2f} (s.e. {error:.2f})"
        lines.append(f"| {rows[0]['engine'].iloc[0]} | {cells} | {speed(model, grammar):.2f} |")
    return lines


def speed(model: Model, grammar: Grammar) -> float:
    """Milliseconds that a new place takes."""
    text = '{"name": "' + "a longer name, of several words " * 3
    ids = tuple(model.tokenizer.encode(text, special=False).ids)
    ends = tuple(end_ids(model))
    stage = Grammar(json_schema=grammar.json_schema, library=grammar.library, eos=ends)
    stage = stage.with_tokenizer(model.tokenizer.definition, model.vocab)
    stage.at(ids[:1])
    begun = time.perf_counter()
    for length in range(2, len(ids)):
        stage.at(ids[:length])
    return 1000 * (time.perf_counter() - begun) / (len(ids) - 2)


def main() -> int:
    """Print both tables."""
    torch.set_num_threads(1)
    print("\n".join(masks()), "\n", *outputs(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

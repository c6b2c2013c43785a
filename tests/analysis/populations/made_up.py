"""Runs of a suite that were made up: templates, words and noise of which the truth is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from elimtool.run.manifest import Manifest
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES

GROUPS = ("first", "second")


@dataclass(frozen=True)
class Truth:
    """What is true of a made-up run.

    Attributes:
        templates, words, layers: How many; a word is a pair of words, one a group.
        shift: How much nearer the target is after words of the first group, in nats.
        at: Layer from which on it is.
        cut: Share of the second group's records whose target the stage ``top_k`` cuts beside all others.
        lift: How much more the first group's words are attended to, from layer ``at`` on.
        same_words: Whether both groups have the same words, and so the same outcomes.
        nested: Whether each template has words of its own.
        neutral: Whether each template has a neutral wording.
        groups: Names of the groups.
        odd: How much more surprising what follows the first group's first word is, in nats.
    """

    templates: int = 12
    words: int = 8
    layers: int = 10
    shift: float = 0.0
    at: int = 6
    cut: float = 0.0
    lift: float = 0.0
    same_words: bool = False
    nested: bool = False
    neutral: bool = False
    groups: tuple[str, ...] = GROUPS
    odd: float = 0.0


def population_run(truth: Truth, seed: int = 0, suite: list[dict[str, str]] | None = None) -> Run:
    """Make a run; each word has a random effect of its own in each layer, as each template has."""
    drawn = np.random.default_rng(seed)
    shape = truth.templates, truth.words, len(truth.groups)
    depth = truth.layers + 1
    of_words = drawn.normal(size=(1, truth.words, len(truth.groups), depth))
    if truth.nested:
        of_words = drawn.normal(size=(truth.templates, truth.words, len(truth.groups), depth))
    noise = drawn.normal(size=(truth.templates, 1, 1, depth)) + of_words
    noise = noise + drawn.normal(size=(*shape, depth)) / 2
    walk = np.cumsum(noise, axis=-1) / np.sqrt(np.arange(1, depth + 1))
    if truth.same_words:
        walk[:] = walk[:, :, :1]
    walk[:, :, 0, truth.at + 1 :] += truth.shift
    attended = 1 + 0.1 * drawn.normal(size=(*shape, truth.layers)) * (not truth.same_words)
    attended[:, :, 0, truth.at :] += truth.lift
    cut = drawn.uniform(size=shape)
    if truth.same_words:
        cut[:] = cut[:, :, :1]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("prompts", "lens", "survival")}
    rows |= {"sampling_targets": [], "attention": [], "verdicts": [], "span_surprisal": []}
    for t, w, g in np.ndindex(*shape):
        word = f"w{t if truth.nested else ''}{w}"
        words = [f"{word}.{0 if truth.same_words else one}" for one in range(len(truth.groups))]
        values = walk[t, w, g]
        dead = cut[t, w, g] < 0.2 + (truth.cut if g else 0.0)
        name = f"t{t}/{'|'.join(words)}"
        record = {"template": f"t{t}", "tuple": name, "filler": "|".join(words), "group": truth.groups[g]}
        record |= {"category": f"all/{'odd' if t % 2 else 'even'}"}
        _record(rows, f"{name}/{truth.groups[g]}", [" the", f" {words[g]}", " was"], record, values, dead)
        rows["attention"] += [
            {
                "prompt_id": f"{name}/{truth.groups[g]}",
                "position": 3,
                "layer": layer,
                "span": "group",
                "span_size": 1,
                "n_keys": 4,
                "lift_no_sink": attended[t, w, g, layer],
            }
            for layer in range(truth.layers)
        ]
        after = {"prompt_id": f"{name}/{truth.groups[g]}", "span": "group", "n_after": 1}
        rows["span_surprisal"].append({**after, "surprisal_after": 3.0 + truth.odd * (g == w == 0)})
    for t in range(truth.templates if truth.neutral else 0):
        values = np.full(depth, -1.0)
        _record(
            rows,
            f"t{t}/neutral",
            [" the", " one", " was"],
            {"template": f"t{t}", "role": "neutral"},
            values,
            False,
        )
    config = {} if suite is None else {"suite": suite}
    manifest = Manifest(
        elimtool="0.1.0",
        transformer_lens="4.3.0",
        transformers="5.5.0",
        torch="2.13.0",
        model="made up",
        dtype="float32",
        device="cpu",
        processing="raw",
        bos="none",
        lens="raw",
        sinks="auto",
        chains=[],
        config=json.loads(json.dumps(config)),
    )
    return Run.from_tables(
        manifest, {name: TABLES[name].from_rows(fill(name, some)) for name, some in rows.items()}
    )


def _record(
    rows: dict[str, list[dict[str, Any]]],
    name: str,
    words: list[str],
    record: dict[str, Any],
    values: Any,
    dead: bool,
) -> None:
    at = {"prompt_id": name, "position": 3}
    tokens = ["<s>", *words]
    spans = [{"span": "<sink>", "tokens": [0]}]
    if "group" in record:
        spans.append({"span": "group", "tokens": [2]})
    text = f"{record['template']}{''.join(words)}"
    rows["prompts"].append(
        {
            "prompt_id": name,
            "status": "ok",
            "text": text,
            "n_tokens": 4,
            "n_appended": 0,
            "tokens": tokens,
            "token_ids": [0, 1, 2, 3],
            "targets": [" yes"],
            "foils": [" no"],
            "spans": spans,
            **record,
        }
    )
    for layer, value in enumerate(values.tolist(), -1):
        for target, logit in ((" yes", value), (" no", 0.0)):
            rows["lens"].append(
                {
                    **at,
                    "layer": layer,
                    "lens": "raw",
                    "target": target,
                    "is_foil": target == " no",
                    "rank": 5,
                    "logprob": -2 + logit,
                    "logit": logit,
                }
            )
    rows["survival"].append({**at, "target": " yes", "rank": 5, "target_logprob": -2 + float(values[-1])})
    for index, (stage, gone) in enumerate((("top_k", dead), ("temperature", False))):
        alive = not (dead and index)
        rows["sampling_targets"].append(
            {
                **at,
                "chain": "llama.cpp",
                "stage_index": index,
                "stage": stage,
                "target": " yes",
                "alive_before": alive,
                "alive_after": alive and not gone,
            }
        )
    outcome = "sampler_eliminated" if dead else "survived"
    rows["verdicts"].append({**at, "target": " yes", "outcome": outcome})


def fill(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with every column of the schema; columns that an audit does not read are null or at zero."""
    filler = {
        one.name: None
        if one.nullable
        else []
        if "list" in str(one.type)
        else ""
        if str(one.type) == "string"
        else 0
        for one in TABLES[name].columns
    }
    filler |= {
        one.name: False for one in TABLES[name].columns if str(one.type) == "bool" and not one.nullable
    }
    return [{**filler, **row} for row in rows]

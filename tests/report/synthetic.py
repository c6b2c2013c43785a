"""Runs made up for the story: one distribution over ranks, chains run on it, attention rows that add up."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from elimtool.run.manifest import Manifest
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES, Column
from elimtool.samplers import STAGES

VOCAB = 49_152
LAYERS = 30

LLAMA = (
    "llama.cpp",
    [
        ("top_n_sigma", {"n": -1.0}),
        ("top_k", {"k": 40, "min_keep": 0, "ties": "exact"}),
        ("typical", {"mass": 1.0}),
        ("top_p", {"p": 0.95, "min_keep": 0, "boundary": "reach"}),
        ("min_p", {"p": 0.05, "compare": "logit"}),
        ("xtc", {"probability": 0.0, "threshold": 0.1}),
        ("temperature", {"temperature": 0.8, "zero": "greedy", "floor": 0.0}),
    ],
)
HF = (
    "hf",
    [("temperature", {"temperature": 1.0}), ("top_k", {"k": 50, "ties": "all"}), ("top_p", {"p": 1.0})],
)
VLLM = ("vllm", [("temperature", {"temperature": 1.0}), ("top_k", {"k": 0}), ("top_p", {"p": 1.0})])
OFF = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical": 1.0,
    "top_n_sigma": -1.0,
    "xtc": 0.0,
}


def spread(top: list[float], vocab: int = VOCAB) -> np.ndarray:
    """Probabilities by rank: those given, then a long tail that takes the rest."""
    tail = 1.0 / np.arange(20, 20 + vocab - len(top)) ** 1.5
    tail *= (1 - sum(top)) / tail.sum()
    probs = np.concatenate([top, tail])
    assert (np.diff(probs) <= 0).all(), "ranks must be in order"
    return probs


FRANCE = spread([0.773, 0.021, 0.012, 0.0119, 0.0118, 0.008])


@dataclass
class Token:
    """A followed token: its rank at every layer (the embedding first), the last of them in the output."""

    text: str
    ranks: list[int]
    is_foil: bool = False
    ambiguous: bool = False
    ties: int = 0
    prob: float | None = None
    whole: float | None = None
    token_id: int | None = None

    @property
    def id(self) -> int:
        return self.ranks[-1] + 100 if self.token_id is None else self.token_id


@dataclass
class FakePrompt:
    """A prompt with what is measured at each of its probed positions."""

    tokens: list[str]
    targets: list[Token] = field(default_factory=list)
    spans: dict[str, list[int]] | None = None
    prompt_id: str = "p0"
    positions: list[int] | None = None
    chains: tuple[Any, ...] = (LLAMA, HF, VLLM)
    probs: np.ndarray = field(default_factory=lambda: FRANCE)
    layers: int = LAYERS
    sinks: tuple[int, ...] = (0,)
    n_appended: int = 0
    window: int | None = None
    lens: str = "raw"
    error: str = ""

    @property
    def all_spans(self) -> dict[str, list[int]]:
        own = self.spans
        if own is None:
            own = {f"{i}:{t}": [i] for i, t in enumerate(self.tokens) if i not in self.sinks}
        return {**({"<sink>": list(self.sinks)} if self.sinks else {}), **own}


def path(start: int, *stops: tuple[int, int], layers: int = LAYERS) -> list[int]:
    """Ranks by layer: from ``start`` at the embedding through (layer, rank) stops, straight in logs."""
    x = [-1, *(layer for layer, _ in stops)]
    y = [math.log(start), *(math.log(rank) for _, rank in stops)]
    return [max(1, round(math.exp(v))) for v in np.interp(range(-1, layers), x, y)]


PARIS = Token(" Paris", path(31_204, (12, 212), (20, 38), (27, 3), (28, 1), (29, 1)))
LONDON = Token(" London", path(18_000, (10, 90), (22, 9), (27, 2), (28, 2), (29, 3)))


def make_run(*prompts: FakePrompt, model: str = "smollm2") -> Run:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES if name != "attention_heads"}
    for prompt in prompts:
        rows["prompts"].append(_prompt_row(prompt))
        if prompt.error:
            continue
        for position in prompt.positions or [len(prompt.tokens) - 1]:
            at = {"prompt_id": prompt.prompt_id, "position": position}
            _attention(rows, prompt, at)
            _top_tokens(rows, prompt, at)
            _lens(rows, prompt, at)
            _samplers(rows, prompt, at)
    tables = {name: TABLES[name].from_rows(fitted(name, some)) for name, some in rows.items() if some}
    return Run.from_tables(_manifest(model), tables)


def fitted(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with every column of the schema; columns that the story does not read are left null or at zero."""
    filler = {column.name: _nothing(column) for column in TABLES[name].columns}
    return [{**filler, **row} for row in rows]


def _nothing(column: Column) -> Any:
    if column.nullable:
        return None
    return [] if column.type == pa.list_(pa.string()) else 0


def _manifest(model: str) -> Manifest:
    return Manifest(
        elimtool="0.1.0", transformer_lens="4.3.0", transformers="5.5.0", torch="2.13.0", model=model,
        dtype="float32", device="cpu", processing="raw", bos="none", lens="raw", sinks="auto", chains=[],
        config={},
    )  # fmt: skip


def _prompt_row(prompt: FakePrompt) -> dict[str, Any]:
    fine = not prompt.error
    return {
        "prompt_id": prompt.prompt_id,
        "status": "ok" if fine else "error",
        "error_type": None if fine else "ElimError",
        "error_message": prompt.error or None,
        "text": "".join(prompt.tokens[: len(prompt.tokens) - prompt.n_appended]),
        "n_tokens": len(prompt.tokens) if fine else None,
        "n_appended": prompt.n_appended if fine else None,
        "token_ids": list(range(len(prompt.tokens))) if fine else None,
        "tokens": prompt.tokens if fine else None,
        "targets": [one.text for one in prompt.targets if not one.is_foil] if fine else None,
        "foils": [one.text for one in prompt.targets if one.is_foil] if fine else None,
        "spans": [{"span": k, "tokens": v} for k, v in prompt.all_spans.items()] if fine else None,
    }


def _attention(rows: dict[str, list[dict[str, Any]]], prompt: FakePrompt, at: dict[str, Any]) -> None:
    position = at["position"]
    dice = np.random.default_rng(position)
    for layer in range(prompt.layers):
        first = 0 if prompt.window is None or layer % 2 else max(position + 1 - prompt.window, 0)
        keys = np.arange(first, position + 1)
        outside = np.array([key for key in keys if key not in prompt.sinks])
        weights = dice.gamma(0.6, size=len(outside)) * (1 + 2 * (outside % 5 == 3) * layer / prompt.layers)
        weights /= weights.sum() or 1
        sink_mass = 0.3 + 0.4 * layer / prompt.layers if len(outside) < len(keys) else 0.0
        sink_mass = sink_mass if len(outside) else 1.0
        for span, tokens in prompt.all_spans.items():
            seen = [key for key in tokens if first <= key <= position]
            inside = np.isin(outside, seen)
            mass = sink_mass if span == "<sink>" else float(weights[inside].sum()) * (1 - sink_mass)
            no_sink = float(weights[inside].sum()) if inside.any() and span != "<sink>" else None
            rows["attention"].append(
                at | {
                    "layer": layer, "span": span, "span_size": len(seen), "n_keys": len(keys),
                    "mass": mass if seen else None, "lift": mass * len(keys) / len(seen) if seen else None,
                    "mass_no_sink": no_sink,
                    "lift_no_sink": None if no_sink is None else no_sink * len(outside) / inside.sum(),
                }
            )  # fmt: skip
        below = float((weights < 0.25 / len(outside)).mean()) if len(outside) else None
        rows["attention_layers"].append(
            at | {
                "layer": layer, "entropy": 1.0, "n_eff": 2.0, "sink_mass": sink_mass,
                "eliminated_frac": below,
                "masked_frac": first / (position + 1), "rule": "lt_0.25_uniform",
            }
        )  # fmt: skip


def _prob(prompt: FakePrompt, one: Token) -> float:
    return float(prompt.probs[one.ranks[-1] - 1]) if one.prob is None else one.prob


def _top_tokens(rows: dict[str, list[dict[str, Any]]], prompt: FakePrompt, at: dict[str, Any]) -> None:
    known = {one.ranks[-1]: one for one in prompt.targets}
    for place, prob in enumerate(prompt.probs[:20].tolist(), start=1):
        one = known.get(place)
        rows["top_tokens"].append(
            at | {
                "place": place, "token": one.text if one else f" word{place}", "prob": prob,
                "token_id": one.id if one else place + 1000, "logprob": math.log(prob) if prob else -math.inf,
            }
        )  # fmt: skip


def _lens(rows: dict[str, list[dict[str, Any]]], prompt: FakePrompt, at: dict[str, Any]) -> None:
    for index in range(prompt.layers + 1):
        here = at | {"layer": index - 1, "lens": prompt.lens}
        leader = next((one.text for one in prompt.targets if one.ranks[index] == 1), " the")
        rows["lens_layers"].append(
            here
            | {"top_token": leader, "top_token_id": 1, "top_prob": float(prompt.probs[0]), "nucleus_size": 3}
        )
        for one in prompt.targets:
            prob = _prob(prompt, one)
            rows["lens"].append(
                here | {
                    "target": one.text, "token_id": one.id, "is_foil": one.is_foil, "rank": one.ranks[index],
                    "rank_ties": one.ties, "prob": prob, "logprob": math.log(prob) if prob else -math.inf,
                }
            )  # fmt: skip


def _samplers(rows: dict[str, list[dict[str, Any]]], prompt: FakePrompt, at: dict[str, Any]) -> None:
    targets = [one for one in prompt.targets if not one.is_foil]
    for name, stages in prompt.chains:
        logits = np.log(prompt.probs)
        for index, (stage, params) in enumerate(stages):
            logits = _run_stage(
                rows, prompt, at | {"chain": name, "stage_index": index}, stage, params, logits
            )
    for one in targets:
        prob = _prob(prompt, one)
        rows["survival"].append(
            at | {
                "target": one.text, "token_id": one.id, "ambiguous": one.ambiguous, "rank": one.ranks[-1],
                "prob": prob, "target_logprob": one.whole if one.whole is not None else math.log(prob or 1),
                "min_top_k": one.ranks[-1] if prob else None,
            }
        )  # fmt: skip


def _softmax(logits: np.ndarray) -> np.ndarray:
    exps = np.exp(logits - logits.max())
    return exps / exps.sum()


def _run_stage(
    rows: dict[str, list[dict[str, Any]]],
    prompt: FakePrompt,
    at: dict[str, Any],
    stage: str,
    params: dict[str, Any],
    logits: np.ndarray,
) -> np.ndarray:
    """One stage on logits sorted by falling probability."""
    kind = "top_k" if "k" in params else stage.split("#", maxsplit=1)[0]
    about = {"kind": kind, "margin_unit": STAGES[kind].margin_unit or None if kind in STAGES else None}
    value = next(iter(params.values()), None)
    active = kind not in OFF or value != OFF[kind]
    before = _softmax(logits)
    after, margins = apply(kind, value, params, logits, before) if active else (logits, None)
    left = _softmax(after)
    alive, still = np.isfinite(logits), np.isfinite(after)
    rows["sampling"].append(
        at | {
            "engine": at["chain"] if at["chain"] in ("llama.cpp", "hf", "vllm") else None, "stage": stage,
            "active": active, "params": json.dumps(params, sort_keys=True), "n_before": int(alive.sum()),
            "n_after": int(still.sum()), "mass_pruned": float(before[alive & ~still].sum()),
            "entropy_before": 1.0, "entropy_after": 1.0, "top_token": " Paris", "top_prob": float(left.max()),
        } | about
    )  # fmt: skip
    for one in prompt.targets:
        r = one.ranks[-1] - 1
        ok = _prob(prompt, one) > 0
        if not one.is_foil:
            rows["sampling_targets"].append(
                at | {
                    "stage": stage, "target": one.text, "token_id": one.id,
                    "alive_before": bool(alive[r]) and ok,
                    "alive_after": bool(still[r]) and ok, "prob_before": float(before[r]),
                    "prob_after": float(left[r]), "rank_before": r + 1 if alive[r] and ok else None,
                    "margin": None if margins is None or not alive[r] else float(margins[r]),
                } | about
            )  # fmt: skip
    return after


def apply(
    kind: str, value: Any, params: dict[str, Any], logits: np.ndarray, probs: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """The stages by their textbook rules: new logits and margins."""
    above = np.cumsum(probs) - probs
    if kind == "temperature" and value:
        return logits / value, None
    if kind == "top_p":
        margins = value - above
    elif kind == "top_k":
        margins = np.where(np.arange(len(logits)) < value, logits - logits[value], logits - logits[value - 1])
    elif kind == "min_p":
        margins = np.log(np.maximum(probs, 1e-300)) - math.log(value * probs.max())
    elif kind in ("greedy", "temperature"):
        margins = np.where(np.arange(len(logits)) == 0, logits[0] - logits[1], logits - logits[0])
    elif kind == "xtc":
        over = (probs >= params["threshold"]).sum()
        gone = np.arange(len(logits)) < over - 1
        margins = np.where(gone, -1.0, 1.0)
    elif kind == "typical":
        entropy = -np.nansum(probs * np.log(np.maximum(probs, 1e-300)))
        order = np.argsort(np.abs(-np.log(np.maximum(probs, 1e-300)) - entropy))
        running = np.empty_like(probs)
        running[order] = np.cumsum(probs[order]) - probs[order]
        margins = value - running
    elif kind == "top_n_sigma":
        alive = np.isfinite(logits)
        margins = value - (logits.max() - logits) / logits[alive].std()
    else:
        margins = np.full(len(logits), 0.5)
        margins[1:] = -0.5
    return np.where(margins >= 0, logits, -np.inf), margins

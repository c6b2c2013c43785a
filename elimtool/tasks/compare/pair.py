"""Compare two encoded prompts beyond what a trace of each would hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from elimtool.analysis.compare.align import Alignment, align
from elimtool.analysis.compare.heads import HeadMasses, head_rows
from elimtool.analysis.statistics.band import band, onset, others
from elimtool.files.rows import Row, Rows
from elimtool.model.view import Encoded
from elimtool.tasks.compare.controls import Control
from elimtool.tasks.compare.divergence import (
    Divergence,
    Ends,
    Reading,
    causal_within,
    diverge,
    last_residuals,
    read,
)
from elimtool.tasks.compare.flips import layer_flips, ranks, stage_flips
from elimtool.tasks.compare.spans import named_spans

if TYPE_CHECKING:
    from elimtool.lenses.lens import Lens
    from elimtool.metrics.metric import Settings
    from elimtool.model.model import Model


@dataclass(frozen=True, slots=True)
class Seen:
    """Two prompts that ran side by side, and the controls of their difference.

    Attributes:
        pair_id: Id of the pair.
        a: The first prompt.
        b: The second.
        ends: Their last probed positions.
        readings: What a lens reads there.
        controls: Controls of the edit.
    """

    pair_id: str
    a: Encoded
    b: Encoded
    ends: Ends
    readings: tuple[Reading, Reading]
    controls: Sequence[Control]

    @property
    def ids(self) -> list[str]:
        """``pair_id`` of the pair, then of its controls."""
        return [self.pair_id, *(f"{self.pair_id} # {n}" for n in range(1, len(self.controls) + 1))]

    @property
    def others(self) -> list[Encoded]:
        """The second prompt, then the controls: what the first is compared with."""
        return [self.b, *(control.encoded for control in self.controls)]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a pair of prompts adds to the tables of a comparison.

    Attributes:
        pairs: Rows of ``pairs``: for the pair, what traces do not tell of it; then one for each control.
        tables: Rows of ``alignment``, ``divergence`` and ``flips``.
        heads: Columns of ``head_differences``; empty if no span is named.
    """

    pairs: Rows
    tables: dict[str, Rows] = field(default_factory=dict)
    heads: dict[str, list[Any]] = field(default_factory=dict)


def aligned(a: Encoded, b: Encoded) -> Alignment:
    """Align the tokens of two prompts of one model."""
    return align(a.tokens, b.tokens, (a.token_ids, b.token_ids))


def measure_pair(
    model: Model,
    lens: Lens,
    settings: Settings,
    seen: Seen,
    traced: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> Measured:
    """Measure a pair and its controls beyond what the tables of two traces hold.

    Args:
        model: The model.
        lens: Reads the layers before the last.
        settings: Those of the traces: the sampler chains whose survivors are compared, and what they combine.
        seen: The pair.
        traced: The tables that a trace of each prompt fills.
    """
    names = list(dict.fromkeys(span.name for one in (seen.a, seen.b) for span in named_spans(one)))
    looked = "attention_heads" in traced[0] and bool(named_spans(seen.a))
    residuals, parts = last_residuals(model, seen.others[1:], looked)
    apart, tops = [diverge(*seen.readings)], [_top(model, one) for one in seen.readings]
    for residual in residuals:  # one reading at a time: each holds layers x vocabulary
        reading = read(model, lens, residual)
        apart.append(diverge(seen.readings[0], reading))
        tops.append(_top(model, reading))
    rows, divergence = _divergence(seen, apart)
    placed = [aligned(seen.a, other) for other in seen.others]
    held = None if seen.ends.difference is None else seen.ends.difference <= causal_within(model.dtype)
    rows[0] |= {"prefix_difference": seen.ends.difference, "prefix_holds": held}
    token_a, prob_a = tops[0]
    for row, where, (token_b, prob_b) in zip(rows, placed, tops[1:], strict=True):
        row.update(n_matched=len(where.matched), n_common_prefix=where.prefix)
        row.update(top_token_a=token_a, top_token_b=token_b, output_changed=token_a != token_b)
        row.update(top_prob_a=prob_a, top_prob_b=prob_b)
    for row, control in zip(rows[1:], seen.controls, strict=True):
        row.update(_control_row(seen, control))
    tables = {
        "alignment": [row for n, one in enumerate(placed) for row in _alignment(seen, n, one)],
        "divergence": divergence,
        "flips": _flips(model, seen, settings),
    }
    heads = _heads(seen, names, (*traced, *parts)) if looked else {}
    return Measured(rows, tables, heads)


def _top(model: Model, reading: Reading) -> tuple[str, float]:
    """Return text and probability of the output's most probable token."""
    token = int(reading.logits.argmax())
    return model.tokenizer.texts([token])[0], float(reading.logprobs[-1, token].double().exp())


def _divergence(seen: Seen, apart: Sequence[Divergence]) -> tuple[Rows, Rows]:
    """Make rows of ``pairs``, with the columns about layers, and of ``divergence``; the pair, then controls.

    A control is compared with the other controls.
    """
    js = [np.array(one.js) for one in apart]
    bands = [band(others(js[1:], index - 1) if index else js[1:]) for index in range(len(js))]
    onsets = [onset(values, border) for values, border in zip(js, bands, strict=True)]
    rows: Rows = [
        {"pair_id": name, "js_output": one.js[-1], "onset_layer": first}
        for name, one, first in zip(seen.ids, apart, onsets, strict=True)
    ]
    rows[0]["n_controls"] = len(seen.controls)
    if len(bands) > 1 and bands[1] is not None:
        rows[0]["onset_chance"] = sum(one is not None for one in onsets[1:]) / len(seen.controls)
    table = [
        {
            "pair_id": name,
            "layer": index - 1,
            "cosine_distance": _known(one.cosine_distance[index]),
            "relative_l2": _known(one.relative_l2[index]),
            "js": one.js[index],
            "jaccard": one.jaccard[index],
            "band": None if border is None else float(border[index]),
            "beyond": None if border is None else bool(one.js[index] > border[index]),
        }
        for name, one, border in zip(seen.ids, apart, bands, strict=True)
        for index in range(len(one.js))
    ]
    return rows, table


def _known(value: float) -> float | None:
    return None if isnan(value) else value


def _control_row(seen: Seen, control: Control) -> Row:
    """Make the columns of ``pairs`` for a control, which unlike a pair has no traces to take them from."""
    a, other = seen.a, control.encoded
    return {
        "prompt_id_a": a.prompt_id,
        "prompt_id_b": other.prompt_id,
        "control": control.kind,
        "of": seen.pair_id,
        "status": "ok",
        "text_a": a.text,
        "text_b": other.text,
        "n_tokens_a": len(a.token_ids),
        "n_tokens_b": len(other.token_ids),
        "position_a": a.positions[-1],
        "position_b": other.positions[-1],
        "n_targets": 0,
        "n_unmatched_a": 0,
        "n_unmatched_b": 0,
        "tags": [],
    }


def _alignment(seen: Seen, index: int, placed: Alignment) -> Rows:
    return placed.as_rows(seen.ids[index], seen.a.tokens, seen.others[index].tokens)


def _flips(model: Model, seen: Seen, settings: Settings) -> Rows:
    """Make the rows of ``flips``: tokens eliminated on one side only, by layers and by stages."""
    stages = stage_flips(*seen.readings, (seen.a, seen.b), settings.chains, settings.against)
    found = [*layer_flips(*seen.readings), *stages]
    followed = {target.token_id for target in seen.a.targets} & {t.token_id for t in seen.b.targets}
    tokens = list(dict.fromkeys(row["token_id"] for row in found))
    facts: dict[int, Row] = {token: {"is_target": token in followed} for token in tokens}
    for side, one in zip("ab", seen.readings, strict=True):
        places = ranks(one.logprobs[-1], torch.tensor(tokens, dtype=torch.long))
        for token, place in zip(tokens, places, strict=True):
            prob = float(one.logprobs[-1, token].double().exp())
            facts[token] |= {f"rank_{side}": place, f"prob_{side}": prob, f"token_id_{side}": token}
    for token, text in zip(tokens, model.tokenizer.texts(tokens), strict=True):
        facts[token] |= dict.fromkeys(("token", "target_token_a", "target_token_b"), text)
    return [{"pair_id": seen.pair_id, **facts[row.pop("token_id")], **row} for row in found]


def _heads(seen: Seen, names: Sequence[str], parts: Sequence[Any]) -> dict[str, list[Any]]:
    """Compare the attention of heads to the named spans, for the pair and its controls."""
    tables = [one["attention_heads"] if isinstance(one, Mapping) else one for one in parts]
    first = HeadMasses.of(tables[0], seen.a.prompt_id, names)
    second = HeadMasses.of(tables[1], seen.b.prompt_id, names)
    rest = pa.concat_tables(tables[2:]) if tables[2:] else None
    controls = {
        name: HeadMasses.of(rest, one.prompt_id, names)
        for name, one in zip(seen.ids[1:], seen.others[1:], strict=True)
    }
    return head_rows(first, second, seen.pair_id, controls)

"""Roles of heads: one that does nothing else scores 1 and its null 0; against TransformerLens' detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens import head_detector as published

from elimtool.analysis.map.roles import output_ratios
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.run.analysis import Analysis
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.roles import NEARLY, OTHERS, Copies, PatternSums, output_sizes
from elimtool.tasks.map.units import HALF, MapSource, Unit, Units

LONG = 2 * HALF


@pytest.fixture(scope="module")
def units(llama: Any, corpus: Path) -> dict[str, list[Unit]]:
    records = MapSource(llama, Corpus.of(corpus), MapOptions.of(tokens=64)).records()
    made = [Units(llama, 64).of(record) for record in records]
    return {kind: [one for one in made if one.kind == kind] for kind in ("repeats", "control", "text")}


def summed(llama: Any, units: list[Unit], weights: torch.Tensor) -> dict[str, Any]:
    """Mean weight over the rows that count, of layer 0's first head."""
    batch = Batch.of([one.encoded for one in units])
    sums = PatternSums(llama, units, batch)
    whole = weights.expand(len(units), llama.n_heads, -1, -1)
    sums.observe(LayerView(0, batch, torch.zeros(len(units), LONG, 16)), Formed(whole))
    found = sums.sums()
    return {name: (found[name] / np.maximum(found[f"{name}.rows"], 1))[0, 0, 0] for name in sums.names}


def attending(back: int) -> torch.Tensor:
    """A head that gives all to the key so far before, and to the first where there is none."""
    weights = torch.zeros(LONG, LONG)
    weights[range(LONG), [max(0, at - back) for at in range(LONG)]] = 1
    return weights


@pytest.mark.parametrize(("role", "back"), [("previous", 1), ("duplicate", HALF), ("induction", HALF - 1)])
def test_a_head_that_does_nothing_else_scores_one(
    llama: Any, units: dict[str, list[Unit]], role: str, back: int
) -> None:
    found = summed(llama, units["repeats"], attending(back))
    assert found.pop(role) == 1.0
    assert set(found.values()) == {0.0}


def test_uniform_attention_gives_the_mean_of_what_rows_can_see(
    llama: Any, units: dict[str, list[Unit]]
) -> None:
    weights = torch.tril(torch.ones(LONG, LONG)) / torch.arange(1, LONG + 1)[:, None]
    found = summed(llama, units["repeats"], weights)
    assert found["induction"] == pytest.approx(np.mean([1 / (at + 1) for at in range(HALF, LONG)]))
    assert found["previous"] == pytest.approx(np.mean([1 / (at + 1) for at in range(2, LONG)]))


def test_transformer_lens_divides_by_rows_without_a_target_too(
    llama: Any, units: dict[str, list[Unit]]
) -> None:
    unit = units["repeats"][0]
    ids = torch.tensor([unit.encoded.token_ids])
    weights = torch.softmax(
        torch.randn(LONG, LONG, generator=torch.Generator().manual_seed(0)).masked_fill(
            torch.triu(torch.ones(LONG, LONG, dtype=torch.bool), 1), -torch.inf
        ),
        -1,
    )
    found = summed(llama, [unit], weights)

    def score(pattern: torch.Tensor) -> float:
        return float(
            published.compute_head_attention_similarity_score(
                weights, pattern, exclude_bos=False, exclude_current_token=False, error_measure="mul"
            )
        )

    # half of the rows have a target: all of the sequence's second half
    assert score(published.get_induction_head_detection_pattern(ids)) == pytest.approx(found["induction"] / 2)
    # here a row whose target is the sink at position 0 does not count
    duplicate = (found["duplicate"] * (HALF - 1) + float(weights[HALF, 0])) / LONG
    assert score(published.get_duplicate_token_head_detection_pattern(ids)) == pytest.approx(duplicate)
    previous = (found["previous"] * (LONG - 2) + float(weights[1, 0])) / LONG
    assert score(published.get_previous_token_head_detection_pattern(ids[0])) == pytest.approx(previous)


def test_a_head_that_writes_its_token_copies_and_one_that_writes_against_it_suppresses(
    llama: Any, units: dict[str, list[Unit]]
) -> None:
    batch = Batch.of([one.encoded for one in units["text"][:2]])
    sinks = torch.zeros(batch.ids.shape, dtype=torch.bool)
    sinks[:, 0] = True
    copies = Copies(llama, batch, sinks)
    seen: list[Any] = []
    llama.stream(batch, {"attention", "block", "values"}, seen.append)
    carried = seen[1].carried
    heads, width, size = carried.map.shape
    # values are each token's own direction, as far as a head's space holds it; the map carries it back
    space = torch.linalg.qr(copies.own.reshape(-1, width).T)[0][:, :size]
    whole = llama.written(batch.ids.flatten()).reshape(*batch.ids.shape, width)
    values = (whole @ space)[:, None].expand(-1, carried.values.shape[1], -1, -1)
    signed = torch.stack([space if head % 2 == 0 else -space for head in range(heads)])
    signed[-1] = 0

    found = copies.read(values, signed)
    above, rows = found["copying"]
    below, _ = found["suppressing"]
    assert torch.equal(above[:, 0], below[:, 1]) and torch.equal(below[:, 0], above[:, 1])
    assert (above + below <= rows).all()
    own = ((copies.own @ space) ** 2).sum(-1, keepdim=True)
    others = (copies.own @ space) @ (copies.others @ space).T
    expected = (((own > others).sum(-1) >= NEARLY) & copies.places).sum(-1)
    assert torch.equal(above[:, 0].long(), expected) and int(expected.sum()) > 0
    assert (rows[:, -1] == 0).all()  # a head that writes nothing has no score
    assert len(copies.others) == OTHERS


def test_sizes_of_outputs_are_those_of_what_heads_write(llama: Any, units: dict[str, list[Unit]]) -> None:
    batch = Batch.of([one.encoded for one in units["text"][:2]])
    seen: list[Any] = []
    llama.stream(batch, {"block"}, seen.append)
    heads = seen[1].block.heads
    parts = heads.inputs.unflatten(-1, (heads.count, -1))
    weight = heads.weight.unflatten(-1, (heads.count, -1))
    written = torch.einsum("uqhd,whd->uhqw", parts, weight)
    torch.testing.assert_close(output_sizes(heads), written.norm(dim=-1), rtol=1e-4, atol=1e-6)
    ratios = output_ratios(np.array([[1.0, 3.0], [0.0, 0.0]]))
    assert ratios[0].tolist() == [0.5, 1.5] and np.isnan(ratios[1]).all()


def test_roles_of_a_random_model_are_at_their_null(mapped: Analysis) -> None:
    rows = mapped.table("head_roles")
    assert set(rows["role"]) == {
        "previous", "duplicate", "induction", "sink", "copying", "suppressing", "dormant", "retrieval",
        "successor",
    }  # fmt: skip
    told = rows[rows["role"] == "retrieval"]
    assert told[["score", "null", "present", "greedy"]].isna().all(axis=None)  # the model says no answer
    (note,) = mapped.manifest.notes
    assert note.startswith("retrieval cannot be measured: the model itself says")
    following = rows[rows["role"] == "successor"]
    assert following.query("layer == 0")["score"].isna().all() and not following["present"].any()
    assert not rows.query("role in ('previous', 'duplicate', 'induction')")["present"].any()
    dormant = rows[rows["role"] == "dormant"]
    assert (dormant.groupby("layer")["output_ratio"].mean().round(6) == 1).all()
    assert rows[rows["role"] != "dormant"]["output_ratio"].isna().all()
    tested = rows[rows["p"].notna()]
    assert ((tested["q"] >= tested["p"]) & (tested["low"] <= tested["score"])).all()
    written = rows[rows["role"].isin(["copying", "suppressing", "successor"])]
    assert written.query("layer == 0")["score"].isna().all()
    assert written.query("layer > 0")["score"].notna().all()

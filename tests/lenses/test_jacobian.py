"""Jacobian lenses as TransformerLens fits and saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.errors import ElimError
from elimtool.lenses.corpus import Document
from elimtool.lenses.evaluate import _Output, evaluate
from elimtool.lenses.find import check_choice, open_lens
from elimtool.lenses.jacobian import load_jacobian

TEXT = "The capital of France is Paris. The capital of Germany is Berlin."


@pytest.fixture(scope="module")
def fitted(llama_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    """A lens that TransformerLens fitted on its own bridge of the model, that bridge, and the file."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis.jacobian_lens import JacobianLens

    bridge = TransformerBridge.boot_transformers(str(llama_directory), device="cpu", dtype=torch.float32)
    lens = JacobianLens.fit(
        bridge, [TEXT], corpus="a test", dim_batch=16, max_seq_len=24, show_progress=False
    )
    path = tmp_path_factory.mktemp("lens") / "own.pt"
    lens.save(str(path))  # float16, as TransformerLens keeps them
    return JacobianLens.load(str(path)), bridge, path


def saved(path: Path, layers: int = 2, width: int = 3, **payload: Any) -> Path:
    maps = {layer: torch.eye(width, dtype=torch.float16) for layer in range(layers - 1)}
    given = {"J": maps, "n_prompts": 1, "source_layers": sorted(maps), "d_model": width}
    torch.save({**given, **payload}, path)
    return path


def test_a_trace_reads_what_transformer_lens_reads(llama: Any, fitted: Any) -> None:
    lens, bridge, path = fitted
    assert lens.metadata["transformer_lens_fit"] and lens.source_layers == list(range(llama.n_layers - 1))
    ids = llama.encode(Prompt(text=TEXT)).token_ids
    found = lens.readout(bridge, torch.tensor([ids]), positions=[-1], return_full_logits=True)
    identity = torch.eye(llama.width)
    assert all(not torch.allclose(one, identity, atol=0.01) for one in lens.jacobians.values())
    run = elimtool.trace(
        llama,
        TEXT,
        targets=("e",),
        options=TraceOptions(lens=f"jacobian:{path}", tables=("lens", "top_tokens")),
    )
    rows = run.table("lens")
    assert set(rows["lens"]) == {"jacobian"} and run.manifest.lens["name"] == "jacobian"  # type: ignore[index]
    token = int(rows["token_id"].iloc[0])
    for layer, logits in found.lens_logits.items():
        row = rows[rows["layer"] == layer].iloc[0]
        assert row["rank"] == int((logits[0] > logits[0, token]).sum()) + 1, layer
        assert row["logprob"] == pytest.approx(float(logits[0].log_softmax(-1)[token]), abs=1e-3)


def test_maps_that_are_the_identity_give_the_raw_lens(tmp_path: Path) -> None:
    lens = load_jacobian(saved(tmp_path / "a.pt", layers=3), 3, 3)
    x = torch.randn(5, 3)
    for layer in (-1, 0, 1):
        assert torch.equal(lens.to_final(x, layer), x)


def test_lenses_are_compared_on_the_same_text(llama: Any, fitted: Any) -> None:
    documents = (Document("a", "prose", 1, TEXT * 4),)
    lens, _ = open_lens(f"jacobian:{fitted[2]}", llama)
    layers = evaluate(llama, [lens], documents, samples=30, window=40).layers
    assert {one.lens for one in layers} == {"raw", "jacobian"}
    assert all(-1 <= one.rank_correlation <= 1 and 0 <= one.mass_moved <= 1 for one in layers)

    # a reading that is right has every measure at its end
    own = torch.arange(12).view(6, 2)
    output = _Output(torch.randn(6, 80).double().log_softmax(-1), own)
    kl, agree, ranks, moved, said = output.compare(output.probs.log()).tolist()
    assert said == int((output.top[:, None] == own).any(-1).sum())
    assert kl == pytest.approx(0, abs=1e-9) and (agree, ranks) == (6, pytest.approx(6))
    assert moved == pytest.approx(0, abs=1e-9)
    backwards = output.compare(-output.probs.log()).tolist()
    assert backwards[2] == pytest.approx(-6) and backwards[3] > 0


@pytest.mark.parametrize(
    ("payload", "size", "says"),
    [
        ({}, (4, 3), "maps for 1 layers"),
        ({}, (2, 4), "other maps than 4 by 4"),
        ({"J": {0: torch.full((3, 3), torch.nan)}}, (2, 3), "not finite"),
        ({"J": torch.eye(3)}, (2, 3), "must be mappings"),
        ({"J": {0: 1.0}}, (2, 3), "not tensors"),
        ({"metadata": {"target_layer": 0}}, (2, 3), "maps to layer 0"),
        ({"metadata": {"model_revision": "old"}}, (2, 3), "revision old"),
        ({"metadata": {"processing": {"compatibility_mode": True}}}, (2, 3), "processed weights"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, payload: Any, size: Any, says: str) -> None:
    with pytest.raises(ElimError, match=says):
        load_jacobian(saved(tmp_path / "a.pt", **payload), *size, revision="new")


def test_damaged_and_absent_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(ElimError, match="no such file"):
        check_choice(f"jacobian:{path}")
    path.write_bytes(b"no pickle")
    with pytest.raises(ElimError, match="cannot read"):
        load_jacobian(path, 2, 3)
    torch.save({"jacobian_sum": {}}, path)
    with pytest.raises(ElimError, match="has no J"):
        load_jacobian(path, 2, 3)
    torch.save({"J": Path("code")}, path)  # a pickle runs no code
    with pytest.raises(ElimError, match="cannot read"):
        load_jacobian(path, 2, 3)

"""What layers change and neurons open at, against Hugging Face's own states and blocks taken out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import elimtool
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.run.analysis import Analysis
from elimtool.tasks.map.layers import READ_EVERY, READ_PASSAGES, READ_TOKENS, changed, losses, sizes
from elimtool.tasks.map.neurons import openings
from tests.families import save

PARTS = ("neurons", "layers")
TOKENS = 64
FAMILIES = ("llama", "gpt_neox", "gemma2", "gpt2")
"""Gated; parallel blocks and no gate; norms behind and scaled embeddings; no gate, learned positions."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any, corpus: Path
) -> tuple[Any, Any, Analysis, torch.Tensor, torch.Tensor]:
    """The model, the same in plain transformers, its map, the ids of all passages, and which are no sinks."""
    directory = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    model = load_model(str(directory))
    plain = load_hugging_face(request.param, directory, "float32", False)
    out = tmp_path_factory.mktemp("map") / "map"
    found = elimtool.map_model(model, out=out, only=PARTS, corpus=corpus, tokens=TOKENS)
    rows = elimtool.open_run(out).arrow("prompts").to_pylist()
    ids = torch.tensor([row["token_ids"] for row in rows if row["group"] == "text"])
    text = torch.ones(ids.shape, dtype=torch.bool)
    text[:, 0] = False
    return model, plain, found, ids, text


def states(plain: Any, blocks: str, ids: torch.Tensor, skip: int | None = None) -> list[torch.Tensor]:
    """The residual stream before the first and after every block, with one block taken out."""
    found: list[torch.Tensor] = []
    kept = plain.get_submodule(blocks)
    hooks = [kept[0].register_forward_pre_hook(lambda _m, args, named: found.append(
        args[0] if args else named["hidden_states"]), with_kwargs=True)]  # fmt: skip

    def out(at: int) -> Any:
        def see(_m: nn.Module, args: Any, named: dict[str, Any], given: Any) -> Any:
            before = args[0] if args else named["hidden_states"]
            state = before if at == skip else given[0] if isinstance(given, tuple) else given
            found.append(state)
            return (state, *given[1:]) if isinstance(given, tuple) else state

        return see

    hooks += [block.register_forward_hook(out(at), with_kwargs=True) for at, block in enumerate(kept)]
    with torch.inference_mode():
        logits = plain(input_ids=ids).logits
    for hook in hooks:
        hook.remove()
    return [*found, logits.double().log_softmax(-1)]


def test_influence_and_sizes_are_those_of_plain_states(family: Any) -> None:
    model, plain, found, ids, text = family
    table = found.table("layers")
    *residual, _ = (one.double() for one in states(plain, model.block_names, ids))
    for layer in range(model.n_layers):
        row, before, after = table.loc[layer], residual[layer], residual[layer + 1]
        cosine = nn.functional.cosine_similarity(before, after, dim=-1)
        assert row["influence"] == pytest.approx(1 - float(cosine[text].mean()), abs=1e-5)
        assert row["influence_sink"] == pytest.approx(1 - float(cosine[~text].mean()), abs=1e-5)
        assert row["angular"] == pytest.approx(
            float(cosine[text].clamp(-1, 1).acos().mean()) / np.pi, abs=1e-3
        )
        assert row["influence_low"] <= row["influence"] <= row["influence_high"]
        size = after.abs()
        passage = int(size.flatten(1).amax(1).argmax())
        place = int(size[passage].argmax())
        assert row["max_abs"] == pytest.approx(float(size.max()), rel=1e-4)
        assert (row["max_position"], row["max_channel"]) == divmod(place, model.width)
        ratio = float(size.max() / size[passage].median())
        assert row["max_ratio"] == pytest.approx(ratio, rel=1e-3) and row["n_massive"] == 0
        assert row["max_abs_elsewhere"] == pytest.approx(float(size[text].max()), rel=1e-4)


def test_what_is_lost_without_a_layer_is_what_a_model_without_it_loses(family: Any) -> None:
    model, plain, found, ids, _ = family
    table, some = found.table("layers"), ids[:READ_PASSAGES, :READ_TOKENS]
    assert set(table["n_read"]) == {READ_PASSAGES}
    places = torch.arange(2, READ_TOKENS - 1, READ_EVERY)  # 0 is a sink, after the last there is no token
    following = some[:, places + 1]
    *residual, whole = states(plain, model.block_names, some)
    whole = whole[:, places]
    firsts = [model.readout(one[:, places].flatten(0, 1)).argmax(-1) for one in residual[1:]]
    same = torch.stack([one == whole.flatten(0, 1).argmax(-1) for one in firsts])
    for layer in range(model.n_layers):
        row = table.loc[layer]
        without = states(plain, model.block_names, some, layer)[-1][:, places]
        kl = (whole.exp() * (whole - without)).sum(-1).mean()
        assert row["skip_kl"] == pytest.approx(float(kl), rel=1e-3, abs=1e-7)
        nll = (whole - without).gather(-1, following[..., None]).mean()
        assert row["skip_nll"] == pytest.approx(float(nll), rel=1e-3, abs=1e-6)
        agree = (whole.argmax(-1) == without.argmax(-1)).double().mean()
        assert row["skip_agree"] == pytest.approx(float(agree), abs=2e-3)
        assert row["exit_agree"] == pytest.approx(float(same[layer].double().mean()), abs=2e-3)
        assert row["saturated"] == pytest.approx(float(same[layer:].all(0).double().mean()), abs=2e-3)
    assert table["exit_agree"].iloc[-1] == table["saturated"].iloc[-1] == 1
    assert (table["saturated"].diff().dropna() >= 0).all()
    assert (table["saturated"] <= table["exit_agree"]).all()


def test_neurons_open_where_their_activation_is_above_zero(family: Any) -> None:
    model, plain, found, ids, text = family
    table = found.table("neurons")
    activation: dict[int, torch.Tensor] = {}
    hooks = []
    for layer, block in enumerate(plain.get_submodule(model.block_names)):
        mlp = next(getattr(block, name) for name in ("mlp", "feed_forward") if hasattr(block, name))
        down = next(
            getattr(mlp, name) for name in ("down_proj", "dense_4h_to_h", "c_proj") if hasattr(mlp, name)
        )
        hooks.append(
            down.register_forward_pre_hook(
                lambda _m, args, layer=layer: activation.__setitem__(layer, args[0].double())
            )
        )
        gate = getattr(mlp, "gate_proj", None)
        if gate is not None:
            hooks.append(
                gate.register_forward_hook(
                    lambda _m, _i, out, layer=layer: activation.__setitem__(100 + layer, out.double())
                )
            )
    with torch.inference_mode():
        plain(input_ids=ids)
    for hook in hooks:
        hook.remove()
    for layer in range(model.n_layers):
        own = table[table["layer"] == layer]
        after = activation[layer][text]
        before = activation.get(100 + layer, activation[layer])[text] if 100 + layer in activation else after
        np.testing.assert_allclose(own["open"], (before > 0).double().mean(0), atol=2e-3)
        largest = after.abs().amax(-1, keepdim=True)
        np.testing.assert_allclose(
            own["below_1pct"], (after.abs() < 0.01 * largest).double().mean(0), atol=2e-3
        )
        assert set(own["n"]) == {int(text.sum())}
        assert own["dead"].isna().all()  # too few tokens
        assert found.table("layers")["open"][layer] == pytest.approx(own["open"].mean())


def test_mixtures_have_no_neurons_and_say_so(tmp_path: Path, tokenizer: Any, corpus: Path) -> None:
    model = load_model(str(save("mixtral", tmp_path, tokenizer)))
    found = elimtool.map_model(model, only=PARTS, corpus=corpus, tokens=TOKENS)
    rows = found.table("neurons")
    assert len(rows) == model.n_layers and rows["open"].isna().all()
    assert rows["unmeasured"].str.contains("mixture of experts").all()
    layers = found.table("layers")
    assert layers["open"].isna().all() and layers[["influence", "skip_kl"]].notna().all(axis=None)


def test_identity_and_opposite_blocks() -> None:
    state = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    text = torch.ones(2, 7, dtype=torch.bool)
    text[:, 0] = False
    for factor, cosine, angle in ((1.0, 6.0, 0.0), (3.0, 6.0, 0.0), (-1.0, -6.0, 6.0)):
        found = changed(state, factor * state, text)
        torch.testing.assert_close(found["cos"], torch.full((2,), cosine, dtype=torch.float64))
        torch.testing.assert_close(
            found["angle"], torch.full((2,), angle, dtype=torch.float64), atol=1e-6, rtol=0
        )
        assert found["rows"].tolist() == [6, 6] and found["sink.rows"].tolist() == [1, 1]
    logits = torch.randn(9, 11, dtype=torch.float64).log_softmax(-1)
    nothing = losses(logits, logits, torch.arange(9))
    assert nothing == {"skip_kl": 0.0, "skip_nll": 0.0, "skip_agree": 9.0}


def test_massive_activations_by_hand() -> None:
    state = torch.full((1, 4, 50), 0.5)
    state[0, 0, 7], state[0, 2, 3] = -900.0, 120.0
    text = torch.tensor([[False, True, True, True]])
    found = {name: one.item() for name, one in sizes(state, text).items()}
    assert found == {
        "max_abs": 900.0, "max_position": 0.0, "max_channel": 7.0, "median": 0.5, "n_massive": 1.0,
        "max_elsewhere": 120.0,
    }  # fmt: skip
    assert sizes(state / 10, text)["n_massive"].item() == 0  # 90 is 1,800 times the median, and under 100


def test_openings_by_hand_and_under_permutation() -> None:
    before = torch.tensor([[1.0, -1.0, 0.0], [2.0, 3.0, -1.0]])
    after = torch.tensor([[100.0, -0.5, 1.0], [-1.0, 0.005, 0.02]])
    opened, below = openings(before, after)
    assert opened.tolist() == [2, 1, 0] and below.tolist() == [0, 2, 0]
    order = [2, 0, 1]
    assert openings(before[:, order], after[:, order])[0].tolist() == opened[order].tolist()

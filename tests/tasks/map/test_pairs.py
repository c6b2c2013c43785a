"""Pairs of heads: how alike they are, and what is lost without both, held against plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elimtool.analysis.map.redundancy import alignment
from elimtool.model.heads import Heads
from elimtool.model.loading import load_hugging_face, load_model
from elimtool.run.analysis import Analysis
from elimtool.tasks.map.interactions import Interactions
from elimtool.tasks.map.redundancy import attended_apart, overlaps, unbiased_hsic, written_alike
from elimtool.tasks.map.units import HALF
from tests.families import save


def attention(heads: int = 3, texts: int = 2, keys: int = 9) -> torch.Tensor:
    scores = torch.randn(texts, heads, keys, keys, generator=torch.Generator().manual_seed(0)).double() * 2
    hidden = torch.triu(torch.ones(keys, keys, dtype=torch.bool), 1)
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)


def test_divergences_of_attention_by_hand() -> None:
    weights = attention()
    counts = torch.ones(2, 3, 9, dtype=torch.bool)
    counts[0, 1, 4] = False
    found = attended_apart(weights, counts)
    js = (found["js"] / found["js.rows"]).numpy()
    assert np.allclose(js, js.T) and np.allclose(np.diag(js), 0, atol=1e-6) and (js <= 1).all()
    rows = [(text, query) for text in range(2) for query in range(9) if (text, query) != (0, 4)]
    each = []
    for text, query in rows:
        one, other = (weights[text, head, query].numpy() for head in (0, 1))
        middle = (one + other) / 2
        kl = [
            sum(p * np.log2(p / m) for p, m in zip(side, middle, strict=True) if p) for side in (one, other)
        ]
        each.append(sum(kl) / 2)
    assert js[0, 1] == pytest.approx(np.mean(each), abs=1e-5) and found["js.rows"][0, 1] == len(rows)
    # the null is of the other's rows in the next text: two texts that are alike have what they have apart
    same = attended_apart(weights[:1].expand(2, -1, -1, -1), torch.ones_like(counts))
    torch.testing.assert_close(same["js"], same["js.null"])


def test_heads_that_attend_nowhere_in_common_are_a_bit_apart() -> None:
    weights = torch.zeros(1, 2, 4, 4, dtype=torch.double)
    weights[0, 0, :, 0] = weights[0, 1, :, 1] = 1
    found = attended_apart(weights, torch.ones(1, 2, 4, dtype=torch.bool))
    assert found["js"][0, 1] / found["js.rows"][0, 1] == pytest.approx(1.0)


def outputs(seed: int, rows: int = 300, size: int = 6) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)).double()


def aligned(one: torch.Tensor, other: torch.Tensor) -> float:
    """The alignment of two sets of outputs, as of two heads of a layer."""
    products = torch.stack([values @ values.T for values in (one, other)])
    own = unbiased_hsic(products, products).numpy()[None, None]
    size = products.diagonal(dim1=-2, dim2=-1).mean(-1).numpy()[None, None]
    return float(alignment(own, own, size, np.full((1, 1), len(one)))[0, 0, 1])


def test_alignment_is_one_up_to_rotation_shift_and_scale_and_zero_when_shuffled() -> None:
    one = outputs(0)
    turn = torch.linalg.qr(outputs(1, 6)).Q
    assert aligned(one, one) == pytest.approx(1)
    assert aligned(one, 3 * one @ turn + 5) == pytest.approx(1)
    apart = [aligned(one, one[torch.randperm(300, generator=torch.Generator().manual_seed(at))])
             for at in range(12)]  # fmt: skip
    assert abs(np.mean(apart)) < 0.01 and max(map(abs, apart)) < 0.05
    assert np.isnan(aligned(one, torch.ones(300, 6).double()))  # what is constant has no alignment
    assert np.isnan(aligned(outputs(0, 200), outputs(0, 200)))  # too few tokens


def test_dependence_is_the_mean_of_gretton_over_all_quadruples() -> None:
    one, other = (outputs(seed, 7, 2) for seed in (2, 3))
    k, m = ((values @ values.T).numpy() for values in (one, other))
    quadruples = [(i, j, q, r) for i in range(7) for j in range(7) for q in range(7) for r in range(7)
                  if len({i, j, q, r}) == 4]  # fmt: skip
    expected = np.mean([k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in quadruples])
    found = unbiased_hsic(*(torch.tensor(some)[None] for some in (k, m)))
    assert float(found[0, 0]) == pytest.approx(expected, rel=1e-9)


def test_what_heads_write_is_compared_not_what_they_carry() -> None:
    """Two heads that carry the same and write it through one map turned round are alike."""
    carried = outputs(4, 2 * 160, 4).float().reshape(2, 160, 4)
    weight = outputs(5, 12, 4).float()
    turn = torch.linalg.qr(outputs(6, 4, 4)).Q.float()
    heads = Heads(torch.cat([carried, carried @ turn], -1), torch.cat([weight, weight @ turn], 1), 2)
    text = torch.ones(2, 160, dtype=torch.bool)
    text[:, 0] = False
    found = {name: one.numpy()[None, None] for name, one in written_alike(heads, text).items()}
    assert found["rows"][0, 0] == 2 * 159
    cka = alignment(found["hsic"], found["hsic"], found["size"], found["rows"])
    null = alignment(found["hsic.null"], found["hsic"], found["size"], found["rows"])
    assert cka[0, 0, 1] == pytest.approx(1, abs=1e-4) and abs(null[0, 0, 1]) < 0.05


def test_overlaps_of_equal_and_of_random_spaces() -> None:
    maps = torch.randn(40, 24, 3, generator=torch.Generator().manual_seed(0))
    mixed = maps[:1] @ torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(1))
    flat = maps[:1].clone()
    flat[..., 2] = 0  # a head that uses two of its channels
    shared, chance = overlaps(torch.cat([maps, mixed, flat]))
    assert shared[0, 40] == pytest.approx(1, abs=1e-5)
    assert shared[0, 41] == pytest.approx(2 / 6**0.5, abs=1e-5)
    assert chance[0, 1] == pytest.approx(3 / 24) and chance[0, 41] == pytest.approx(6**0.5 / 24)
    torch.testing.assert_close(shared, shared.T)
    apart = shared[:40, :40][~torch.eye(40, dtype=torch.bool)]
    assert float(apart.mean()) == pytest.approx(3 / 24, abs=0.005)


@pytest.fixture(scope="module", params=["llama", "gpt_neox", "gpt2"])
def ablated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any
) -> tuple[Interactions, Any]:
    """Two chosen heads of a model, the same model in plain transformers."""
    directory = save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)
    part = Interactions(load_model(str(directory)), 64)
    part.pairs = [((1, 2), (3, 1)), ((2, 0), (2, 3)), ((0, 1), (1, 2))]
    return part, load_hugging_face(request.param, directory, "float32", False)


def plain_loss(part: Interactions, plain: Any, heads: Any) -> torch.Tensor:
    """The loss of plain transformers' own code, the heads at their mean by hooks on its projections."""
    names = ("o_proj", "dense", "c_proj")
    blocks = plain.get_submodule(part.model.block_names)
    outs = []
    for block in blocks:
        mixer = next(getattr(block, one) for one in ("self_attn", "attention", "attn") if hasattr(block, one))
        outs.append(next(getattr(mixer, one) for one in names if hasattr(mixer, one)))
    ids, carried = part.sequences.ids, {}
    seen = [out.register_forward_pre_hook(lambda _m, args, at=at: carried.update({at: args[0].clone()}))
            for at, out in enumerate(outs)]  # fmt: skip
    with torch.inference_mode():
        plain(input_ids=ids)
    for hook in seen:
        hook.remove()

    def put(layer: int, head: int) -> Any:
        def hook(_module: Any, args: Any) -> Any:
            new = args[0].clone()
            size = new.shape[-1] // part.model.n_heads
            columns = slice(head * size, (head + 1) * size)
            new[:, 1:, columns] = carried[layer][:, 1:, columns].mean((0, 1))
            return (new, *args[1:])

        return outs[layer].register_forward_pre_hook(hook)

    hooks = [put(*one) for one in heads]
    with torch.inference_mode():
        logits = plain(input_ids=ids).logits.double().log_softmax(-1)
    for hook in hooks:
        hook.remove()
    told = logits[:, HALF:-1].gather(-1, ids[:, HALF + 1 :, None])[..., 0]
    return -told.mean(1)


def test_effects_are_those_of_plain_models_with_heads_at_their_means(ablated: Any) -> None:
    part, plain = ablated
    own = plain_loss(part, plain, ())
    for index, pair in enumerate(part.pairs):
        assert part.pair(index) == pair
        found = part.effects(pair)
        for row, heads in enumerate((pair[:1], pair[1:], pair)):
            expected = plain_loss(part, plain, heads) - own
            torch.testing.assert_close(found[row], expected, atol=2e-5, rtol=1e-4)
            assert float(expected.abs().max()) > 1e-4  # else nothing was ablated
        turned = part.effects((pair[1], pair[0]))
        torch.testing.assert_close(turned, found[[1, 0, 2]], atol=1e-6, rtol=0)
    null = part.null(part.pairs[0], 0)
    assert null.shape == (15,) and bool(null.isfinite().all())  # 4 x 4 pairs but for the pair itself
    assert part.null(part.pairs[1], 1).shape == (5,)  # of one layer: 6 pairs of heads


def test_a_head_that_hands_on_the_same_everywhere_interacts_with_none(tmp_path: Path, tokenizer: Any) -> None:
    model = load_model(str(save("llama", tmp_path, tokenizer)))
    with torch.no_grad():  # heads 2 and 3 of layer 1 have the values of one group
        model.hf.get_submodule("model.layers.1.self_attn.v_proj").weight[8:] = 0
    part = Interactions(model, 64)
    part.pairs = [((1, 2), (3, 1))]
    a, b, both = part.effects(part.pairs[0])
    assert float(a.abs().max()) < 1e-6 and float(b.abs().max()) > 1e-4
    torch.testing.assert_close(both - a - b, torch.zeros(16, dtype=torch.float64), atol=1e-6, rtol=0)


def test_pairs_of_a_map(mapped: Analysis) -> None:
    rows = mapped.table("head_pairs")
    assert len(rows) == 4 * 6 and (rows["layer_a"] == rows["layer_b"]).all()
    assert (rows["same_group"] == (rows["head_a"] // 2 == rows["head_b"] // 2)).all()
    numbers = rows[["js", "js_null", "cka", "cka_null", "affinity", "affinity_null"]]
    assert numbers.notna().all(axis=None)
    assert rows["js"].between(0, 1).all() and rows["cka_null"].abs().mean() < 0.1
    assert (rows["affinity_null"] == 8 / 32).all()
    assert not len(mapped.table("head_interactions"))  # random weights have no role

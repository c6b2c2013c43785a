"""Tokens as clouds: neighbours, analogies and axes, with the controls that they stand beside."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elimtool.errors import ElimError
from elimtool.lenses.axis import axis, direction, last_residuals
from elimtool.lenses.clouds import Cloud, analogy, near
from elimtool.lenses.corpus import Document, shipped
from elimtool.lenses.raw import RawLens
from elimtool.lenses.reading_near import reading_near
from elimtool.lenses.words import Word, find_word, same_word
from elimtool.prompts.prompt import Prompt

TEXT = (Document("a", "prose", 1, "The capital of France is Paris. The capital of Germany is Berlin. " * 8),)


def word(cloud: Cloud, token: int) -> Word:
    return Word(cloud.text(token), cloud.text(token), token)


def of(model: Any, prior: torch.Tensor | None = None) -> Cloud:
    return Cloud(model.token_vectors("unembed"), model.tokenizer, prior=prior)


@pytest.fixture
def cloud(tiny: Any) -> Cloud:
    return of(tiny)


def test_rows_are_those_of_the_weights(tiny: Any, llama: Any) -> None:
    for model in (tiny, llama):
        hidden = torch.randn(2, model.width)
        read, normed = model.readout(hidden), model.normed(hidden)
        rows = model.token_vectors("unembed")  # of a difference of logits a bias is no part
        torch.testing.assert_close((normed[0] - normed[1]) @ rows.T, read[0] - read[1], atol=1e-4, rtol=1e-4)
    embedded = llama.hf.get_input_embeddings().weight
    assert torch.equal(llama.token_vectors("embed"), embedded[: llama.vocab].float())


def test_a_cosine_is_symmetric_and_one_with_itself(cloud: Cloud) -> None:
    ((_, found),) = cloud.cosines(cloud.unit)
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found.diagonal(), torch.ones(cloud.size))


def test_a_rotation_and_a_shift_of_all_rows_change_nothing(tiny: Any, cloud: Cloud) -> None:
    rows = tiny.token_vectors("unembed").double()
    turn = torch.linalg.qr(torch.randn(rows.shape[1], rows.shape[1], dtype=torch.float64)).Q
    turned = Cloud(rows @ turn + 3.0, tiny.tokenizer)
    plain = Cloud(rows, tiny.tokenizer)
    one, other = (near(each, word(each, 40)) for each in (plain, turned))
    assert [a.token_id for a in one.neighbours] == [a.token_id for a in other.neighbours]
    assert [a.hub for a in one.neighbours] == [a.hub for a in other.neighbours]
    assert one.control_median == pytest.approx(other.control_median, abs=1e-9)


def test_neighbours_are_those_of_all_cosines_and_controls_are_as_frequent(tiny: Any) -> None:
    prior = torch.randn(tiny.vocab).log_softmax(-1)
    cloud = of(tiny, prior)
    found = near(cloud, word(cloud, 40), count=4)
    rows = tiny.token_vectors("unembed")
    plain = torch.nn.functional.cosine_similarity((rows - rows.mean(0))[40], rows - rows.mean(0))
    plain[40] = -2
    assert [one.token_id for one in found.neighbours] == plain.topk(4).indices.tolist()
    assert found.neighbours[0].cosine == pytest.approx(float(plain.max()), abs=1e-5)
    assert found.control == "matched" and 0 < (found.p_value or 0) <= 1
    ids = cloud.controls(40, [3], count=20).ids
    farthest = (prior[ids] - prior[40]).abs().max()
    left = [i for i in range(tiny.vocab) if i not in {40, 3, *ids.tolist()}]
    assert 3 not in ids and 40 not in ids and bool(((prior[left] - prior[40]).abs() >= farthest).all())


def test_a_hub_is_near_most_others(tiny: Any) -> None:
    rows = torch.randn(300, 16) * 0.1
    rows[:, 0] = torch.linspace(-1, 1, 300)
    rows[7] = 0
    rows[7, 1] = 5.0
    rows[8:200, 1] += 3.0  # so many point the way of token 7 that it is among the nearest of many
    cloud = Cloud(rows, tiny.tokenizer)
    counts = cloud.hubs(range(300))
    assert counts[7] > 5 * sum(counts) / len(counts) and counts[7] > counts[250]


def test_an_offset_of_nothing_gives_c(cloud: Cloud) -> None:
    c = word(cloud, 50)
    found = analogy(cloud, word(cloud, 40), word(cloud, 40), c, count=3)
    assert found.with_inputs[0].token_id == 50
    assert found.with_inputs[0].cosine == pytest.approx(1.0, abs=1e-5)
    assert found.with_inputs[0].rank_without_offset is None
    assert found.changed == 0.0  # nobody is moved


def test_a_planted_parallelogram_is_found_and_its_pairs_agree(tiny: Any) -> None:
    chance = torch.Generator().manual_seed(3)
    rows = torch.randn(300, 64, generator=chance)
    step = torch.randn(64, generator=chance) * 2
    for one in range(30, 38, 2):  # pairs 30-31, 32-33, ... one step apart
        rows[one + 1] = rows[one] + step
    cloud = Cloud(rows, tiny.tokenizer)
    words = [word(cloud, one) for one in range(30, 38)]
    pairs = [(words[4], words[5]), (words[6], words[7])]
    found = analogy(cloud, words[0], words[1], words[2], pairs)
    assert found.without_inputs[0].token_id == 33
    assert found.same_answer < 0.5  # others are led elsewhere
    assert found.n_pairs == 3 and found.consistency is not None and found.consistency_shuffled is not None
    # rows of unit length are no longer exactly one step apart
    assert found.consistency > 0.6 > found.consistency_shuffled
    assert found.consistency_p == pytest.approx(1 / 6, abs=0.07)  # one pairing of six is the planted one
    # A:B::C and A:C::B are one vector
    other = analogy(cloud, words[0], words[2], words[1])
    assert other.without_inputs[0].token_id == 33


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (" hare", "Hare", True),
        (" hare", " hares", True),
        ("box", " Boxes", True),
        ("city", "cities", True),
        (" hare", " hard", False),
        ("a", "as", True),
        (" ", "s", False),
        ("Italy", "Italian", False),
    ],
)
def test_spellings_of_a_word(left: str, right: str, same: bool) -> None:
    assert same_word(left, right) == same_word(right, left) == same


def test_a_word_of_several_tokens_is_refused_with_its_tokens(tiny: Any, llama: Any) -> None:
    assert find_word(tiny.tokenizer, "x").token == "x"
    with pytest.raises(ElimError, match="not a single token") as refused:
        find_word(llama.tokenizer, "qzx")
    assert "'q', 'z', 'x'" in refused.value.message
    with pytest.raises(ElimError, match="no word"):
        find_word(tiny.tokenizer, "  ")


def test_slopes_are_the_derivative_of_the_models_own_head(tiny: Any, llama: Any) -> None:
    for model in (tiny, llama):
        here, steps = torch.randn(model.width), torch.randn(3, model.width)
        h = 1e-2
        both = torch.cat([here + h * steps, here - h * steps])
        read = model.readout(both).double()
        torch.testing.assert_close(
            model.slopes(here, steps).double(), (read[:3] - read[3:]) / (2 * h), atol=2e-3, rtol=2e-3
        )


def test_shares_of_uncorrelated_directions_add_up_to_one(tiny: Any) -> None:
    """Channels whose residuals are uncorrelated split the whole effect."""
    n = 4 * tiny.width
    residuals = torch.randn(n, tiny.width, generator=torch.Generator().manual_seed(0))
    residuals = torch.linalg.qr(residuals - residuals.mean(0)).Q * n**0.5  # exactly uncorrelated, mean 0
    residuals = residuals + 0.3
    cloud = of(tiny)
    shares = [axis(tiny, residuals, cloud, one, count=2).share for one in range(tiny.width)]
    assert sum(shares) == pytest.approx(1.0, rel=0.02)  # n - 1 in place of n


def test_an_axis_of_words_raises_the_second_against_the_first(llama: Any) -> None:
    residuals = last_residuals(llama, TEXT, 400, window=64)
    cloud = of(llama)
    first, second = word(cloud, 70), word(cloud, 80)
    found = axis(llama, residuals, cloud, (first, second), [first, second, word(cloud, 90)])
    assert [one.place for one in found.placed[:2]] == pytest.approx([0.0, 1.0], abs=1e-5)
    slopes = llama.slopes(residuals.mean(0), direction(llama, (first, second))[None])[0]
    assert slopes[80] > slopes[70]
    assert found.raised[0].effect >= found.raised[-1].effect >= found.lowered[-1].effect
    assert 0 < found.random_share <= found.random_share_high and 1 / 51 <= found.p_value <= 1
    back = axis(llama, residuals, cloud, (second, first))
    assert back.raised[0].token_id == found.lowered[0].token_id
    assert back.share == pytest.approx(found.share, rel=1e-4)


def test_channels_and_words_that_are_not_there_are_refused(llama: Any) -> None:
    cloud = of(llama)
    with pytest.raises(ElimError, match=f"there is no channel {llama.width}"):
        direction(llama, llama.width)
    with pytest.raises(ElimError, match="are one token"):
        direction(llama, (word(cloud, 70), word(cloud, 70)))


def test_the_last_layers_reading_is_the_output_and_its_neighbours_are_told_elsewhere(llama: Any) -> None:
    cloud = of(llama)
    encoded = llama.encode(Prompt(text="The capital of"))
    last = llama.n_layers - 1
    found = reading_near(llama, cloud, RawLens(), encoded, last, TEXT, count=300)
    output = llama.hf(input_ids=torch.tensor([encoded.token_ids])).logits[0, -1].float().softmax(-1)
    for one in found.neighbours[:20]:
        assert one.prob == pytest.approx(float(output[one.token_id]), abs=1e-5)
    assert {one.elsewhere for one in found.neighbours} == {1.0}  # all tokens are listed, here and elsewhere
    embedding = reading_near(llama, cloud, RawLens(), encoded, -1, TEXT, count=3)
    assert all(0 <= one.elsewhere <= 1 for one in embedding.neighbours) and embedding.n_others > 100
    with pytest.raises(ElimError, match="`layer` must be -1 to"):
        reading_near(llama, cloud, RawLens(), encoded, llama.n_layers, TEXT)


def test_text_for_the_mean_is_spread(llama: Any) -> None:
    few = last_residuals(llama, shipped("fit")[:4], 200, window=64)
    assert 100 < len(few) < 600 and bool(few.isfinite().all())

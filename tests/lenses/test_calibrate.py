"""Fitting on tiny models: against activations collected by other means, and through the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.errors import ElimError
from elimtool.lenses import find
from elimtool.lenses.corpus import Document, read_documents, shipped
from elimtool.lenses.evaluate import evaluate
from elimtool.lenses.fit import HELD_OUT_EVERY, fit_lens
from elimtool.lenses.raw import RawLens
from elimtool.lenses.ridge import RidgeLens
from elimtool.lenses.stream import SHORTEST, cut_windows, stream, text_sha256
from elimtool.model.loading import load_model
from tests.conftest import byte_tokenizer

WINDOW = 40


@pytest.fixture(scope="module")
def text() -> str:
    return "\n\n".join(document.text for document in shipped("fit")[:2])


@pytest.fixture(scope="module")
def documents(text: str) -> tuple[Document, ...]:
    return (Document("file", "one", 1, text[:1500]), Document("file", "two", 1, text[1500:2800]))


@pytest.fixture(scope="module")
def fitted(llama: Any, documents: tuple[Document, ...]) -> RidgeLens:
    return fit_lens(llama, documents, window=WINDOW)


def plain_residuals(directory: Path, windows: list[tuple[int, ...]]) -> list[np.ndarray[Any, Any]]:
    """Residuals entering each block and leaving the last one, first positions left out, by plain hooks."""
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    blocks = hf.model.layers
    kept: list[list[torch.Tensor]] = [[] for _ in range(len(blocks) + 1)]
    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda _m, given, index=index: kept[index].append(given[0][0, 1:]))
    blocks[-1].register_forward_hook(
        lambda _m, _i, out: kept[-1].append(
            (out[0] if isinstance(out, tuple) else out)[-1:].reshape(-1, out.shape[-1])[1:]
        )
    )
    with torch.no_grad():
        for ids in windows:
            hf(input_ids=torch.tensor([ids]))
    return [torch.cat(layer).double().numpy() for layer in kept]


def test_the_maps_are_the_ridge_of_activations_collected_by_hand(
    llama: Any, llama_directory: Path, documents: tuple[Document, ...], fitted: RidgeLens
) -> None:
    windows = cut_windows(llama, documents, WINDOW, None)
    *layers, y = plain_residuals(llama_directory, windows)
    assert fitted.facts.n_rows == len(y)
    for index, x in enumerate(layers):
        centred = x - x.mean(0)
        penalty = float(fitted.penalty[index])
        system = centred.T @ centred / len(x) + penalty * np.eye(x.shape[1])
        weight = np.linalg.solve(system, centred.T @ (y - y.mean(0)) / len(x)).T
        bias = y.mean(0) - weight @ x.mean(0)
        expected = x @ weight.T + bias
        found = fitted.to_final(torch.tensor(x, dtype=torch.float32), index - 1).numpy()
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_the_result_does_not_depend_on_the_batch(
    llama: Any, documents: tuple[Document, ...], fitted: RidgeLens
) -> None:
    alone = fit_lens(llama, documents, window=WINDOW, batch_size=1)
    assert alone.facts.text_sha256 == fitted.facts.text_sha256
    x = torch.randn(20, llama.width, generator=torch.Generator().manual_seed(0))
    for layer in range(-1, llama.n_layers - 1):
        torch.testing.assert_close(alone.to_final(x, layer), fitted.to_final(x, layer), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(alone.reference.surprisal, fitted.reference.surprisal, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone.reference.prior, fitted.reference.prior, rtol=1e-4, atol=1e-4)
    assert alone.facts.gain_q05 == pytest.approx(fitted.facts.gain_q05, rel=1e-3)


def test_two_fits_give_the_same_bytes(
    llama: Any, documents: tuple[Document, ...], fitted: RidgeLens, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "one")
    fit_lens(llama, documents, window=WINDOW).save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_reference_is_what_the_model_says_of_the_windows(
    llama: Any, documents: tuple[Document, ...], fitted: RidgeLens
) -> None:
    """Every surprisal window and the mean output, from logits computed one window at a time."""
    expected, openings, total, n = [], [], 0.0, 0
    for index, ids in enumerate(cut_windows(llama, documents, WINDOW, None)):
        with torch.inference_mode():
            logprobs = torch.log_softmax(llama.hf(input_ids=torch.tensor([ids])).logits[0].double(), -1)
        last = 33 + index * 37 % (len(ids) - 33)
        seen = range(last - 31, last + 1)
        expected.append(float(-sum(logprobs[t - 1, ids[t]] for t in seen) / 32))
        first = [float(-logprobs[t - 1, ids[t]]) for t in range(2, 34)]
        openings.append(np.cumsum(first) / np.arange(1, 33))
        total = total + logprobs[last - 32 : last + 1].exp().sum(0)
        n += 33
    np.testing.assert_allclose(fitted.reference.surprisal, sorted(expected), rtol=1e-4)
    np.testing.assert_allclose(fitted.reference.openings, openings, rtol=1e-4)
    np.testing.assert_allclose(fitted.reference.prior, (total / n).log(), rtol=1e-3, atol=1e-3)
    assert fitted.facts.gain_q05 > 0


def test_windows_do_not_cross_documents_and_begin_as_a_prompt_does(llama: Any) -> None:
    from elimtool.model.tokens import Tokenizer

    words = "abc def " * 60
    given = [Document("file", "a", 1, words), Document("file", "b", 1, "short")]
    windows = cut_windows(llama, given, WINDOW, None)
    ids = llama.tokenizer.encode(words).ids
    assert all(SHORTEST <= len(one) <= WINDOW for one in windows)
    assert sum(windows, ())[:WINDOW] == ids[:WINDOW]
    assert sum(map(len, cut_windows(llama, given, WINDOW, 100))) in range(100 - SHORTEST, 101)
    assert text_sha256(windows) != text_sha256(windows[:-1])
    plain = llama.tokenizer
    llama.tokenizer = Tokenizer(byte_tokenizer(bos=True))
    try:
        assert {one[0] for one in cut_windows(llama, given, WINDOW, None)} == {0}
    finally:
        llama.tokenizer = plain


def test_the_first_position_is_left_out(llama: Any) -> None:
    windows = [tuple(range(3, 43)), tuple(range(5, 40))]
    some = next(stream(llama, windows, 2))
    assert some.lengths == [39, 34]
    assert some.residuals.shape == (llama.n_layers + 1, 73, llama.width)
    alone = next(stream(llama, windows[1:], 1))
    torch.testing.assert_close(some.residuals[:, 39:], alone.residuals, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("short", {}, "no window"),
        ("word " * 30, {}, "single window"),
        ("word " * 90, {"window": 20}, "`window` must be 34 to 128 tokens, got 20"),
        ("word " * 90, {"window": 4096}, "`window` must be 34 to 128 tokens, got 4096"),
    ],
)
def test_what_cannot_be_fitted(llama: Any, text: str, options: dict[str, int], says: str) -> None:
    with pytest.raises(ElimError, match=says):
        fit_lens(llama, [Document("file", "x", 1, text[:200])], **{"window": 128, **options})


def _divergence(model: Any, documents: tuple[Document, ...], guess: Callable[[Any], torch.Tensor]) -> float:
    """A guess's divergence in float64, at the positions that an evaluation of 60 samples takes."""
    windows = cut_windows(model, documents, WINDOW, None)
    picked = windows[:: max(1, len(windows) * 8 // 60)]
    each, parts = 60 // len(picked), []
    for ids in picked:
        with torch.inference_mode():
            found = model.hf(input_ids=torch.tensor([ids]), output_hidden_states=True)
            logits, guessed = found.logits[0, 1:].double(), guess(found)
        rows = [(2 * i + 1) * len(logits) // (2 * each) for i in range(each)]
        own = torch.distributions.Categorical(logits=logits[rows])
        other = guessed.double().expand(len(logits), -1)[rows]
        parts.append(torch.distributions.kl_divergence(own, torch.distributions.Categorical(logits=other)))
    return float(torch.cat(parts).mean())


def test_evaluation_of_a_lens(llama: Any, documents: tuple[Document, ...], fitted: RidgeLens) -> None:
    found = evaluate(llama, [fitted], documents, prior=fitted.reference.prior, samples=60, window=WINDOW)
    assert {(one.layer, one.lens) for one in found.layers} == {
        (layer, name) for layer in range(-1, llama.n_layers - 1) for name in ("raw", "ridge")
    }
    last = {one.lens: one for one in found.layers if one.layer == llama.n_layers - 2}
    assert 0 <= last["ridge"].kl < last["raw"].kl
    assert 0 <= last["ridge"].agreement <= 1
    assert found.baseline_kl is not None and found.baseline_kl > last["ridge"].kl
    assert found.baseline_kl == pytest.approx(
        _divergence(llama, documents, lambda _: fitted.reference.prior), rel=1e-4
    )
    assert evaluate(llama, [], documents, samples=60, window=WINDOW).baseline_kl is None


def test_small_divergences_are_those_of_float64(
    llama_directory: Path, documents: tuple[Document, ...]
) -> None:
    """Near the last layer a divergence is a small difference of large sums: here 1e-6 of sums around 5."""
    quiet = load_model(str(llama_directory))
    with torch.no_grad():
        for matrix in (quiet.hf.model.layers[-1].self_attn.o_proj, quiet.hf.model.layers[-1].mlp.down_proj):
            matrix.weight *= 0.003
    (last,) = (
        one
        for one in evaluate(quiet, [], documents, samples=60, window=WINDOW).layers
        if one.layer == quiet.n_layers - 2
    )

    def read(found: Any) -> torch.Tensor:
        return quiet.hf.lm_head(quiet.hf.model.norm(found.hidden_states[-2][0, 1:]))

    wanted = _divergence(quiet, documents, read)
    assert 1e-8 < wanted < 1e-4
    assert last.kl == pytest.approx(wanted, rel=0.01)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_which_lens_is_opened(llama: Any, tiny: Any, fitted: RidgeLens, cache: Path, tmp_path: Path) -> None:
    assert isinstance(find.open_lens("auto", llama)[0], RawLens)
    assert find.open_lens("raw", llama)[1] == "raw"
    with pytest.raises(ElimError, match="no fitted lens"):
        find.open_lens("ridge", llama)
    with pytest.raises(ElimError, match="did you mean 'ridge'"):
        find.check_choice("rigde")
    path = find.cached_lens(llama.hashes()["weights_sha256"])
    fitted.save(path)
    assert path.is_relative_to(cache)
    for choice in ("auto", "ridge"):
        lens, named = find.open_lens(choice, llama)
        assert lens.name == "ridge"
        assert isinstance(named, dict) and len(named["sha256"]) == 64
    assert find.open_lens("raw", llama)[0].name == "raw"
    mine = tmp_path / "mine.safetensors"
    fitted.save(mine)
    assert find.open_lens(str(mine), llama)[0].name == "mine"
    assert find.open_lens("auto", tiny)[0].name == "raw"
    with pytest.raises(ElimError, match="was fitted on"):
        find.open_lens(str(mine), tiny)


def test_the_lens_is_fitted_once(llama: Any, text: str, cache: Path) -> None:
    long = (Document("file", "one", 1, text[:2000]), Document("file", "two", 1, text[2000:4000]))
    assert not find.has_lens(llama.directory)
    path = find.ensure_lens(llama, documents=long)
    written = path.stat()
    assert find.ensure_lens(llama, documents=long) == path
    assert path.stat() == written
    assert find.has_lens(llama.directory)


def test_trace_reads_through_the_lens_and_says_so(llama: Any, fitted: RidgeLens, cache: Path) -> None:
    fitted.save(find.cached_lens(llama.hashes()["weights_sha256"]))
    prompt = "The capital of France is"
    ridge = elimtool.trace(llama, prompt, targets=["Paris"])
    raw = elimtool.trace(llama, prompt, targets=["Paris"], options=TraceOptions(lens="raw"))
    assert set(ridge.table("lens")["lens"]) == set(ridge.table("lens_layers")["lens"]) == {"ridge"}
    assert set(raw.table("lens")["lens"]) == {"raw"}
    assert raw.manifest.lens == "raw"
    assert ridge.manifest.lens["name"] == "ridge"
    last = llama.n_layers - 1
    one, other = (run.table("lens").query(f"layer == {last}").drop(columns="lens") for run in (ridge, raw))
    assert one["logprob"].tolist() == pytest.approx(other["logprob"].tolist(), abs=1e-6)
    below = [run.table("lens").query("layer == 0")["logprob"].tolist() for run in (ridge, raw)]
    assert below[0] != below[1]


def test_shipped_texts_are_apart_and_plain() -> None:
    fit, held = shipped("fit"), shipped("held_out")
    assert not {one.title for one in fit} & {one.title for one in held}
    assert len(fit) > 100 and len(held) > 30
    assert len({one.source for one in fit}) >= 5
    for one in (*fit, *held):
        assert 400 < len(one.text) < 2500
        assert "gutenberg" not in one.text.lower()
        assert "http" not in one.text
    assert HELD_OUT_EVERY == 8


def test_the_users_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    assert read_documents([tmp_path / "a.txt"])[0].text == "words"
    with pytest.raises(ElimError, match="cannot read"):
        read_documents([tmp_path / "b.txt"])

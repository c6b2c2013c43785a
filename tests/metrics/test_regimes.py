"""Regimes of a trace: surprisals against logits computed by plain Hugging Face, and what they are told by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.lenses.regime import FEWEST, LEAST, UNSEEN, WINDOW, ReferenceStatistics
from elimtool.lenses.ridge import Facts, RidgeLens
from elimtool.model.loading import load_hugging_face
from elimtool.prompts.prompt import SpanRequest
from tests.watched import Watched

LONG = "The capital of Spain is Madrid, and the text of a token is eliminated when no layer keeps it."
SHORT = "The capital of France is"


@pytest.fixture(scope="module")
def lens(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lens of identity maps, whose reference lies about what an untrained model makes of any text."""
    width, layers = llama.width, llama.n_layers
    spread = torch.linspace(-1.5, 1.5, FEWEST)
    reference = ReferenceStatistics(
        6.2 + spread,
        (6.2 + spread)[:, None].repeat(1, WINDOW),
        torch.log_softmax(torch.randn(llama.vocab, generator=torch.Generator().manual_seed(0)), -1),
        0.05,
    )
    facts = Facts("llama", llama.hashes()["weights_sha256"], "b" * 64, 100, 99, 34, "none", 0.05, "0")
    maps = torch.eye(width).repeat(layers, 1, 1)
    path = tmp_path_factory.mktemp("lens") / "identity.safetensors"
    RidgeLens(maps, torch.zeros(layers, width), torch.ones(layers), reference, facts).save(path)
    return str(path)


def plain(directory: Path, ids: list[int]) -> tuple[Any, Any]:
    """Surprisal of each token (NaN for those that do not count), and log-probabilities at each position."""
    with torch.inference_mode():
        logits = load_hugging_face("llama", directory, "float32", False)(input_ids=torch.tensor([ids])).logits
    logprobs = logits[0].double().log_softmax(-1)
    surprisal = np.full(len(ids), np.nan)
    for t in range(UNSEEN, len(ids)):
        surprisal[t] = -logprobs[t - 1, ids[t]]
    return surprisal, logprobs


@pytest.mark.parametrize("fitted", [False, True])
def test_what_follows_a_span_is_as_surprising_as_by_plain_logits(
    llama: Any, llama_directory: Path, lens: str, fitted: bool
) -> None:
    prompts = [
        elimtool.Prompt(
            LONG, spans=(SpanRequest.parse("late=token"), SpanRequest.parse("first=The capital"))
        ),
        elimtool.Prompt(SHORT, spans=(SpanRequest.parse("end=is"),)),
    ]
    options = TraceOptions(lens=lens if fitted else "raw", tables=("span_surprisal",))
    run = elimtool.trace(llama, prompts, options=options)
    rows = run.table("span_surprisal")
    assert rows["span"].tolist() == ["late", "first", "end"], "only what was named"
    prompt = run.prompts.iloc[0]
    for _, row in rows.iloc[:2].iterrows():
        (last,) = (one["tokens"][-1] for one in prompt["spans"] if one["span"] == row["span"])
        surprisal, _ = plain(llama_directory, prompt["token_ids"].tolist())
        after = surprisal[last + 1 :][-WINDOW:]
        after = after[~np.isnan(after)]
        assert row["n_after"] == len(after) > 0
        assert row["surprisal_after"] == pytest.approx(after.mean(), abs=1e-4)
    assert rows["n_after"].iloc[2] == 0 and pd.isna(rows["surprisal_after"].iloc[2])
    assert "span_surprisal" not in elimtool.trace(llama, SHORT, options=TraceOptions(lens="raw")).tables


@pytest.mark.parametrize("position", ["all", "last", 3, 40])
def test_the_numbers_are_those_of_the_models_own_logits(
    llama: Any, llama_directory: Path, lens: str, position: Any
) -> None:
    run = elimtool.trace(llama, LONG, options=TraceOptions(position=position, lens=lens))
    table = run.table("regimes")
    surprisal, logprobs = plain(llama_directory, run.prompts["token_ids"][0].tolist())
    assert len(table) == (len(surprisal) if position == "all" else 1)
    reference = RidgeLens.load(Path(lens)).reference
    for row in table.itertuples():
        window = surprisal[max(UNSEEN, row.position - WINDOW + 1) : row.position + 1]
        assert row.n_recent == len(window) == min(max(row.position - UNSEEN + 1, 0), WINDOW)
        assert np.isnan(row.recent_surprisal) == (len(window) == 0)
        if len(window):
            assert row.recent_surprisal == pytest.approx(window.mean(), abs=1e-4)
        p = logprobs[row.position].exp()
        assert row.collision == pytest.approx(float((p * p).sum()), abs=1e-5)
        gain = float((p * (logprobs[row.position] - reference.prior.double())).sum())
        assert row.context_gain == pytest.approx(gain, abs=1e-4)
        if row.n_recent < LEAST:
            assert pd.isna(row.regime) and np.isnan(row.p_high) and np.isnan(row.p_low)
        else:
            values = reference.surprisal.numpy()
            above = 1 + (values >= window.mean()).sum()
            assert row.p_high == pytest.approx(above / (1 + FEWEST))
            assert isinstance(row.regime, str)


@pytest.mark.parametrize("position", ["all", "last"])
def test_what_the_chat_template_wrote_is_left_out(
    llama: Any, llama_directory: Path, lens: str, position: Any
) -> None:
    turns = (("user", "The capital of Spain"), ("assistant", LONG), ("user", "of France is"))
    chat = elimtool.Prompt(messages=tuple(elimtool.Message(*turn) for turn in turns))
    run = elimtool.trace(llama, chat, options=TraceOptions(position=position, lens=lens))
    ids = run.prompts["token_ids"][0].tolist()
    surprisal, _ = plain(llama_directory, ids)
    encoded = llama.encode(chat)
    said = sorted(i for span in encoded.spans if span.name in ("user", "assistant") for i in span.tokens)
    assert len(said) > WINDOW + 4 and len(said) < len(ids) - 4
    counting = [i for i in said if i >= UNSEEN]
    for row in run.table("regimes").itertuples():
        window = surprisal[[i for i in counting if i <= row.position][-WINDOW:]]
        assert row.n_recent == len(window)
        if len(window):
            assert row.recent_surprisal == pytest.approx(window.mean(), abs=1e-4)


def test_repetition_is_read_off_the_token_ids(llama: Any, lens: str) -> None:
    looped = run_of(llama, "of the text" + " of the text" * 20, lens)
    assert looped["repetition"].iloc[-1] > 0.9
    assert run_of(llama, LONG, lens)["repetition"].iloc[-1] < 0.2
    assert run_of(llama, "a", lens)["repetition"].isna().all()


def run_of(model: Any, text: str, lens: str) -> pd.DataFrame:
    """The table ``regimes`` of a text."""
    run = elimtool.trace(model, text, options=TraceOptions(lens=lens, tables=("regimes",)))
    frame: pd.DataFrame = run.table("regimes")
    return frame


def test_batched_equals_single_and_reruns_are_equal(llama: Any, lens: str) -> None:
    for position in ("last", "all"):
        options = TraceOptions(position=position, lens=lens)
        together = elimtool.trace(llama, [SHORT, LONG, "a"], options=options)
        again = elimtool.trace(llama, [SHORT, LONG, "a"], options=options)
        assert together.arrow("regimes").equals(again.arrow("regimes"))
        whole = together.table("regimes")
        for text in (SHORT, LONG, "a"):
            alone = elimtool.trace(llama, text, options=options).table("regimes")
            part = whole[whole["prompt_id"] == alone["prompt_id"][0]]
            assert part["regime"].tolist() == alone["regime"].tolist()
            assert part["n_recent"].tolist() == alone["n_recent"].tolist()
            np.testing.assert_allclose(part["recent_surprisal"], alone["recent_surprisal"], atol=1e-4)


def test_verdicts_name_the_regime_and_raw_lenses_give_none(llama: Any, lens: str) -> None:
    run = elimtool.trace(llama, LONG, targets=["Paris", "of"], options=TraceOptions(lens=lens))
    regime = run.table("regimes")["regime"][0]
    assert run.table("verdicts")["regime"].tolist() == [regime] * 2
    raw = elimtool.trace(llama, LONG, targets=["Paris"], options=TraceOptions(lens="raw"))
    assert "regimes" not in raw.tables
    assert raw.table("verdicts")["regime"].isna().all()


def test_without_a_reference_nothing_more_is_read_out(llama: Any, lens: str) -> None:
    without, with_reference = models = Watched.of(llama), Watched.of(llama)
    for model, choice in zip(models, ("raw", lens), strict=True):
        elimtool.trace(model, LONG, targets=["Paris"], options=TraceOptions(lens=choice))
    assert sum(with_reference.read) - sum(without.read) == WINDOW

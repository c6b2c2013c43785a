"""Paths through what a model may write: against transformers, a list of all paths, invariants, the story."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy

import elimtool
from elimtool import ElimError, Prompt, TraceOptions
from elimtool.analysis.paths import cuts_of, tree_of
from elimtool.engine.paths import loops
from elimtool.report.facts import Tables
from elimtool.report.figures.paths import paths as figures
from elimtool.report.screen import Screen
from elimtool.report.trace.paths import path_lines, path_sentences

TEXT = "The capital of France is"
ALL = ("greedy", "beam:3", "least-entropy:3", "sampled:5")
GIVEN = " the text"
CHAIN = "hf:top_k=6,temperature=0.7"


def paths(model: Any, text: Any = TEXT, **options: Any) -> Any:
    given = {"tables": ("top_tokens",), "lens": "raw", "samplers": (CHAIN,), "generate": 6, "paths": ALL}
    return elimtool.trace(model, text, options=TraceOptions(**{**given, **options}))


def after(model: Any, rows: list[list[int]]) -> torch.Tensor:
    """Log-probabilities at every place of some texts of one length, in plain transformers."""
    with torch.inference_mode():
        return model.hf(input_ids=torch.tensor(rows), use_cache=False).logits.double().log_softmax(-1)


@pytest.fixture(scope="module")
def run(llama: Any) -> Any:
    return paths(llama, continue_with=GIVEN)


def test_all_numbers_are_those_of_transformers_with_the_tokens_given(llama: Any, run: Any) -> None:
    ids = list(llama.encode(Prompt(text=TEXT)).token_ids)
    steps = run.table("path_steps").set_index(["path", "place"])
    rows = run.table("paths")
    assert rows["path"].tolist() == ["greedy"] + ["beam:3"] * 3 + ["least-entropy:3"] * 3 + [
        "sampled:5"
    ] * 5 + ["given"]
    for row in rows.itertuples():
        path = list(row.token_ids)
        found = after(llama, [ids + path])[0, len(ids) - 1 : -1]
        logprobs = found[range(len(path)), path]
        own = steps.loc[(row.path, row.place)]
        np.testing.assert_allclose(own["logprob"], logprobs, atol=1e-4)
        np.testing.assert_allclose(own["entropy"], entropy(found.exp().numpy(), axis=-1), atol=1e-4)
        assert own["rank"].tolist() == [int((f > f[t]).sum()) + 1 for f, t in zip(found, path, strict=True)]
        assert row.logprob == pytest.approx(float(logprobs.sum()), abs=1e-4)
        assert row.excess == pytest.approx(-row.logprob - row.entropy, abs=1e-9)
        assert row.mean_prob == pytest.approx(np.exp(row.logprob / len(path)))
    assert rows["text"].iloc[-1] == GIVEN and rows["token_ids"].iloc[-1].tolist() == list(
        llama.tokenizer.encode(GIVEN, special=False).ids
    )


def test_greedy_is_that_of_transformers_and_the_first_sample_is_the_walk(llama: Any, run: Any) -> None:
    ids = torch.tensor([llama.encode(Prompt(text=TEXT)).token_ids])
    written = llama.hf.generate(ids, do_sample=False, max_new_tokens=6, pad_token_id=0)[0, ids.shape[1] :]
    greedy = run.table("paths").iloc[0]
    assert greedy["token_ids"].tolist() == written.tolist()
    assert run.table("path_steps").query("path == 'greedy'")["rank"].tolist() == [1] * 6
    walked = paths(llama, tables=("walk",), paths=("sampled:5",))
    sampled = walked.table("paths").query("path == 'sampled:5'")["token_ids"]
    assert sampled.iloc[0].tolist() == walked.table("walk")["token_id"].tolist()
    assert len({tuple(one) for one in sampled}) > 1
    other = (
        paths(llama, seed=1, paths=("sampled:1",)).table("paths").query("path == 'sampled:1'")["token_ids"]
    )
    assert other.iloc[0].tolist() == sampled.iloc[1].tolist(), "each path has the next seed"


def test_beams_are_those_of_transformers_without_a_length_penalty(llama: Any, run: Any) -> None:
    ids = torch.tensor([llama.encode(Prompt(text=TEXT)).token_ids])
    how = {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.0, "do_sample": False}
    found = llama.hf.generate(ids, **how, max_new_tokens=6, pad_token_id=0)[:, ids.shape[1] :]
    beams = run.table("paths").query("path == 'beam:3'")
    assert [one.tolist() for one in beams["token_ids"]] == found.tolist()
    assert beams["logprob"].is_monotonic_decreasing


def test_wide_beams_hold_the_likeliest_of_all_paths(llama: Any) -> None:
    ids = list(llama.encode(Prompt(text=TEXT)).token_ids)
    first = after(llama, [ids])[0, -1]
    second = after(llama, [[*ids, token] for token in range(300)])[:, -1]
    place = int((first[:, None] + second).argmax())
    every = paths(llama, generate=2, paths=("beam:64", "greedy")).table("paths")
    assert every["token_ids"].iloc[0].tolist() == [place // 300, place % 300]
    assert every["regret_logprob"].iloc[0] == 0


def test_one_beam_is_greedy_and_a_step_of_all_paths_holds_all_probability(llama: Any) -> None:
    found = paths(llama, generate=6, paths=("greedy", "beam:1")).table("paths")
    assert found["token_ids"].iloc[0].tolist() == found["token_ids"].iloc[1].tolist()
    ids = list(llama.encode(Prompt(text=TEXT)).token_ids)
    whole = after(llama, [ids])[0, -1].exp()
    one = paths(llama, generate=1, paths=("beam:64",)).table("paths")
    assert np.exp(one["logprob"]).sum() == pytest.approx(float(whole.topk(64).values.sum()), abs=1e-5)


def test_enough_paths_hold_the_one_of_least_entropy_of_all(llama: Any) -> None:
    ids = list(llama.encode(Prompt(text=TEXT)).token_ids)
    every: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(2):
        rows = after(llama, [[*ids, *path] for path in every])[:, -1]
        longer = {}
        for (path, total), row in zip(every.items(), rows, strict=True):
            order = row.argsort(descending=True)[:8].tolist()
            mass = row.exp()[order].cumsum(-1).tolist()
            kept = [token for token, before in zip(order, [0.0, *mass], strict=False) if before < 0.9]
            doubt = total + float(entropy(row.exp().numpy()))
            longer |= {(*path, token): doubt for token in kept}
        every = longer
    led = after(llama, [[*ids, *path] for path in every])[:, -1]
    doubts = entropy(led.exp().numpy(), axis=-1)
    sums = {path: total + doubt for (path, total), doubt in zip(every.items(), doubts, strict=True)}
    best = sorted(sums, key=sums.__getitem__)[:5]
    assert len(sums) > 40, "the list is not a short one"
    found = paths(llama, generate=2, paths=("least-entropy:8",)).table("paths")
    assert [tuple(one) for one in found["token_ids"]][:5] == best
    few = paths(llama, generate=2, paths=("least-entropy:2",)).table("paths")
    assert len(few) == 2 and all(tuple(one) in sums for one in few["token_ids"])


def test_what_is_given_away_is_counted_over_as_many_tokens(run: Any) -> None:
    rows = run.table("paths")
    assert (rows[["regret_logprob", "regret_entropy"]] >= 0).all(axis=None)
    longest = rows[rows["n_tokens"] == 6]
    assert longest["regret_logprob"].min() == 0 == longest["regret_entropy"].min()
    given, steps = rows.iloc[-1], run.table("path_steps")
    short = steps[steps["step"] < given["n_tokens"]].groupby(["path", "place"])
    assert given["n_tokens"] < 6
    assert given["regret_logprob"] == pytest.approx(short["logprob"].sum().max() - given["logprob"])
    assert given["regret_entropy"] == pytest.approx(given["entropy"] - short["entropy"].sum().min())


def test_sampled_paths_are_as_surprising_as_the_outputs_say(llama: Any) -> None:
    found = paths(llama, samplers=("temperature=1",), generate=3, paths=("sampled:24",)).table("paths")
    error = found["excess"].std() / len(found) ** 0.5
    assert abs(found["excess"].mean()) < 3 * error
    sharp = paths(llama, samplers=("temperature=0.2",), generate=3, paths=("sampled:24",)).table("paths")
    assert sharp["excess"].mean() < -3 * error, "a chain that sharpens takes surprise away"


@pytest.mark.parametrize(
    "chain",
    [
        "mirostat_v2.tau=2",
        "hf:top_k=40,repetition_penalty=1.5",
        "xtc.probability=0.5,xtc.threshold=0.001,top_k=280",
        "top_k=3",
    ],
)
def test_chains_do_to_a_path_what_they_do_to_a_target(llama: Any, chain: str) -> None:
    run = paths(
        llama,
        Prompt(text=TEXT, targets=(GIVEN.strip(),)),
        samplers=(chain,),
        through=(chain,),
        continue_with=GIVEN,
        generate=0,
        paths=(),
    )
    target = run.table("sequence_steps")
    given = run.table("path_steps").query("path == 'given'")
    assert given["token_id"].tolist() == target["token_id"].tolist()
    assert given["alive"].tolist() == target["alive"].tolist()
    assert given["cut_stage"].tolist() == target["removed_by"].tolist()
    assert given["cut_why"].tolist() == target["why"].tolist()


def test_an_end_ends_a_path(llama: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    second = int(run.table("paths")["token_ids"].iloc[0][1])
    monkeypatch.setattr(llama.hf.generation_config, "eos_token_id", second)
    found = paths(llama, generate=3, paths=("greedy", "least-entropy:16", "sampled:20")).table("paths")
    ended = found[found["ended"]]
    assert found["n_tokens"].iloc[0] == 2 and bool(found["ended"].iloc[0])
    assert {"least-entropy:16", "sampled:20"} <= set(ended["path"])
    for row in found.itertuples():
        assert row.ended == (second in row.token_ids) and second not in row.token_ids[:-1]
        assert row.n_tokens == 3 or row.ended


def test_written_text_and_other_prompts_change_nothing(llama: Any, run: Any) -> None:
    alone = run.table("paths").query("path in ['greedy', 'given']").reset_index(drop=True)
    few: Any = {"continue_with": GIVEN, "paths": ("greedy",)}
    both = paths(llama, [Prompt(text="A token"), Prompt(text=TEXT)], **few).table("paths")
    found = both[both["prompt_id"] == alone["prompt_id"][0]].reset_index(drop=True)
    numbers = [name for name in alone if not name.startswith("regret")]
    pd.testing.assert_frame_equal(found[numbers], alone[numbers])
    written = paths(llama, position="written", **few).table("paths")
    pd.testing.assert_frame_equal(written, found)


def test_a_given_text_needs_no_search_no_chain_and_no_cache(tiny: Any) -> None:
    run = paths(tiny, samplers=(), paths=(), generate=0, continue_with=GIVEN)
    assert run.table("paths")["allowed_by"].str.len().tolist() == [0]
    assert run.table("path_steps")["alive"].isna().all()
    assert "Nothing was sampled" in told(run)
    with pytest.raises(ElimError, match="tiny cannot generate"):
        paths(tiny)


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([1, 1, 1], True),
        ([9, 1, 2, 1, 2, 1, 2], True),
        ([1, 2, 1, 2], False),
        ([1, 1, 1, 2], False),
        ([], False),
        ([*range(32)] * 3, True),
        ([*range(33)] * 3, False),
    ],
)
def test_loops(ids: list[int], found: bool) -> None:
    assert loops(tuple(ids)) is found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paths": ("greedy",)}, "`paths` needs the length"),
        ({"paths": ("greed",), "generate": 2}, "no kind of path 'greed'"),
        ({"paths": ("greedy:2",), "generate": 2}, "greedy is one path"),
        ({"paths": ("beam:3:2",), "generate": 2}, "from 1 to 64"),
        ({"paths": ("sampled",), "generate": 2}, "needs how many paths"),
        ({"paths": ("sampled:65",), "generate": 2}, "from 1 to 64"),
        ({"paths": ("least-entropy:0",), "generate": 2}, "from 1 to 64"),
        ({"paths": ("least-entropy:²",), "generate": 2}, "from 1 to 64"),
        ({"paths": ("greedy", "greedy"), "generate": 2}, "twice"),
        ({"continue_with": ""}, "`continue_with` is empty"),
        ({"tables": ("paths",)}, "table paths needs `paths`"),
    ],
)
def test_what_cannot_be_asked(options: Any, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        TraceOptions(**options)


def test_paths_need_room_in_the_context(llama: Any) -> None:
    with pytest.raises(ElimError, match="its paths take 129 tokens, but the model's context is 128"):
        paths(llama, "a" * 126, generate=3, paths=("greedy",))
    with pytest.raises(ElimError, match="context is 128"):
        paths(llama, generate=1, paths=(), continue_with=" of" * 200)


def told(run: Any, width: int = 80) -> str:
    lines = path_lines(Tables(run), run.prompts.iloc[0].to_dict(), Screen(width))
    assert all(line.cell_len <= width for line in lines)
    return " ".join(" ".join(line.plain.split()) for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_the_story_has_a_control_for_each_path(run: Any, width: int) -> None:
    said = told(run, width)
    assert "of least entropy" in said and "less likely than the likeliest" in said
    assert "5 sampled paths have log p" in said and "as little entropy" in said
    assert "The given text has log p" in said and "1 more sampled paths are not drawn" in said


def test_the_tree_has_every_path_once(run: Any) -> None:
    steps = run.table("path_steps").to_dict("records")
    branches = tree_of(steps)
    rows = run.table("paths")
    first = [one for one in branches if one.depth == 0]
    assert sum(count for one in first for _, count in one.paths) == len(rows)
    assert all(after.depth <= before.depth + 1 for before, after in pairwise(branches))
    different = {tuple(one) for one in rows["token_ids"]}
    leaves = [a for a, b in pairwise([*branches, first[0]]) if b.depth <= a.depth]
    inner = sum(any(o[: len(p)] == p and o != p for o in different) for p in different)
    assert len(leaves) == len(different) - inner
    listed, tree = figures(Tables(run), run.prompts.iloc[0].to_dict())
    assert len(listed.rows) == len(rows) and len(tree.rows) == len(branches)
    cut = {one.stage for branch in branches for one in branch.cuts}
    assert cut == set(run.table("path_steps")["cut_stage"].dropna()), "each cut branch says by which stage"


STEP = {"path": "least-entropy:1", "place": 1, "chain": "mine", "alive": True, "cut_stage": None}
LEAST = {
    "path": "least-entropy:1",
    "place": 1,
    "logprob": -9.0,
    "entropy": 1.0,
    "excess": 8.0,
    "n_tokens": 2,
    "looped": True,
    "rep4": 0.5,
    "regret_logprob": 5.0,
}


def test_the_story_says_what_cuts_and_that_low_entropy_is_what_loops_have() -> None:
    steps = [
        {**STEP, "step": 0, "token": " the", "token_id": 1, "logprob": -1.0},
        {**STEP, "step": 1, "token": " Eiffel", "token_id": 2, "alive": False, "cut_stage": "min_p"},
    ]
    assert [(one.step, one.stage) for one in cuts_of(steps)] == [(1, "min_p")]
    greedy = {**LEAST, "path": "greedy", "entropy": 7.0, "regret_logprob": 0.0}
    said = " ".join(path_sentences([greedy, LEAST], steps, Screen(80)))
    assert "No path that was found is likelier than the greedy one" in said
    assert "1.0 nats (greedy 7.0), is 5.0 nats less likely" in said and "ends in a loop" in said
    assert "mine would cut it at token 2, ' Eiffel' (min_p)" in said


@pytest.mark.parametrize(
    ("text", "given", "other"), [("The capital", " of", False), ("The cap", "ital", True)]
)
def test_a_text_that_would_be_tokenised_otherwise_is_noted(
    llama: Any, text: str, given: str, other: bool
) -> None:
    run = paths(llama, text, paths=("greedy",), continue_with=given)
    rows = run.table("paths").set_index("path")["retokenised"]
    assert bool(rows["given"]) is other and pd.isna(rows["greedy"])
    screen = Screen(80)
    told = path_sentences(run.arrow("paths").to_pylist(), run.arrow("path_steps").to_pylist(), screen)
    assert any("would have other tokens" in one for one in told) is other

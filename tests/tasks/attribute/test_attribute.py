"""Attribution of spans: against plain Hugging Face by hand, batched against single, cost, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import elimtool
from elimtool import AttributeOptions, Message, Prompt, SpanRequest
from elimtool.errors import ElimError
from elimtool.tasks.attribute.options import METHODS

PROMPT = "The capital of France is Paris. The token is a text. No layer keeps it. The capital of Spain is"
TARGETS = ("Madrid", "Paris")


def attribute(
    model: Any, prompt: Any = PROMPT, targets: Any = TARGETS, foils: Any = (), **options: Any
) -> Any:
    options.setdefault("units", "sentences")
    return elimtool.attribute(
        model, prompt, targets=targets, foils=foils, options=AttributeOptions(**options)
    )


def whole(run: Any, method: str, target: str = "Madrid") -> Any:
    rows = run.table("attributions")
    rows = rows[(rows["method"] == method) & (rows["target"] == target) & rows["first_layer"].isna()]
    return rows.set_index("span")["score"]


@pytest.fixture(scope="module")
def plain(llama_directory: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(llama_directory, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def everything(llama: Any) -> Any:
    return attribute(llama, methods=METHODS, ablations=16, steps=24)


def by_hand(plain: Any, ids: list[int], token: int) -> float:
    with torch.no_grad():
        return float(torch.log_softmax(plain(torch.tensor([ids])).logits[0, -1].double(), -1)[token])


def token_of(llama: Any, target: str) -> int:
    one = llama.encode(Prompt(text=PROMPT, targets=TARGETS))
    return next(known.token_id for known in one.targets if known.text == target)


def spans_by_hand(run: Any, names: Any) -> dict[str, list[int]]:
    """Tokens of each span but the first token (the sink), the last (which is read) and appended ones."""
    row = run.prompts.iloc[0]
    last = len(row["token_ids"]) - max(1, row["n_appended"])
    found = {one["span"]: [i for i in one["tokens"] if 0 < i < last] for one in row["spans"]}
    return {name: found[name] for name in names}


def test_leave_one_out_is_what_plain_hugging_face_gives_by_hand(
    llama: Any, plain: Any, everything: Any
) -> None:
    row = everything.prompts.iloc[0]
    ids = row["token_ids"].tolist()
    for target in ("Madrid", "Paris"):
        token = token_of(llama, target)
        full = by_hand(plain, ids, token)
        scores = whole(everything, "leave-one-out", target)
        for name, tokens in spans_by_hand(everything, scores.index).items():
            rest = [one for at, one in enumerate(ids) if at not in tokens]
            assert scores[name] == pytest.approx(full - by_hand(plain, rest, token), abs=2e-5)


def test_masked_leave_one_out_is_a_mask_of_plain_hugging_face(
    llama: Any, plain: Any, everything: Any
) -> None:
    row = everything.prompts.iloc[0]
    ids = row["token_ids"].tolist()
    token = token_of(llama, "Madrid")
    full = by_hand(plain, ids, token)
    scores = whole(everything, "leave-one-out-masked")
    for name, tokens in spans_by_hand(everything, scores.index).items():
        mask = torch.ones(len(ids), len(ids)).tril().bool()
        outside = [at for at in range(len(ids)) if at not in tokens]
        mask[torch.tensor(outside)[:, None], torch.tensor(tokens)] = False
        with torch.no_grad():
            added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
            logits = plain(torch.tensor([ids]), attention_mask=added[None, None]).logits[0, -1]
        hidden = float(torch.log_softmax(logits.double(), -1)[token])
        assert scores[name] == pytest.approx(full - hidden, abs=2e-5)


def test_knockouts_of_all_layers_and_of_windows(everything: Any, llama: Any) -> None:
    rows = everything.table("attributions")
    later = whole(everything, "knockout-later")
    assert later.equals(whole(everything, "leave-one-out-masked"))
    windows = rows[(rows["method"] == "knockout") & rows["first_layer"].notna()]
    assert sorted(set(zip(windows["first_layer"], windows["last_layer"], strict=True))) == [
        (layer, layer) for layer in range(llama.n_layers)
    ]
    traced = elimtool.trace(
        llama,
        Prompt(text=PROMPT, targets=TARGETS, spans=(SpanRequest("S2", "The token is a text."),)),
        options=elimtool.TraceOptions(interventions=(elimtool.Knockout("S2", (1, 1)),), tables=("effects",)),
    )
    effect = traced.table("effects").set_index("target").loc["Madrid", "logprob_change"]
    run = attribute(
        llama,
        Prompt(text=PROMPT, targets=TARGETS, spans=(SpanRequest("S2", "The token is a text."),)),
        units="spans",
        methods=("knockout",),
    )
    found = run.table("attributions").query("first_layer == 1 and target == 'Madrid'")["score"]
    assert found.tolist() == pytest.approx([-effect], abs=1e-5)


def test_foils_make_scores_differences(llama: Any) -> None:
    contrast = attribute(llama, targets=["Madrid"], foils=["Paris"], methods=("leave-one-out",))
    each = attribute(llama, methods=("leave-one-out",))
    wanted = whole(each, "leave-one-out") - whole(each, "leave-one-out", "Paris")
    assert whole(contrast, "leave-one-out").tolist() == pytest.approx(wanted.tolist(), abs=1e-6)
    facts = contrast.table("attribution_methods").iloc[0]
    assert list(facts["foils"]) == ["Paris"]


def test_many_prompts_are_each_alone_and_reruns_are_equal(llama: Any) -> None:
    other = "A token of the text is eliminated. The capital of Germany is"
    together = attribute(llama, [PROMPT, other], methods=METHODS, ablations=16, steps=24)
    again = attribute(llama, [PROMPT, other], methods=METHODS, ablations=16, steps=24)
    alone = [attribute(llama, one, methods=METHODS, ablations=16, steps=24) for one in (PROMPT, other)]
    for name in ("attributions", "attribution_methods", "attribution_agreement"):
        assert together.arrow(name).equals(again.arrow(name))
        rows = [row for run in alone for row in run.arrow(name).to_pylist()]
        assert together.arrow(name).to_pylist() == rows


def test_leave_one_out_takes_two_passes_more_than_spans_and_shares_beginnings(llama_directory: Any) -> None:
    llama = elimtool.load_model(str(llama_directory))  # hooks that others left would keep it from sharing
    run = attribute(llama, methods=("leave-one-out",))
    row = run.prompts.iloc[0]
    facts = run.table("attribution_methods").iloc[0]
    parts = spans_by_hand(run, whole(run, "leave-one-out").index)
    assert facts["n_forward_passes"] == len(parts) + 2
    assert facts["prefix_shared"]
    n, ids = row["n_tokens"], row["token_ids"].tolist()
    rests = [[one for at, one in enumerate(ids[:n]) if at not in tokens] for tokens in parts.values()]
    tree = {tuple(rest[: end + 1]) for rest in rests for end in range(len(rest))}
    assert len(tree) < 0.8 * sum(map(len, rests))
    scores = whole(run, "leave-one-out").sort_values(ascending=False)
    removed = sum(len(parts[name]) for name in scores.index[:3])
    assert facts["tokens_processed"] == n + len(tree) + n - removed
    with llama.whole():
        apart = attribute(llama, methods=("leave-one-out",))
    facts = apart.table("attribution_methods").iloc[0]
    assert not facts["prefix_shared"]
    assert facts["tokens_processed"] == n + sum(map(len, rests)) + n - removed
    assert whole(apart, "leave-one-out").tolist() == pytest.approx(
        whole(run, "leave-one-out").tolist(), abs=2e-5
    )


def test_methods_are_judged_by_the_removal_of_their_first_spans(
    llama: Any, plain: Any, everything: Any
) -> None:
    row = everything.prompts.iloc[0]
    ids = row["token_ids"].tolist()
    token = token_of(llama, "Madrid")
    facts = everything.table("attribution_methods").query("target == 'Madrid'").set_index("method")
    for method in METHODS:
        scores = whole(everything, method).sort_values(ascending=False)
        assert facts.loc[method, "top_span"] == scores.index[0]
        assert facts.loc[method, "top_k"] == 3
        gone = {at for some in spans_by_hand(everything, scores.index[:3]).values() for at in some}
        rest = [one for at, one in enumerate(ids) if at not in gone]
        drop = by_hand(plain, ids, token) - by_hand(plain, rest, token)
        assert facts.loc[method, "top_k_drop"] == pytest.approx(drop, abs=2e-5)


def test_the_run_is_written_and_read_back(everything: Any, tmp_path: Any) -> None:
    everything.save(tmp_path / "run")
    again = elimtool.open_run(tmp_path / "run")
    assert again.tables == everything.tables
    assert again.manifest.config["command"] == "attribute"
    assert again.manifest.seed == 0
    assert again.arrow("attributions").equals(everything.arrow("attributions"))


def test_without_a_target_the_leading_token_is_taken_and_said(llama: Any) -> None:
    run = attribute(llama, targets=(), methods=("leave-one-out",))
    (target,) = set(run.table("attributions")["target"])
    leader = elimtool.trace(llama, PROMPT, options=elimtool.TraceOptions(tables=("top_tokens",)))
    assert target == leader.table("top_tokens").query("place == 1")["token"].iloc[0]
    (note,) = [one for one in run.manifest.config["notes"] if "most probable" in one]
    assert repr(target) in note


def test_notes_say_what_stays_and_which_token_is_scored(llama: Any) -> None:
    run = attribute(llama, targets=["Madrid"], methods=("leave-one-out",))
    notes = " ".join(run.manifest.config["notes"])
    assert "attention sinks stay in place: 0 'The'" in notes
    assert "' Madrid' is" in notes


def test_an_earlier_position_is_attributed_without_what_comes_later(llama: Any) -> None:
    ids = llama.tokenizer.encode(PROMPT).ids
    run = attribute(llama, position=5, units="tokens", methods=("leave-one-out",))
    short = llama.encode(Prompt(text=PROMPT, targets=TARGETS), position=5, units="tokens")
    assert len(run.prompts.iloc[0]["token_ids"]) == len(ids)
    assert set(run.table("attributions")["position"]) == {5}
    assert len(whole(run, "leave-one-out")) == 4
    assert [span.name for span in short.spans[1:5]] == whole(run, "leave-one-out").index.tolist()


def test_kinds_of_units(llama: Any) -> None:
    chat = Prompt(
        messages=(Message("system", "A token."), Message("user", "The capital?")), targets=("Paris",)
    )
    run = elimtool.attribute(llama, chat, options=AttributeOptions(methods=("leave-one-out",)))
    assert set(run.table("attributions")["span"]) == {"system", "user"}
    one = elimtool.attribute(
        llama,
        Prompt(messages=(Message("user", "Hi. The capital?"),), targets=("Paris",)),
        options=AttributeOptions(methods=("leave-one-out",)),
    )
    assert len(set(one.table("attributions")["span"])) > 1
    assert "the prompt is one part" in " ".join(one.manifest.config["notes"])
    named = Prompt(text=PROMPT, targets=TARGETS, spans=(SpanRequest("country", "France"),))
    alone = attribute(llama, named, units="auto")
    assert set(alone.table("attributions")["span"]) == {"country"}
    assert alone.table("attribution_methods")["top_k"].isna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("leave-one",)}, "did you mean 'leave-one-out'"),
        ({"methods": ()}, "no method"),
        ({"units": "sentence"}, "did you mean 'sentences'"),
        ({"units": "spans"}, "names no span"),
        ({"units": "roles"}, "the prompt is not a chat"),
        ({"ablations": 3}, "at least 16"),
        ({"steps": 3}, "at least 24"),
        ({"windows": 0}, "at least 1"),
        ({"position": "all"}, "must be 'last', an index from 0 or written:0, got 'all'"),
        ({"position": 500}, "outside the prompt"),
        ({"position": 0}, "no span to attribute to"),
        ({"foils": ("Madrid, which",)}, "begin with the same token"),
    ],
)
def test_what_cannot_be_asked(llama: Any, options: Any, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        attribute(llama, targets=["Madrid"], **options)


def test_models_that_cannot_be_attributed(llama: Any, llama_directory: Any) -> None:
    under = llama.intervened((elimtool.Knockout("S2: The token is a text."),))
    with pytest.raises(ElimError, match="under interventions"):
        attribute(under)
    half = elimtool.load_model(str(llama_directory), dtype="bfloat16")
    with pytest.raises(ElimError, match="needs float32, the model runs in bfloat16"):
        attribute(half, methods=("integrated-gradients",))
    run = attribute(half, ablations=16)
    wanted = {"leave-one-out", "leave-one-out-masked", "contextcite"}
    assert set(run.table("attributions")["method"]) == wanted


def test_bad_prompts_become_rows_where_that_is_asked_for(llama: Any) -> None:
    long = "a token of the text " * 40
    run = attribute(llama, [PROMPT, long], methods=("leave-one-out",), errors="row")
    assert run.prompts["status"].tolist() == ["ok", "error"]
    with pytest.raises(ElimError, match="context is 128"):
        attribute(llama, long)


def test_a_model_without_a_hugging_face_body(tiny: Any) -> None:
    run = attribute(tiny, methods=METHODS, ablations=16, steps=24)
    facts = run.table("attribution_methods").query("target == 'Madrid'").set_index("method")
    assert not facts["prefix_shared"].any()
    assert facts.loc["integrated-gradients", "samples"] >= 24

"""Grammars as a stage: masks of the library itself, the properties that masks have, and what a row tells."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import ElimError, TraceOptions
from elimtool.samplers import STAGES, Chain, History, preset_names, resolve
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.json_place import place_in_json

llguidance = pytest.importorskip("llguidance")

NOBODY = torch.full((1, 1), -1)
SCHEMA = {
    "type": "object",
    "properties": {"capital": {"enum": ["Lyon", "Nice"]}, "n": {"type": "integer"}},
    "required": ["capital", "n"],
    "additionalProperties": False,
}
LARK = 'start: "a" word? | "b" start\nword: /[x-z]{1,3}/\n'
GBNF = 'root ::= "a" word? | "b" root\nword ::= [x-z] [x-z]? [x-z]?\n'
END = 1
TARGETS = ("Paris", '"none"')
TABLES = ("walk", "sampling_targets", "grammar", "grammar_targets", "walk_grammar")


def bound(tokenizer: Any, vocab: int = 300, **given: str) -> Grammar:
    """A grammar for the tests' tokenizer."""
    from elimtool.model.tokens import Tokenizer

    return Grammar(eos=(END,), **given).with_tokenizer(Tokenizer(tokenizer).definition, vocab)


def mask_of(matcher: Any) -> np.ndarray:
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return np.unpackbits(bits, bitorder="little").astype(bool)


def written(stage: Grammar, seed: int, tokens: int = 12) -> Iterator[tuple[list[int], Any]]:
    """Write a text through the stage, from random logits; yield each beginning and what may follow it."""
    draw = torch.Generator().manual_seed(seed)
    text: list[int] = []
    while len(text) < tokens and (not text or text[-1] != END):
        x = torch.randn(1, 300, generator=draw) * 3
        ledger = Chain("one", stages=(stage,)).run(x, NOBODY, [History((5, 6), tuple(text))])
        yield text, ledger.kept[0].numpy()
        text.append(int(torch.multinomial(ledger.probs()[0], 1, generator=draw)))


def test_masks_equal_the_librarys_at_every_step_of_a_hundred_texts(tokenizer: Any, tmp_path: Path) -> None:
    from llguidance.hf import from_tokenizer

    reader = from_tokenizer(tokenizer)
    file = tmp_path / "a.gbnf"
    file.write_text(GBNF)
    forms: list[dict[str, str]] = [
        {"json_schema": json.dumps(SCHEMA)},
        {"json_schema": json.dumps({"type": "array", "items": {"type": "string"}, "maxItems": 3})},
        {"regex": "(The capital|A token) of [A-Z][a-z]+[.]"},
        {"file": str(file)},
    ]
    for form in forms:
        stage = bound(tokenizer, **form)
        for seed in range(25):
            matcher = llguidance.LLMatcher(reader, stage.compiled)  # as its own users make one
            for text, kept in written(stage, seed):
                assert not text or matcher.consume_token(text[-1])
                wanted = mask_of(matcher)[: len(tokenizer)]
                assert np.array_equal(kept[: len(wanted)], wanted), (form, text)
                assert not kept[len(wanted) :].any()


def test_what_is_allowed_never_fails_and_the_end_is_allowed_where_the_text_is_complete(
    tokenizer: Any,
) -> None:
    stage = bound(tokenizer, regex="a{1,2}(b|cc)?")
    words = {"".join(w) for w in ("a", "aa", "ab", "aab", "acc", "aacc")}
    found: set[str] = set()
    pending: list[tuple[int, ...]] = [()]
    while pending:  # a finite language: every text of it is walked through
        text = pending.pop()
        place = stage.at(text)
        assert not place.refused
        spelled = tokenizer.decode(list(text))
        assert place.allowed[END] == place.complete == (spelled in words)
        found |= {spelled} if place.complete else set()
        pending += [(*text, int(token)) for token in np.flatnonzero(place.allowed) if token != END]
    assert found == words


def test_going_back_restores_the_mask(tokenizer: Any) -> None:
    stage, again = (bound(tokenizer, json_schema=json.dumps(SCHEMA)) for _ in range(2))
    *_, (last, _) = written(stage, 3)
    text = tuple(last)
    stage.matcher._known.clear()  # type: ignore[union-attr]
    for length in (len(text) - 1, 2, 5, 0, 4):
        assert np.array_equal(stage.at(text[:length]).allowed, again.at(text[:length]).allowed)


def test_equal_languages_agree_on_complete_texts(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "a.lark").write_text(LARK)
    (tmp_path / "a.gbnf").write_text(GBNF)
    stages = [
        bound(tokenizer, file=str(tmp_path / "a.lark")),
        bound(tokenizer, file=str(tmp_path / "a.gbnf")),
        bound(tokenizer, regex="b*a([x-z]{1,3})?"),
    ]
    for text, valid in {
        "a": True,
        "bba": True,
        "bayz": True,
        "b": False,
        "ac": False,
        "axyzx": False,
    }.items():
        ids = tuple(tokenizer(text, add_special_tokens=False).input_ids)
        assert [stage.at(ids).complete for stage in stages] == [valid] * 3


def test_to_require_a_set_is_to_ban_the_others(tokenizer: Any) -> None:
    stage = bound(tokenizer, json_schema=json.dumps(SCHEMA))
    x = torch.randn(1, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.arange(300)[None]
    allowed = tuple(np.flatnonzero(stage.at(()).allowed).tolist())
    entry = Chain("one", stages=(stage,)).run(x, targets).records[0]
    other = Chain("two", stages=(STAGES["allowed_tokens"](tokens=allowed),)).run(x, targets).records[0]
    assert torch.equal(entry.alive_after, other.alive_after) and torch.equal(
        entry.prob_after, other.prob_after
    )
    assert torch.equal(entry.mass_pruned, other.mass_pruned) and bool(entry.margin.isnan().all())
    kept = entry.alive_after[0]
    assert torch.allclose(entry.prob_after[0][kept], entry.prob_before[0][kept] / (1 - entry.mass_pruned))


def test_a_row_tells_what_is_refused_what_is_forced_and_where_a_text_left(tokenizer: Any) -> None:
    stage = bound(tokenizer, json_schema=json.dumps(SCHEMA))
    spell = stage_spelling(tokenizer)

    def entry(text: str) -> Any:
        ids = tuple(tokenizer(text, add_special_tokens=False).input_ids)
        return Chain("one", stages=(stage,)).run(torch.zeros(1, 300), NOBODY, [History((), ids)]).records[0]

    begun = entry('{"capital":"')
    paris = tokenizer("P", add_special_tokens=False).input_ids[0]
    assert begun.rule(paris).told(spell) == (
        "the JSON schema refuses 'P' in the text of 'capital'; it allows 'L', 'N'"
    )
    assert begun.n_after == 2 and not begun.details(0)
    forced = entry('{"capital":"L')
    assert forced.n_after == 1
    assert [one.told(spell) for one in forced.details(0).values()] == [
        "'y' is forced: the JSON schema allows no other"
    ]
    done = entry('{"capital":"Lyon","n":0}')
    assert "is forced: the text is complete and must end" in next(iter(done.details(0).values())).told(spell)
    left = entry('{"capital":"Paris')
    assert not bool(left.active) and left.n_after == 300 and left.mass_pruned == 0
    assert next(iter(left.details(0).values())).told(spell) == (
        "what was written has left the JSON schema at its token 7 (from 0), 'Pa':"
        " nothing is removed from there on"
    )


def stage_spelling(tokenizer: Any) -> Any:
    from elimtool.model.tokens import Tokenizer

    own = Tokenizer(tokenizer)
    return lambda token: own.texts([token])[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at the beginning"),
        ("{", "where a property's name or the end is due"),
        ('{"na', "in the name of a property"),
        ('{"name": ', "in the value of 'name'"),
        ('{"name": "x\\"y', "in the text of 'name'"),
        ('{"a": [1, "x', "in the text of item 1 of 'a'"),
        ('{"a": [{"b": 1}, ', "at item 1 of 'a'"),
        ('{"a": {"b": "c"}, "d": 1', "in the value of 'd'"),
        ("{}", "after the value"),
    ],
)
def test_the_place_in_json_in_words(text: str, said: str) -> None:
    assert place_in_json(text) == said


def test_each_preset_has_it_where_its_engine_masks() -> None:
    grammar = Grammar(regex="a")
    before = {
        "vllm": None,
        "vllm-gpu": None,
        "sglang": "penalties",
        "hf": "repetition",
        "koboldcpp": "prefilter",
        "llama.cpp": "temperature",
    }
    for name, wanted in before.items():
        names = [stage.name for stage in resolve(name, grammar=grammar).stages]
        at = names.index("grammar")
        assert (names[at - 1] if at else None) == wanted
    for name in preset_names():
        chain = resolve(name, grammar=grammar)
        own = replace(grammar, mode="check") if name == "llama.cpp" else grammar
        assert chain.name == name and [one for one in chain.stages if one.kind == "grammar"] == [own]
        assert "grammar" not in [one.kind for one in resolve(name).stages]
    assert [s.kind for s in resolve("top_k=3", grammar=grammar).stages] == ["grammar", "top_k"]
    named = resolve("vllm:grammar.regex=b", grammar=grammar).stages[0]
    assert isinstance(named, Grammar) and named.regex == "b"  # what the chain says itself wins


def test_a_model_writes_what_the_schema_allows(llama: Any) -> None:
    schema = json.dumps({"enum": ["yes", "no"]})
    grammar = Grammar(json_schema=schema)
    options = TraceOptions(
        samplers=("vllm", "hf:top_k=3"), generate=20, grammar=grammar, seed=2, tables=TABLES
    )
    prompts = ["The capital of France is", "A token of the text"]
    run = elimtool.trace(llama, prompts, targets=TARGETS, options=options)
    alone = elimtool.trace(llama, prompts[1], targets=TARGETS, options=options)
    walk = run.table("walk")
    for _, rows in walk.groupby("prompt_id"):
        assert json.loads("".join(rows["token"]).removesuffix("<|unknown|>")) in ("yes", "no")
        assert rows["token"].iloc[-1] == "<|unknown|>"  # which ends texts by its settings
    second = walk[walk["prompt_id"] == walk["prompt_id"].iloc[-1]]
    assert second["token"].tolist() == alone.table("walk")["token"].tolist()
    fates = run.table("sampling_targets")
    cut = fates[fates["stage"] == "grammar"]
    cut = cut[cut["target"] == "Paris"]
    assert len(cut) == 4 and not cut["alive_after"].any()
    assert cut["why"].str.startswith("the JSON schema refuses ").all()
    assert cut["why"].str.contains("at the beginning; it allows '\"'", regex=False).all()
    for name in ("grammar", "walk_grammar"):
        rows = run.table(name)
        assert np.allclose(rows["distortion"], -np.log1p(-rows["mass_removed"]), rtol=1e-6)
        assert (rows["forced"] == (rows["n_allowed"] == 1)).all() and rows["engine"].eq(grammar.engine).all()
    steps = run.table("walk_grammar")
    assert len(steps) == len(walk) and steps["may_stop"].sum() == 2
    sums = steps.groupby("prompt_id")["distortion"].cumsum()
    assert np.allclose(steps["distortion_so_far"], sums) and (steps["n_written"] == steps["step"]).all()
    # the mass by Hugging Face's own forward pass and the library's own mask
    ids = llama.encode(elimtool.Prompt(text=prompts[0])).token_ids
    with torch.inference_mode():
        probs = llama.hf(torch.tensor([ids])).logits[0, -1].double().softmax(-1).numpy()
    from llguidance.hf import from_tokenizer

    mask = mask_of(llguidance.LLMatcher(from_tokenizer(llama.tokenizer.backend), grammar.compiled))
    first = run.table("grammar").iloc[0]
    assert abs(first["mass_removed"] - (1 - probs[mask[: len(probs)]].sum())) < 1e-5
    assert first["n_allowed"] == mask.sum() and first["chain"] == "vllm" and not first["may_stop"]
    told = run.table("grammar_targets").set_index(["prompt_id", "chain", "target"]).iloc[:2]
    assert told["valid_prefix"].tolist() == ["", '"no'] and told["refused"].tolist() == [" ", "n"]
    assert told["allowed"].tolist()[1].tolist() == ['"'] and not told["complete"].any()
    described = run.manifest.chains[0]["stages"][0]["params"]
    assert described["text"] == schema and described["engine"].startswith("llguidance ")
    assert run.manifest.config["grammar"]["json_schema"] == schema


BAD = {
    "schema.json": (
        '{\n "type": "object",\n "properties": {\n  "a": {"type": "strin"}\n }\n}',
        ":4: #/properties/a: ",
    ),
    "tabs.json": ('{\n\t"type": "objct"}', ":1: #: Invalid type: objct"),
    "unfinished.json": ('{"type":\n', ":2:1: not valid JSON"),
    "number.json": ("3", ":1: #: schema must be an object or boolean"),
    "never.json": ('{"allOf": [{"type": "string"}, {"type": "integer"}]}', "Unsatisfiable schema"),
    "unknown.lark": ('start: "a" | b\n', ':1:8: unknown name: "b"'),
    "lexer.lark": ('start: "a"\nb: /x+/ "\n', ":2:10: lexer error"),
    "rule.gbnf": ('root ::= "a" |\n  "c" b\n', ":2: Rule 'b' not found"),
    "paren.gbnf": ('root ::= ("a" |\n', ":2: Expected ')'"),
    "root.gbnf": ('foo ::= "a"\n', ":1: No 'root' rule found"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_valid_names_file_and_place(name: str, tmp_path: Path) -> None:
    content, said = BAD[name]
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ElimError) as caught:
        Grammar(**{"json_schema" if name.endswith("json") else "file": str(file)})
    assert caught.value.message.startswith(f"{file}:") and said in caught.value.message
    assert caught.value.hint


def test_a_regex_that_is_not_valid_names_the_character() -> None:
    with pytest.raises(ElimError, match=r"regex 'a\(b' is not valid at character 2: unclosed group"):
        Grammar(regex="a(b")
    with pytest.raises(ElimError, match="give one of"):
        Grammar(regex="a", json_schema="{}")
    with pytest.raises(ElimError, match="No such file"):
        resolve("grammar=nowhere.gbnf")


def test_without_the_extra_a_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ElimError, match="need the package llguidance") as caught:
        resolve("vllm:grammar.regex=a")
    assert caught.value.hint == "pip install 'elimtool[grammar]'"
    resolve("vllm")  # which has a place for one


def test_a_grammar_without_a_model_says_so() -> None:
    with pytest.raises(ElimError, match="needs the model's tokenizer"):
        resolve("grammar.regex=a").run(torch.zeros(1, 8), NOBODY)

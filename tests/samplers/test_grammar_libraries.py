"""Libraries that make masks: each as its own users call it, what both promise, and which one is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import elimtool
from elimtool import ElimError, TraceOptions
from elimtool.model.tokens import Tokenizer
from elimtool.samplers import Chain, History, resolve
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.grammar_engine import GrammarLibrary, Matcher
from elimtool.samplers.grammar_libraries import LIBRARIES

END = 1
SCHEMA = {
    "type": "object",
    "properties": {"capital": {"enum": ["Lyon", "Nice"]}, "n": {"type": "integer"}},
    "required": ["capital", "n"],
    "additionalProperties": False,
}
ARRAY = {"type": "array", "items": {"type": "string"}, "maxItems": 3}
FORMS: list[dict[str, str]] = [
    {"json_schema": json.dumps(SCHEMA)},
    {"json_schema": json.dumps(ARRAY)},
    {"regex": "(The capital|A token) of [A-Z][a-z]+[.]"},
]
WHY = "xgrammar is not installed: beside a torch without CUDA, pip install --no-deps xgrammar apache-tvm-ffi"


@pytest.fixture(params=sorted(LIBRARIES))
def library(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param, reason=WHY)
    return str(request.param)


def bound(tokenizer: Any, library: str, **given: str) -> Grammar:
    stage = Grammar(eos=(END,), library=library, **given)
    return stage.with_tokenizer(Tokenizer(tokenizer).definition, 300)


def texts(stage: Grammar, seed: int, most: int = 12) -> list[tuple[tuple[int, ...], npt.NDArray[np.bool_]]]:
    """Beginnings of a text written through the stage from random logits, and what may follow each."""
    draw = torch.Generator().manual_seed(seed)
    found: list[tuple[tuple[int, ...], npt.NDArray[np.bool_]]] = []
    text: tuple[int, ...] = ()
    while len(text) < most and (not text or text[-1] != END):
        logits = torch.randn(1, 300, generator=draw) * 3
        ledger = Chain("one", stages=(stage,)).run(logits, torch.full((1, 1), -1), [History((5,), text)])
        found.append((text, ledger.kept[0].numpy()))
        text = (*text, int(torch.multinomial(ledger.probs()[0], 1, generator=draw)))
    return found


def test_masks_equal_xgrammars_at_every_step(tokenizer: Any) -> None:
    xgrammar: Any = pytest.importorskip("xgrammar", reason=WHY)
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=300, stop_token_ids=[END])
    compiler = xgrammar.GrammarCompiler(info)
    made = [
        compiler.compile_json_schema(json.dumps(SCHEMA)),
        compiler.compile_json_schema(json.dumps(ARRAY)),
        compiler.compile_regex(FORMS[2]["regex"]),
    ]
    mask = xgrammar.allocate_token_bitmask(1, 300)
    for form, compiled in zip(FORMS, made, strict=True):
        stage = bound(tokenizer, "xgrammar", **form)
        for seed in range(34):  # as vLLM makes them: 102 texts
            matcher = xgrammar.GrammarMatcher(compiled)
            for text, kept in texts(stage, seed):
                assert not text or matcher.accept_token(text[-1])
                matcher.fill_next_token_bitmask(mask)
                wanted = torch.zeros(1, 300)
                xgrammar.apply_token_bitmask_inplace(wanted, mask)
                assert np.array_equal(kept, (wanted[0] == 0).numpy()), (form, text)


def test_what_is_allowed_is_taken_and_going_back_restores_the_mask(tokenizer: Any, library: str) -> None:
    for form in FORMS:
        stage, again = (bound(tokenizer, library, **form) for _ in range(2))
        for text, kept in texts(stage, 3):
            for token in np.flatnonzero(kept)[:20].tolist():
                assert not stage.at((*text, token)).refused
            place = again.at(text)
            assert np.array_equal(place.allowed, kept) and place.allowed[END] == place.complete
        whole = texts(stage, 3)[-1][0]
        assert stage.matcher is not None
        stage.matcher._known.clear()
        for length in (len(whole) - 1, 1, 0, len(whole) // 2):
            assert np.array_equal(stage.at(whole[:length]).allowed, again.at(whole[:length]).allowed)
        assert stage.at((299,)).refused and stage.at((299,)).valid == 0


def test_equal_languages_agree_on_whole_texts(tokenizer: Any, library: str, tmp_path: Path) -> None:
    (tmp_path / "a.gbnf").write_text('root ::= "a" word? | "b" root\nword ::= [x-z] [x-z]? [x-z]?\n')
    (tmp_path / "a.lark").write_text('start: "a" word? | "b" start\nword: /[x-z]{1,3}/\n')
    stages = [bound(tokenizer, library, file=str(tmp_path / name)) for name in ("a.gbnf", "a.lark")]
    stages.append(bound(tokenizer, library, regex="b*a([x-z]{1,3})?"))
    for text, valid in {"a": True, "bba": True, "bayz": True, "b": False, "ac": False}.items():
        ids = tuple(tokenizer(text, add_special_tokens=False).input_ids)
        assert [stage.at(ids).complete for stage in stages] == [valid] * 3


def test_after_the_end_only_the_end_may_come(tokenizer: Any, library: str) -> None:
    stage = bound(tokenizer, library, regex="ab")
    ids = tuple(tokenizer("ab", add_special_tokens=False).input_ids)
    for text in ((*ids, END), (*ids, END, END)):
        place = stage.at(text)
        assert np.flatnonzero(place.allowed).tolist() == [END] and place.complete and not place.refused
    assert (stage.at((ids[0], END)).valid, stage.at((*ids, END, ids[0])).valid) == (1, len(ids))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"json_schema": '{"type": "objct"}'}, "JSON schema: .*objct"),
        ({"json_schema": '{"a'}, "JSON schema:1:2: not valid JSON"),
        ({"regex": "a(b"}, "regex 'a\\(b'.*"),
    ],
)
def test_what_is_not_valid_is_refused(given: dict[str, str], said: str, library: str) -> None:
    with pytest.raises(ElimError, match=said) as caught:
        Grammar(library=library, **given)
    assert caught.value.hint and "/project/" not in caught.value.message


def test_a_library_that_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    with pytest.raises(ElimError, match="need the package xgrammar") as caught:
        resolve("vllm:grammar.regex=a,grammar.library=xgrammar")
    assert "pip install 'elimtool[xgrammar]'" in caught.value.hint
    assert "xgrammar and apache-tvm-ffi with pip's option no-deps" in caught.value.hint
    with pytest.raises(ElimError, match="library = 'outlines' is not valid"):
        Grammar(library="outlines")


class Whatever(GrammarLibrary):
    """A library whose masks allow two tokens, whatever was written."""

    name = "numpy"  # a package that is there, for its version
    install = ""

    def load(self) -> Any:
        return np

    def compiled(self, syntax: Any, text: str, source: str) -> str:
        return f"{syntax} {text}{source}"

    def matcher(self, syntax: Any, compiled: str, definition: str, ends: Any, vocab: int) -> Matcher:
        assert (syntax, compiled) == ("regex", "regex a") and definition.startswith("{")
        return Two(vocab, ends)


class Two(Matcher):
    """It never refuses a token."""

    def back(self, count: int) -> None: ...

    def take(self, tokens: Any) -> int:
        return len(tokens)

    def look(self, length: int) -> tuple[npt.NDArray[np.bool_], bool, str]:
        return np.isin(np.arange(self.vocab), (4, 9)), length == 2, "x"


def test_rows_name_the_library_that_made_the_mask(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES, "numpy", Whatever())
    options = TraceOptions(
        samplers=("vllm",),
        grammar=Grammar(regex="a", library="numpy"),
        generate=3,
        tables=("grammar", "walk_grammar", "walk"),
    )
    run = elimtool.trace(llama, "The capital of France is", options=options)
    steps = run.table("walk_grammar")
    assert set(steps["engine"]) == {f"numpy {np.__version__}"} == set(run.table("grammar")["engine"])
    assert set(run.table("walk")["token_id"]) <= {4, 9} and (steps["n_allowed"] == 2).all()
    assert steps["may_stop"].tolist() == [False, False, True] and set(steps["forced_text"]) == {"x"}
    (described,) = (one for one in run.manifest.chains[0]["stages"] if one["stage"] == "grammar")
    assert described["params"]["library"] == "numpy"


def test_a_chain_of_its_own_keeps_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES, "numpy", Whatever())
    given = Grammar(regex="a", library="numpy")
    for name in ("vllm", "llama.cpp", "hf", "sglang", "koboldcpp"):
        stages = [one for one in resolve(name, grammar=given).stages if isinstance(one, Grammar)]
        assert [one.library for one in stages] == ["numpy"]

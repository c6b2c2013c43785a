"""Categories of tokens by how they are written, by labels and by a tagger."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from elimtool.analysis.map.named import WRITTEN
from elimtool.errors import ElimError
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.labels import Labels
from elimtool.tasks.map.words import function_words, labelled, overlays, written
from tests.tasks.map.conftest import write_corpus

TEXT = (
    'Mr. Smith met J. Watson in London. "Come," said he. They don\'t sell 12 pens of 3rd rate.\n\n'
    "Red paint (from Arthur) was there... Then Alice ran."
)
NAMES = ["Smith", "J", "Watson", "London", "Arthur", "Alice"]


def tokens(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    found = list(re.finditer(r" ?\w+|\s+|[^\w\s]", text))
    return [one.group() for one in found], [one.span() for one in found]


def test_tokens_are_put_into_categories_by_their_writing() -> None:
    shown, offsets = tokens(TEXT)
    kinds = written(TEXT, offsets)
    by_kind = {
        kind: [one.strip() for one, own in zip(shown, kinds, strict=True) if own == kind] for kind in WRITTEN
    }
    assert by_kind["name"] == NAMES
    assert by_kind["function"] == ["in", "he", "They", "don", "of", "from", "was", "there", "Then"]
    assert by_kind["content"] == [
        "Mr",
        "met",
        "Come",
        "said",
        "sell",
        "pens",
        "3rd",
        "rate",
        "Red",
        "paint",
        "ran",
    ]
    assert by_kind["number"] == ["12"] and by_kind["piece"] == ["t"] and by_kind["word"] == []
    assert set(by_kind["punct"]) == {".", '"', ",", "'", "(", ")"} and len(by_kind["space"]) == 3
    # bytes of one character share its offset, and its category
    assert written("ein 漢", [(0, 3), (4, 5), (4, 5)]) == ["content", "content", "content"]
    assert 150 < len(function_words()) < 400 and all(one == one.lower() for one in function_words())


def test_a_language_without_a_list_has_words() -> None:
    text = "Die Hauptstadt von Frankreich war schon immer Paris und wird es wohl bleiben. " * 2
    shown, offsets = tokens(text)
    assert set(written(text, offsets)) == {"word", "punct", "space"} - (
        {"space"} if " " not in shown else set()
    )


def test_overlays_do_not_depend_on_the_category() -> None:
    text = "no cat is not a dog, and don't"
    _, offsets = tokens(text)
    found = overlays(text, offsets, [0, 1, 2, 3, 4, 1, 6, 2, 8, 9, 10])
    assert [at for at, one in enumerate(found["repeated"]) if one] == [5, 7]
    assert [text[slice(*offsets[at])].strip() for at, one in enumerate(found["negation"]) if one] == [
        "no", "not", "don", "'", "t"
    ]  # fmt: skip


def test_labels_are_of_the_first_visible_character() -> None:
    text = "A  b cd"
    spans = [(0, 1, "x"), (3, 4, "y"), (3, 7, "z")]
    assert labelled([(0, 1), (1, 4), (4, 6), (6, 7), (7, 7)], spans, text, "-") == ["x", "y", "z", "z", "-"]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.of(write_corpus(tmp_path / "text.jsonl", count=3))


def test_labels_of_a_file_are_of_passages_by_text_or_number(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    first, second, third = (one.text for one in corpus.documents)
    rows = [{"id": 1, "labels": [[0, 3, "B"], [4, 5, "A"]]}, {"text": second, "labels": []}]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = Labels.of(corpus, path)
    assert found.categories == ("A", "B", "other") and found.name == str(path) and found.sha256
    assert found.spans(first) == [(0, 3, "B"), (4, 5, "A")] and found.spans(second) == []
    with pytest.raises(ElimError, match="no labels of the passage that begins"):
        found.spans(third)
    with pytest.raises(ElimError, match="cannot be given together"):
        Labels.of(corpus, path, "spacy:any")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ":1: not JSON"),
        ("[]", ":1: the line is list"),
        ('{"idd": 1}', ":1: unknown key 'idd'"),
        ('{"id": 9, "labels": []}', ":1: neither 'text' nor 'id' is of a passage"),
        ('{"id": [1], "labels": []}', ":1: neither 'text' nor 'id' is of a passage"),
        ('{"id": true, "labels": []}', ":1: neither 'text' nor 'id' is of a passage"),
        ('{"text": ["a"], "labels": []}', ":1: neither 'text' nor 'id' is of a passage"),
        ('{"id": 1}', ":1: 'labels' is missing or not a list"),
        ('{"id": 1, "labels": [[3, 2, "A"]]}', r"has \[3, 2, \"A\"\], not \[start, end, label\]"),
        ('{"id": 1, "labels": [[0, 2, "negation"]]}', "the label 'negation' is made by elimtool itself"),
    ],
)
def test_a_line_that_labels_nothing_is_named(corpus: Corpus, tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ElimError, match=said) as raised:
        Labels.of(corpus, path)
    assert raised.value.hint


def test_parts_of_speech_of_spacy_are_labels(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ElimError, match="'nltk:any' is not known"):
        Labels.of(corpus, tagger="nltk:any")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ElimError, match="spaCy is not installed"):
        Labels.of(corpus, tagger="spacy:small")

    def tag(text: str) -> list[Any]:
        words = re.finditer(r"\S+", text)
        return [SimpleNamespace(idx=one.start(), text=one.group(), pos_="NOUN") for one in words]

    def load(model: str) -> Any:
        if model != "small":
            raise OSError(model)
        return tag

    spacy: Any = ModuleType("spacy")
    spacy.load = load
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    found = Labels.of(corpus, tagger="spacy:small")
    assert found.categories == ("NOUN", "other")
    spans = found.spans(corpus.documents[0].text)
    assert spans is not None and spans[0][0] == 0 and {label for *_, label in spans} == {"NOUN"}
    with pytest.raises(ElimError, match="spaCy has no model 'large'"):
        Labels.of(corpus, tagger="spacy:large")

"""Targets: the space before them, the tokens they share, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from elimtool.errors import ElimError
from elimtool.model.targets import Choice, choices, resolve, spaced
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Encoded, Target
from elimtool.prompts.prompt import Message, Prompt
from tests.conftest import byte_tokenizer
from tests.model.tokenizers import encode, sentencepiece, word_level

BYTES = Tokenizer(byte_tokenizer())


@pytest.mark.parametrize(
    "target",
    ["Paris", "paris", "4", "Ünal", "Париж", "Αθήνα", "مدينة", "देश", "서울", "ǅ", "²"],
)
def test_words_of_spaced_scripts_get_a_space(target: str) -> None:
    assert spaced(target, "The capital is", "auto") == " " + target


@pytest.mark.parametrize(
    "target",
    [
        "巴黎", "々", "〇", "〆", "ひらがな", "カタカナ", "ｶﾀｶﾅ", "ー", "ㄅ", "ไทย", "๓", "ລາວ", "ភ្នំពេញ",
        " Paris", ".", "-", "(", "👍", "_x", "\n", "<|end|>", "\u0301",
    ],
)  # fmt: skip
def test_other_targets_stay_as_they_are(target: str) -> None:
    assert spaced(target, "The capital is", "auto") == target


@pytest.mark.parametrize(
    "prompt",
    [
        "is", "4", "is.", "is,", "is;", "is:", "is!", "is?", "50%", "wait…", "(so)", "[1]", "}", "“so”", "’",
        "»",
        '"so"', "'so'", '(he said "so"', '"so."', "e\u0301", "法国", "ไทย", "ما،", "है।", "1\ufe0f\u20e3",
        'so)"',
    ],
)  # fmt: skip
def test_after_letters_digits_and_closing_punctuation_comes_a_space(prompt: str) -> None:
    assert spaced("Paris", prompt, "auto") == " Paris"


@pytest.mark.parametrize(
    "prompt",
    [
        "is ", "is\n", "is\t", "is\u00a0", "(", "[", "{", "“", "‘", "«", "„", '"', "'", 'say "', "say '",
        '("',
        'href="', '=""', "-", "/", "_", "$", "*", "`", "#", "👍", "❤\ufe0f", "\u0301", "", "assistant\n",
    ],
)  # fmt: skip
def test_after_anything_else_comes_none(prompt: str) -> None:
    assert spaced("Paris", prompt, "auto") == "Paris"


def test_exact_takes_the_target_as_it_is() -> None:
    assert spaced("Paris", "The capital is", "exact") == "Paris"
    assert spaced(" Paris", "The capital is ", "exact") == " Paris"


def test_many_quotes_are_no_trouble() -> None:
    assert spaced("a", "'" * 5000, "auto") == "a"
    assert spaced("a", "b" + "\u0301" * 5000 + "'" * 5000, "auto") == " a"


def _resolve(
    *targets: str,
    foils: tuple[str, ...] = (),
    tokenizer: Tokenizer = BYTES,
    append: bool = True,
    rule: str = "auto",
) -> tuple[tuple[Target, ...], tuple[int, ...]]:
    asked = choices(tokenizer, "The capital is", targets, foils, rule=rule, special=True)
    return resolve(tokenizer, asked, {}, append=append, rule=rule)


def _spell(ids: tuple[int, ...], tokenizer: Tokenizer = BYTES) -> str:
    return "".join(tokenizer.texts(ids))


def test_a_target_of_several_tokens_keeps_them_all() -> None:
    (target,), appended = _resolve("zebra", append=False)
    assert (target.text, target.spelling) == ("zebra", " zebra")
    assert _spell(target.token_ids) == " zebra"
    assert len(target.token_ids) > 1
    assert (target.ambiguous, target.is_foil, appended) == (False, False, ())


def test_tokens_that_all_share_are_appended() -> None:
    targets, appended = _resolve("4", "5", foils=("6",))
    assert _spell(appended) == " "
    assert [_spell(target.token_ids) for target in targets] == ["4", "5", "6"]
    assert [target.text for target in targets] == ["4", "5", "6"]
    assert [target.spelling for target in targets] == [" 4", " 5", " 6"]
    assert [target.token for target in targets] == ["4", "5", "6"]
    assert [target.is_foil for target in targets] == [False, False, True]
    assert not any(target.ambiguous for target in targets)


def test_several_shared_tokens_are_appended() -> None:
    targets, appended = _resolve("xy1", "xy2")
    assert _spell(appended) == " xy"
    assert [_spell(target.token_ids) for target in targets] == ["1", "2"]


def test_tokens_that_only_some_share_are_not() -> None:
    targets, appended = _resolve("4", "5", ".")
    assert appended == ()
    assert [target.ambiguous for target in targets] == [True, True, False]


def test_a_target_that_begins_another_stays_scorable() -> None:
    targets, appended = _resolve("4", "45")
    assert _spell(appended) == " "
    assert [_spell(target.token_ids) for target in targets] == ["4", "45"]
    assert all(target.ambiguous for target in targets)


def test_without_appending_the_first_tokens_are_ambiguous() -> None:
    targets, appended = _resolve("4", "5", append=False)
    assert appended == ()
    assert all(target.ambiguous for target in targets)
    assert [_spell(target.token_ids) for target in targets] == [" 4", " 5"]


@pytest.mark.parametrize("target", ["4", " 4", "  4", "\n4", "zebra"])
def test_white_space_before_one_target_is_appended_and_twice_the_same_is_one(target: str) -> None:
    (one,), appended = _resolve(target, target)
    assert _spell(appended) + _spell(one.token_ids) == one.spelling
    assert _spell(appended).isspace() and one.token == one.spelling.strip()[0] and not one.ambiguous


@pytest.mark.parametrize("target", [" ", "\n", "\n\n", " \n"])
def test_a_target_of_white_space_is_read_from_its_first_token(target: str) -> None:
    (one,), appended = _resolve(target)
    assert (one.spelling, appended) == (target, ()) and _spell(one.token_ids) == target


def test_exact_keeps_the_other_spelling_for_comparison_and_never_takes_it() -> None:
    choice = Choice("4", False, ("4", " 4"), ((4,), (1, 4)), fixed=True)
    one = choice.chosen({(4,): (-8.0,), (1, 4): (-0.1, -0.1)})
    assert (one.spelling, one.other_spelling, one.other_logprob) == ("4", " 4", pytest.approx(-0.2))
    assert replace(choice, fixed=False).chosen({(4,): (-8.0,), (1, 4): (-0.1, -0.1)}).spelling == " 4"


def test_exact_appends_no_white_space_before_one_target() -> None:
    (one,), appended = _resolve(" 4", rule="exact")
    assert (_spell(one.token_ids), one.token, appended) == (" 4", " ", ())


def test_two_targets_of_one_spelling_are_both_kept_and_said_to_be_alike() -> None:
    targets, appended = _resolve("Paris", " Paris")
    assert [(target.text, target.spelling) for target in targets] == [
        ("Paris", " Paris"),
        (" Paris", " Paris"),
    ]
    assert _spell(appended) == " "
    assert all(target.ambiguous for target in targets)


def test_a_foil_that_is_a_target_after_spacing_is_refused() -> None:
    with pytest.raises(ElimError, match="' Paris' is both a target and a foil"):
        _resolve("Paris", foils=(" Paris",))
    assert len(_resolve("Paris", foils=(" Paris",), rule="exact")[0]) == 2


def test_characters_that_the_tokenizer_does_not_know_are_refused() -> None:
    words = Tokenizer(word_level())
    with pytest.raises(ElimError, match="does not know"):
        _resolve("zebra", tokenizer=words)
    with pytest.raises(ElimError, match="does not know"):
        _resolve("[UNK]zebra", tokenizer=words, rule="exact")
    assert _resolve("[UNK]", tokenizer=words)[0][0].token_ids == (0,)
    assert _resolve("Paris", tokenizer=words)[0][0].token_ids == (8,)


def test_a_target_without_a_token_is_refused() -> None:
    with pytest.raises(ElimError, match="no token"):
        _resolve("  ", tokenizer=Tokenizer(word_level()))


def test_sentencepiece_puts_no_space_of_its_own_before_an_exact_target() -> None:
    tokenizer = Tokenizer(sentencepiece())
    for text in ("Paris", " Paris"):
        (target,), _ = _resolve(text, tokenizer=tokenizer, rule="exact")
        assert _spell(target.token_ids, tokenizer) == text


def _encode(
    *targets: str, position: object = "last", context: int | None = None, text: str = "2 + 2 is"
) -> Encoded:
    prompt = Prompt(text=text, targets=targets)
    return encode(prompt, BYTES, context=context, position=position)


def test_the_position_is_the_last_shared_token() -> None:
    plain, one = _encode(), _encode("4", "5")
    assert (one.n_appended, plain.n_appended) == (1, 0)
    assert one.token_ids == (*plain.token_ids, *BYTES.encode(" ").ids)
    assert one.positions == (len(plain.token_ids),)
    assert one.tokens[-1] == " "
    assert one.text == plain.text
    assert one.prompt_id == plain.prompt_id


@pytest.mark.parametrize("position", ["all", 0, 2])
def test_a_chosen_position_appends_nothing(position: object) -> None:
    one = _encode("4", "5", position=position)
    assert one.n_appended == 0
    assert all(target.ambiguous for target in one.targets)


def test_shared_tokens_that_do_not_fit_are_named() -> None:
    n = len(_encode().token_ids)
    assert [_encode("4", context=limit).n_appended for limit in (n, n + 1)] == [0, 1]
    with pytest.raises(ElimError, match=f"has {n + 1} tokens with the 1 that targets begin with, but .* {n}"):
        _encode("4", "5", context=n)


def test_after_a_chat_prompt_comes_no_space() -> None:
    prompt = Prompt(messages=(Message("user", "Where?"),), targets=("Paris",))
    one = encode(prompt, BYTES, context=None)
    assert one.targets[0].spelling == "Paris"

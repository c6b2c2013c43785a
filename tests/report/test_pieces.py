"""Pieces of characters are joined for people; what is no whole character keeps its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from elimtool.report.pieces import LATER, joined, text_of


def test_pieces_of_a_character_are_joined_on_the_first() -> None:
    tokens = ["is", r" \xe6", r"\x97", r"\xa5", "本", r"\xf0\x9f", r"\x99\x82"]
    assert joined(tokens) == ["is", " 日", LATER, LATER, "本", "🙂", LATER]
    assert text_of([*tokens, LATER]) == f"is 日本🙂{LATER}"


def test_an_incomplete_piece_keeps_its_bytes() -> None:
    assert joined([r"\xe6", "a", r"\x97"]) == [r"\xe6", "a", r"\x97"]
    assert joined([r"\xc3"]) == [r"\xc3"]


@given(st.text(min_size=1).filter(lambda text: "\\" not in text), st.lists(st.integers(1, 3)))
def test_joined_pieces_are_the_text(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "surrogatepass")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return
    pieces, at = [], 0
    for cut in [*cuts, len(data)]:
        piece = data[at : at + cut]
        at += cut
        if piece:
            try:
                pieces.append(piece.decode("utf-8"))
            except UnicodeDecodeError:
                pieces.append("".join(f"\\x{one:02x}" for one in piece))
    shown = joined(pieces)
    assert len(shown) == len(pieces)
    if not any("\\x" in one for one in shown):
        pairs = zip(shown, pieces, strict=True)
        assert "".join(one for one, piece in pairs if one != LATER or piece == LATER) == text

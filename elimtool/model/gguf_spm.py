"""Make the ``tokenizer.json`` of a GGUF vocabulary of the ``llama`` kind, which cuts text as llama.cpp does.

Source: llama.cpp's ``src/llama-vocab.cpp``. A text is parted at special tokens, each part between them gets a
space in front where ``tokenizer.ggml.add_space_prefix`` asks for it, spaces become U+2581, and neighbours are
joined, those of the highest score first, as long as their union is in the vocabulary. What is left and not in
the vocabulary is spelled in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elimtool.errors import ElimError

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def spm_document(
    tokens: Sequence[str],
    scores: Sequence[float],
    prefix: bool,
    unknown: str | None,
    around: Mapping[str, Any],
) -> tuple[dict[str, Any], list[str]]:
    """Make the document.

    Args:
        tokens: Every token, by id.
        scores: Their scores, by id; of two possible joins that of the higher score is made.
        prefix: Put a space before each stretch of text between special tokens.
        unknown: The token for what cannot be spelled.
        around: Its ``added_tokens`` and ``post_processor``.

    Returns:
        The document, and notes on what may differ from the original.

    Raises:
        ElimError: The vocabulary has no scores.
    """
    if len(scores) < len(tokens):
        raise ElimError(
            "its tokenizer of the kind 'llama' has no scores, so the order of its merges is not known",
            "convert the original again with llama.cpp's convert_hf_to_gguf.py",
        )
    vocab = {token: index for index, token in enumerate(tokens)}
    parted = {one["content"] for one in around["added_tokens"]}
    before = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    behind = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        **around,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*before, {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}],
        },
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *behind,
            ],
        },
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": unknown,
            "fuse_unk": False,
            "vocab": vocab,
            "merges": _merges(vocab, scores),
        },
    }, _notes([one for one in tokens if one not in parted], scores, vocab)


def _merges(vocab: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """List every pair of tokens whose union is a token, that of the highest score first."""
    found: list[tuple[float, int, int, str, str]] = []
    for token, index in vocab.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocab and right in vocab:
                found.append((-scores[index], vocab[left], vocab[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _notes(tokens: Sequence[str], scores: Sequence[float], vocab: Mapping[str, int]) -> list[str]:
    """Say where the file's own rules cannot be written as merges of known tokens."""
    notes = []
    if missing := sum(byte not in vocab for byte in _BYTES):
        notes.append(
            f"its tokenizer lacks {missing} of 256 bytes: text that needs them becomes the unknown token, at "
            "which llama.cpp stops"
        )
    unmade = [
        token
        for token in tokens
        if len(token) > 1 and any(letter not in vocab for letter in token) and _joined(token, vocab)
    ]
    if unmade:
        notes.append(
            f"{len(unmade):,} of its tokens, such as {unmade[0]!r}, join letters that are no tokens: text"
            " with them may be cut otherwise"
        )
    ranked = [scores[vocab[token]] for token in tokens if _joined(token, vocab) and token not in _BYTES]
    if (equal := len(ranked) - len(set(ranked))) > 0:
        notes.append(
            f"{equal} of its merges have the score of another: where they compete, text may be cut otherwise"
        )
    return notes


def _joined(token: str, vocab: Mapping[str, int]) -> bool:
    """Tell whether a token is the union of two, each a token or a letter."""
    return any(
        (cut == 1 or token[:cut] in vocab) and (cut == len(token) - 1 or token[cut:] in vocab)
        for cut in range(1, len(token))
    )

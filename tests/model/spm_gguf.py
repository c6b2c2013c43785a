"""Writes vocabularies of the ``llama`` kind as GGUF files, and the texts that they are tried on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import gguf

LETTERS = "\u2581abcdehtn.=-\u00e9\u8a9e"
SPECIAL = [
    *(("<|im_start|>", 3), ("<|im_end|>", 1), ("<|endoftext|>", 3), ("<eos>", 1)),  # by type, or by spelling
    *(("[X]", 4), ("<mid>", 4), ("  ", 4), ("\n\n", 4)),
]
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "no prefix": {"add_space_prefix": False},
    "no bos, eos": {"add_bos_token": False, "add_eos_token": True},
    "phi-3": {"name": "Phi-3-mini"},
}
PARTS = [
    *LETTERS.replace("\u2581", ""),
    *(" ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r", "\u00a0", "\u2581", "\ufeff"),
    *("<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "[X]", "<mid>", "<eos>", "<0x41>"),
    *("\U0001f600", "\u4e2d", "x", "Z", "\u00f6", "e\u0301", "the cat", "====", "------"),
]
FIXED = [
    "",
    " ",
    "  ",
    "the cat",
    " the cat",
    "the cat ",
    "<s>the",
    "<s> the",
    "a</s> b",
    "[X]a",
    "[X] a",
    "<s>",
]


def vocabulary(setting: str) -> tuple[list[str], list[float], list[int]]:
    """Return tokens, scores and types: bytes, joins of random pieces, letters, special tokens."""
    draw = random.Random(5)
    pieces, words = list(LETTERS), []
    while len(words) < 80:
        joined = draw.choice(pieces) + draw.choice(pieces)
        if len(joined) < 8 and joined not in pieces:
            pieces.append(joined)
            words.append(joined)
    special = [
        one for one in SPECIAL if setting != "phi-3" or not one[0].isspace()
    ]  # Phi-3 has none of these
    plain = [*words, *LETTERS]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *plain]
    types = [2, 3, 3, *[6] * 256, *[1] * len(plain)]
    scores = [*[0.0] * 259, *(-float(rank) for rank in range(len(plain)))]
    return (
        tokens + [token for token, _ in special],
        scores + [-1000.0] * len(special),
        types + [kind for _, kind in special],
    )


def texts(n: int, setting: str) -> list[str]:
    """Return fixed texts and random ones: words, white space, special tokens, bytes."""
    draw = random.Random(7)
    # white space that C's isspace does not know is not tried behind tokens that swallow it
    parts = [part for part in PARTS if setting != "phi-3" or part != "\u00a0"]
    return FIXED + ["".join(draw.choice(parts) for _ in range(draw.randint(1, 14))) for _ in range(n)]


def write_spm(path: Path, setting: str, *, kind: str = "llama", scored: bool = True) -> Path:
    """Write a vocabulary without weights."""
    tokens, scores, types = vocabulary(setting)
    given = dict(SETTINGS[setting])
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(given.pop("name", "tiny"))
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    if scored:
        writer.add_token_scores(scores)
    writer.add_token_types(types)
    for key, value in given.items():
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

"""Write the tokenizer of a GGUF file as a ``tokenizer.json`` that splits text as the original does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.model.gguf_spm import spm_document
from elimtool.model.pretokenizers import DEFAULT, PRE_TOKENIZERS, PreTokenizer

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # llama.cpp's token types

DEFAULT_IDS = {"bos_token": 1, "eos_token": 2, "unk_token": 0}
"""Where a file with a vocabulary of the ``llama`` kind names none."""

ENDING = (
    *(
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|calls|>",
        "<|flush|>",
        "<|eom_id|>",
    ),
    *("<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<end_of_utterance>", "<eos>", "</s>", "<turn|>"),
    *(
        "<|tool_response>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "[e~[",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
)
"""Tokens that end a turn or text by their spelling: control tokens, whatever type the file gives them."""

_PHI3_KEEPS = ("<unk>", "<s>", "<|endoftext|>")
"""Tokens of Phi-3 that do not swallow the white space behind them."""

_NAMED = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def field(reader: Any, key: str, default: Any = None) -> Any:
    """Return the value of a metadata key, or ``default`` where the file lacks it."""
    found = reader.fields.get(key)
    return default if found is None else found.contents()


def save_tokenizer(path: Path, reader: Any, out_dir: Path) -> list[str]:
    """Write the tokenizer of an open GGUF file into a directory.

    It is built from the file's own fields as llama.cpp reads them: transformers' converter knows only some
    pre-tokenizers, and puts other spaces into vocabularies of the ``llama`` kind.

    Args:
        path: The GGUF file.
        reader: The open file.
        out_dir: Where to write.

    Returns:
        Notes on what may differ from the original.

    Raises:
        ElimError: The vocabulary is of a kind that cannot be converted exactly.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    kind = field(reader, "tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise ElimError(
            f"{path}: its tokenizer is of the kind '{kind}': only 'gpt2' and 'llama' are converted exactly",
            "convert the original with its authors' tools and pass the Hugging Face directory",
        )
    named = _named_tokens(reader, DEFAULT_IDS if kind == "llama" else {})
    document, notes = _byte_level(path, reader, named) if kind == "gpt2" else _spm(reader, named)
    backend = Tokenizer.from_str(json.dumps(document))
    architecture = field(reader, "general.architecture")
    context = field(reader, f"{architecture}.context_length")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=field(reader, "tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **({"model_max_length": context} if context else {}),
        **named,
    )
    tokenizer.save_pretrained(out_dir)
    return notes


UNNAMED = "it names no pre-tokenizer; text is cut as GPT-2 does, so tokens may differ from the original"


def _pre_tokenizer(path: Path, name: str | None) -> PreTokenizer:
    """Find how a byte-level vocabulary cuts text; files older than the names have none, and are GPT-2's."""
    if name is None:
        return DEFAULT
    if name not in PRE_TOKENIZERS:
        raise ElimError(
            f"{path}: its pre-tokenizer '{name}' is not known, so text cannot be cut as the original does",
            f"{nearest(name, tuple(PRE_TOKENIZERS))}; or pass the original's Hugging Face directory",
        )
    return PRE_TOKENIZERS[name]


def _named_tokens(reader: Any, otherwise: Mapping[str, int]) -> dict[str, str]:
    tokens = field(reader, "tokenizer.ggml.tokens", [])
    ids = {name: field(reader, f"tokenizer.ggml.{key}", otherwise.get(name)) for name, key in _NAMED.items()}
    return {name: tokens[index] for name, index in ids.items() if index is not None and index < len(tokens)}


def _byte_level(path: Path, reader: Any, named: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Make the ``tokenizer.json`` of a byte-level vocabulary."""
    name = field(reader, "tokenizer.ggml.pre")
    pre = _pre_tokenizer(path, name)
    tokens = field(reader, "tokenizer.ggml.tokens")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        **_around(reader, named, pre.bos),
        "normalizer": {"type": "NFC"} if pre.nfc else None,
        "pre_tokenizer": pre.document(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "ignore_merges": pre.whole_words,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": field(reader, "tokenizer.ggml.merges", []),
        },
    }, [UNNAMED] if name is None else []


def _spm(reader: Any, named: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Make the ``tokenizer.json`` of a vocabulary of the ``llama`` kind."""
    return spm_document(
        field(reader, "tokenizer.ggml.tokens"),
        field(reader, "tokenizer.ggml.scores", []),
        field(reader, "tokenizer.ggml.add_space_prefix", True),
        named.get("unk_token"),
        _around(reader, named, True),
    )


def _around(reader: Any, named: dict[str, str], bos: bool) -> dict[str, Any]:
    """Make the parts that concern special tokens: those found in text, and those put around it."""
    tokens = field(reader, "tokenizer.ggml.tokens")
    types = dict(enumerate(field(reader, "tokenizer.ggml.token_type", [])))
    special = {index for index in range(len(tokens)) if types.get(index) in (_UNKNOWN, _CONTROL)}
    special |= {index for index, token in enumerate(tokens) if token in named.values() or token in ENDING}
    user = {index for index, kind in types.items() if kind == _USER_DEFINED} - special
    phi3 = any(name in field(reader, "general.name", "").lower() for name in ("phi-3", "phi3"))
    added = [
        _added(index, tokens[index], index in special, phi3 and tokens[index] not in _PHI3_KEEPS)
        for index in sorted(special | user)
    ]
    first = named.get("bos_token") if field(reader, "tokenizer.ggml.add_bos_token", bos) else None
    last = named.get("eos_token") if field(reader, "tokenizer.ggml.add_eos_token", False) else None
    vocab = {token: index for index, token in enumerate(tokens)}
    return {"added_tokens": added, "post_processor": _template(first, last, vocab)}


def _added(index: int, token: str, special: bool, swallows: bool) -> dict[str, Any]:
    """Make the entry of a token found in text; ``swallows``: with the white space behind it."""
    flags = dict.fromkeys(("single_word", "lstrip", "normalized"), False)
    return {"id": index, "content": token, "special": special, "rstrip": swallows, **flags}


def _template(bos: str | None, eos: str | None, vocab: dict[str, int]) -> dict[str, Any]:
    """Make the post-processor that puts ``bos`` before and ``eos`` after each text, if given."""

    def sequence(name: str, kind: int) -> list[dict[str, Any]]:
        text: dict[str, Any] = {"Sequence": {"id": name, "type_id": kind}}
        edge = [{"SpecialToken": {"id": token, "type_id": kind}} if token else {} for token in (bos, eos)]
        return [part for part in (edge[0], text, edge[1]) if part]

    added = [token for token in (bos, eos) if token]
    return {
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": sequence("A", 0) + sequence("B", 1),
        "special_tokens": {token: {"id": token, "ids": [vocab[token]], "tokens": [token]} for token in added},
    }

"""Write the tokenizer of a GGUF file as a ``tokenizer.json`` that splits text as the original does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from elimtool.model.pretokenizers import DEFAULT, PRE_TOKENIZERS, PreTokenizer

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types
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

    Byte-level vocabularies are built from the file's own fields, with the pre-tokenizer that
    ``tokenizer.ggml.pre`` names: transformers' converter knows only some. Others go through that converter.

    Args:
        path: The GGUF file.
        reader: The open file.
        out_dir: Where to write.

    Returns:
        Notes on what may differ from the original.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    named = _named_tokens(reader)
    if field(reader, "tokenizer.ggml.model") == "gpt2":
        pre = field(reader, "tokenizer.ggml.pre")
        backend = Tokenizer.from_str(json.dumps(_document(reader, PRE_TOKENIZERS.get(pre, DEFAULT), named)))
        notes = [] if pre in PRE_TOKENIZERS else [_unknown(pre)]
    else:
        backend = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name).backend_tokenizer
        notes = []
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


def _unknown(pre: str | None) -> str:
    named = f"its pre-tokenizer '{pre}' is not known" if pre else "it names no pre-tokenizer"
    return f"{named}; text is cut as GPT-2 does, so tokens may differ from the original"


def _named_tokens(reader: Any) -> dict[str, str]:
    tokens = field(reader, "tokenizer.ggml.tokens", [])
    ids = {name: field(reader, f"tokenizer.ggml.{key}") for name, key in _NAMED.items()}
    return {name: tokens[index] for name, index in ids.items() if index is not None and index < len(tokens)}


def _document(reader: Any, pre: PreTokenizer, named: dict[str, str]) -> dict[str, Any]:
    """Make the ``tokenizer.json`` of a byte-level vocabulary."""
    tokens = field(reader, "tokenizer.ggml.tokens")
    types = field(reader, "tokenizer.ggml.token_type", [1] * len(tokens))
    control = {index for index, kind in enumerate(types) if kind == _CONTROL}
    control |= {index for index, token in enumerate(tokens) if token in named.values()}
    user = {index for index, kind in enumerate(types) if kind == _USER_DEFINED} - control
    bos = field(reader, "tokenizer.ggml.add_bos_token", pre.bos)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(index, tokens[index], index in control) for index in sorted(control | user)],
        "normalizer": {"type": "NFC"} if pre.nfc else None,
        "pre_tokenizer": pre.document(),
        "post_processor": _template(
            named.get("bos_token") if bos else None,
            named.get("eos_token") if field(reader, "tokenizer.ggml.add_eos_token", False) else None,
            {token: index for index, token in enumerate(tokens)},
        ),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "ignore_merges": pre.whole_words,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": field(reader, "tokenizer.ggml.merges", []),
        },
    }


def _added(index: int, token: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": token, "special": special, **flags}


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

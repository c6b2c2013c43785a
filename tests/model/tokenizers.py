"""Small tokenizers of the kinds that models have, trained or written out in memory."""

from __future__ import annotations

from typing import Any

from elimtool.model.encode import draft
from elimtool.model.encode import encode as settled
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt
from tests.conftest import TEXTS

PIECES = ["▁The", "▁capital", "▁of", "▁France", "▁is", "▁Paris", "Paris", "▁", "▁4", "4", "5", "T", "h", "e"]


def _wrap(core: Any, **options: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=core, **options)


def _template(core: Any, single: str) -> None:
    from tokenizers import processors

    names = [part for part in single.split() if part != "$A"]
    ids = [(name, core.token_to_id(name)) for name in names]
    core.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B", special_tokens=ids
    )


def sentencepiece(
    prepend_scheme: str = "always", bos: bool = True, eos: bool = False, bytes_too: bool = True
) -> Any:
    """A Unigram model over Metaspace, with the 256 bytes to fall back on, as Llama 2's and T5's are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:;()0123678\n"
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    if bytes_too:
        vocabulary += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    vocabulary += [(piece, -1.0 - n / 10) for n, piece in enumerate(PIECES)]
    vocabulary += [(letter, -8.0) for letter in letters if letter not in PIECES]
    core = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=bytes_too))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _template(core, ("<s> " if bos else "") + "$A" + (" </s>" if eos else ""))
    return _wrap(core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def gpt2_like(add_prefix_space: bool = False, trim_offsets: bool = True) -> Any:
    """A byte-level BPE whose post-processor cuts leading spaces off the offsets, as GPT-2's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    return _wrap(core, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")


def word_level(template: str = "$A") -> Any:
    """Whole words or ``[UNK]``; white space is dropped."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", "[CLS]", "[SEP]", "The", "capital", "of", "France", "is", "Paris", "."]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    if template != "$A":
        _template(core, template)
    return _wrap(core, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def encode(prompt: Prompt, tokenizer: Tokenizer, **options: Any) -> Encoded:
    """Encode a prompt without a model to ask: targets are written in the usual way."""
    first = {name: value for name, value in options.items() if name not in ("sinks", "units")}
    return settled(draft(prompt, tokenizer, **first), tokenizer, {}, **options)

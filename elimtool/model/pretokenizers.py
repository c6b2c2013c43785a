"""Define how text is split before byte-level merges, by the name in a GGUF file (``tokenizer.ggml.pre``).

Sources: the expressions per name in llama.cpp's ``src/llama-vocab.cpp`` and the ``tokenizer.json`` files that
they were taken from. Names that neither defines are not in the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

Step = dict[str, Any]


@dataclass(frozen=True)
class PreTokenizer:
    """One way of splitting text.

    Attributes:
        steps: Pre-tokenizers applied in turn, in the format of ``tokenizer.json``.
        nfc: Compose characters first (Unicode NFC).
        whole_words: A piece that is in the vocabulary becomes that token, without merges.
        bos: Add a beginning-of-sequence token where the file does not say.
    """

    steps: tuple[Step, ...]
    nfc: bool = False
    whole_words: bool = False
    bos: bool = False

    def document(self) -> Step:
        """Return the ``pre_tokenizer`` entry of a ``tokenizer.json``."""
        if len(self.steps) == 1:
            return self.steps[0]
        return {"type": "Sequence", "pretokenizers": list(self.steps)}


def _bytes(gpt2: bool) -> Step:
    """Spell text in the byte alphabet, after splitting it by GPT-2's expression if ``gpt2``."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": gpt2}


def _digits(single: bool) -> Step:
    return {"type": "Digits", "individual_digits": single}


def _split(expression: str) -> Step:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def _alternatives(*expressions: str) -> tuple[Step, ...]:
    return (_split("|".join(expressions)), _bytes(gpt2=False))


_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_THREE_DIGITS = r"\p{N}{1,3}"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_OR_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (f"{_LEAD}{_UPPER}*{_LOWER}+", f"{_LEAD}{_UPPER}+{_LOWER}*")

_GPT2 = PreTokenizer((_bytes(gpt2=True),))
_SINGLE_DIGITS = PreTokenizer((_digits(single=True), _bytes(gpt2=True)))
_LLAMA3 = PreTokenizer(_alternatives(_CONTRACTION, _WORD, _THREE_DIGITS, _REST), whole_words=True, bos=True)
_QWEN2 = PreTokenizer(_alternatives(_CONTRACTION, _WORD, r"\p{N}", _REST), nfc=True)
_MARKED = _LEAD + r"[\p{L}\p{M}]+"
_REST_BUT_MARKS = r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_DEEPSEEK_V3 = PreTokenizer(
    (
        _split(_THREE_DIGITS),
        _split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
        *_alternatives(
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+",
            r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
            r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
    )
)
_FALCON = PreTokenizer(
    (
        {"type": "Punctuation", "behavior": "Contiguous"},
        _bytes(gpt2=True),
        _digits(single=False),
        _split("[0-9][0-9][0-9]"),
    )
)
_DEEPSEEK_CODER = PreTokenizer(
    (
        *map(_split, (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")),
        _digits(single=True),
        _bytes(gpt2=False),
    )
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "refact": _SINGLE_DIGITS,
    "codeshell": _SINGLE_DIGITS,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "falcon3": _LLAMA3,
    "dbrx": replace(_LLAMA3, whole_words=False, bos=False),
    "smaug-bpe": replace(_LLAMA3, whole_words=False, bos=False),
    "qwen2": _QWEN2,
    "megrez": _QWEN2,
    "stablelm2": replace(_QWEN2, nfc=False),
    "falcon": _FALCON,
    "deepseek-coder": _DEEPSEEK_CODER,
    "tekken": PreTokenizer(_alternatives(*_CASED, r"\p{N}", _REST_OR_SLASH), whole_words=True, bos=True),
    "glm4": replace(_LLAMA3, bos=False),
    "qwen35": PreTokenizer(_alternatives(_CONTRACTION, _MARKED, r"\p{N}", _REST_BUT_MARKS), nfc=True),
    "ufakzeka": PreTokenizer(_alternatives(_WORD, r"\p{N}", _REST)),
    "seed-coder": PreTokenizer(
        _alternatives(_CONTRACTION, _WORD, r"\p{N}", r" ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+")
    ),
    "bailingmoe": PreTokenizer(
        _alternatives(
            r"'(?i:[sdmt]|ll|ve|re)",
            _WORD,
            r"\p{N}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        )
    ),
    "deepseek-v3": _DEEPSEEK_V3,
    "gpt-4o": PreTokenizer(
        _alternatives(*(f"{cased}{_CONTRACTION}?" for cased in _CASED), _THREE_DIGITS, _REST_OR_SLASH)
    ),
}
"""By ``tokenizer.ggml.pre``."""

_AS: dict[str, tuple[str, ...]] = {
    "gpt-2": (
        "a.x-4.0",
        "exaone4",
        "gigachat",
        "granite-docling",
        "jais",
        "mellum",
        "mpt",
        "olmo",
        "trillion",
    ),
    "smollm": ("command-r", "exaone", "mellum2", "minerva-7b"),
    "llama-bpe": ("falcon-h1", "lfm2", "midm-2.0", "pixtral"),
    "dbrx": ("chatglm-bpe",),
    "stablelm2": ("grok-2", "hunyuan", "solar-open"),
    "qwen2": ("deepseek-r1-qwen",),
    "deepseek-v3": ("hunyuan-dense", "hy_v4", "joyai-llm"),
    "bailingmoe": ("bailingmoe2", "llada-moe"),
    "gpt-4o": ("kanana2", "llama4", "minimax-m2", "talkie"),
    "glm4": ("glm5",),
}
"""Names that cut as another one does."""

PRE_TOKENIZERS |= {name: PRE_TOKENIZERS[like] for like, names in _AS.items() for name in names}

DEFAULT = _GPT2
"""For files that name none; callers say so."""

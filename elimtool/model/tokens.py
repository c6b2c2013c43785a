"""Text to token ids and back, exactly as the model's own tokenizer does it; no BOS that it would not add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from elimtool.errors import ElimError
from elimtool.prompts import Message


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of a text and, for each, the characters ``[start, end)`` that it came from."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class Tokenizer:
    """A thin, exact face of a Hugging Face fast tokenizer.

    Args:
        backend: A ``PreTrainedTokenizerFast``; slow tokenizers have no character offsets and are refused.
    """

    def __init__(self, backend: Any) -> None:
        if not getattr(backend, "is_fast", False):
            raise ElimError(
                f"the tokenizer {type(backend).__name__} has no fast version, so spans cannot be located",
                "convert it to a tokenizer.json with transformers' convert_slow_tokenizer",
            )
        self.backend = backend

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens (BOS, EOS, chat markers ...)."""
        return frozenset(int(i) for i in self.backend.all_special_ids)

    @cached_property
    def bos_policy(self) -> str:
        """What the tokenizer puts before a plain text: ``none`` or the token, such as ``<s>``."""
        with_special = self.backend("a").input_ids
        without = self.backend("a", add_special_tokens=False).input_ids
        if len(with_special) > len(without) and with_special[0] in self.special_ids:
            return str(self.backend.convert_ids_to_tokens(with_special[0]))
        return "none"

    def encode(self, text: str, *, special: bool = True) -> Tokens:
        """Tokenise a text.

        Args:
            text: Any Unicode text.
            special: Let the tokenizer add what it adds by itself (BOS). A text that came from a chat
                template already holds its special tokens and must not get them twice. A trailing EOS
                that some tokenizers add is dropped: a prompt is a text to be continued.
        """
        encoding = self.backend(text, add_special_tokens=special, return_offsets_mapping=True)
        ids = [int(i) for i in encoding["input_ids"]]
        offsets = [(int(a), int(b)) for a, b in encoding["offset_mapping"]]
        if special:
            plain = len(self.backend(text, add_special_tokens=False).input_ids)
            while (
                len(ids) > plain and ids[-1] in self.special_ids and offsets[-1] in ((0, 0), (len(text),) * 2)
            ):
                ids.pop(), offsets.pop()
        return Tokens(tuple(ids), tuple(offsets))

    def continuation(self, prompt: str, target: str, *, special: bool) -> tuple[int, ...]:
        """Token ids of ``target`` as it would follow ``prompt``.

        The two are tokenised together, so that SentencePiece does not add a space of its own; where the
        tokenizer merges across the border, the target is tokenised alone instead.
        """
        before = self.encode(prompt, special=special).ids
        joined = self.encode(prompt + target, special=special).ids
        if len(joined) > len(before) and joined[: len(before)] == before:
            return joined[len(before) :]
        alone = self.backend(target, add_special_tokens=False).input_ids
        return tuple(int(i) for i in alone)

    def render(self, messages: Sequence[Message]) -> str:
        """A chat as text, by the model's own template; a generation prompt follows a last user message.

        Raises:
            ElimError: The model has no chat template, or the template refuses these messages.
        """
        from jinja2.exceptions import TemplateError

        if not self.backend.chat_template:
            raise ElimError(
                "this model has no chat template",
                "give the prompt as plain text, or use an instruction-tuned model",
            )
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            rendered = self.backend.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=messages[-1].role == "user"
            )
        except TemplateError as error:
            raise ElimError(f"the model's chat template refuses these messages: {error}") from error
        return str(rendered)

    def texts(self, ids: Sequence[int]) -> list[str]:
        """What each token stands for as text, leading space included; incomplete bytes as ``\\xNN``."""
        return [self._text(int(i)) for i in ids]

    def _text(self, token_id: int) -> str:
        cached = self._memo.get(token_id)
        if cached is None:
            cached = self._memo[token_id] = self._spell(token_id)
        return cached

    @cached_property
    def _memo(self) -> dict[int, str]:
        return {}

    def _spell(self, token_id: int) -> str:
        piece = self.backend.convert_ids_to_tokens(token_id)
        if piece is None:
            return f"<unused {token_id}>"
        if token_id in self.special_ids:
            return str(piece)
        if self._byte_level and all(letter in _BYTES for letter in piece):
            return bytes(_BYTES[letter] for letter in piece).decode("utf-8", "backslashreplace")
        if piece.startswith("<0x") and piece.endswith(">") and len(piece) == 6:
            return bytes([int(piece[3:5], 16)]).decode("utf-8", "backslashreplace")
        return str(piece).replace("\N{LOWER ONE EIGHTH BLOCK}", " ")

    @cached_property
    def _byte_level(self) -> bool:
        decoder = self.backend.backend_tokenizer.decoder
        return decoder is not None and "ByteLevel" in repr(decoder)


def _byte_alphabet() -> dict[str, int]:
    """The letters that byte-level BPE writes for the 256 bytes (Radford et al. 2019, GPT-2).

    Printable Latin-1 bytes stand for themselves; the others take the letters from U+0100 on, in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()

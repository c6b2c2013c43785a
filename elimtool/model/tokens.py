"""Convert text to token ids and back, exactly as the model's own tokenizer does; add no BOS of our own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.model.rendering import Rendered, render
from elimtool.prompts.chat import PLAIN, ChatSettings
from elimtool.prompts.prompt import ASKING, ASSISTANT, LM_EVAL, Message

SAYING = ("tool_calls", "reasoning_content", "thinking")
"""Keys of a message that say something: a template that does not read them would leave it out."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of a text and, for each, the characters ``[start, end)`` that it came from."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class Tokenizer:
    """A Hugging Face fast tokenizer.

    Args:
        backend: A ``PreTrainedTokenizerFast``; slow tokenizers have no character offsets and are refused.
        n_ids: Number of the model's embeddings, if known; texts that need other ids are refused.
    """

    def __init__(self, backend: Any, n_ids: int | None = None) -> None:
        if not getattr(backend, "is_fast", False):
            raise ElimError(
                f"the tokenizer {type(backend).__name__} has no fast version, so spans cannot be located",
                "convert it to a tokenizer.json with transformers' convert_slow_tokenizer",
            )
        self.backend = backend
        self.n_ids = n_ids

    @property
    def definition(self) -> str:
        """Content of the ``tokenizer.json``, with the tokens that were added since and without truncation."""
        core = copy(self.backend.backend_tokenizer)
        core.no_padding()
        core.no_truncation()
        return str(core.to_str())

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens (BOS, EOS, chat markers ...)."""
        return frozenset(int(i) for i in self.backend.all_special_ids)

    @cached_property
    def bos_policy(self) -> str:
        """Tokens that the tokenizer puts before a plain text, such as ``<s>``; ``none`` without any."""
        encoding = self._run("a", special=True)
        before = takewhile(
            lambda pair: pair[1] is None, zip(encoding.tokens, encoding.sequence_ids, strict=True)
        )
        return "".join(token for token, _ in before) or "none"

    def bos_before(self, prompts: Sequence[Sequence[int]]) -> str:
        """Name the BOS before prompts, given as token ids: a chat has one only by its template.

        Without prompts, as for a batch, whose file is not read yet: the one before plain texts.
        """
        policy = self.bos_policy
        if policy == "none":
            return policy
        if not prompts:
            return f"{policy}, before plain texts"
        ids = self._run("a", special=True)
        pairs = zip(ids.ids, ids.sequence_ids, strict=True)
        lead = [i for i, _ in takewhile(lambda pair: pair[1] is None, pairs)]
        having = sum(list(one[: len(lead)]) == lead for one in prompts)
        if having in (0, len(prompts)):
            return policy if having else "none"
        return f"{policy}, before {having:,} of {len(prompts):,} prompts"

    def encode(self, text: str, *, special: bool = True) -> Tokens:
        """Tokenise a text.

        Args:
            text: Any Unicode text.
            special: Let the tokenizer add its own tokens (BOS). Texts from a chat template already have their
                special tokens and must not get them twice. The trailing EOS of some tokenizers is dropped:
                a prompt is to be continued.

        Raises:
            ElimError: The text needs a token that the model has no embedding for.
        """
        encoding = self._run(text, special)
        n = len(encoding.ids)
        while n and encoding.sequence_ids[n - 1] is None:
            n -= 1
        ids = tuple(encoding.ids[:n])
        self._check_known(ids)
        return Tokens(ids, self._with_spaces(text, encoding.tokens[:n], encoding.offsets[:n]))

    def encode_scored(self, text: str, rule: str) -> Tokens:
        """Tokenise a text that is to be scored.

        Args:
            text: Any Unicode text.
            rule: ``no-prefix``: as ``encode``. ``lm-eval``: without the tokenizer's own special tokens, after
                BOS, else EOS, unless the text begins with it. Source: lm-evaluation-harness,
                ``TemplateLM.loglikelihood`` and ``HFLM.prefix_token_id``.

        Raises:
            ElimError: There is neither token, or the text has fewer than two tokens with it.
        """
        found = self.encode(text, special=rule != LM_EVAL)
        if rule == LM_EVAL:
            backend = self.backend
            prefix = backend.eos_token_id if backend.bos_token_id is None else backend.bos_token_id
            if prefix is None:
                raise ElimError(
                    "the tokenizer has neither BOS nor EOS to score a text after",
                    "use the rule no-prefix, which starts at the second token",
                )
            if found.ids[:1] != (prefix,):
                found = Tokens((prefix, *found.ids), ((0, 0), *found.offsets))
        if len(found.ids) < 2:
            raise ElimError(f"the text {text!r} has one token: nothing is left to score", "leave it out")
        return found

    def _run(self, text: str, special: bool) -> Any:
        """Run the Rust tokenizer; tokens that it added have no sequence id."""
        return self.backend(text, add_special_tokens=special, verbose=False).encodings[0]

    def _check_known(self, ids: Sequence[int]) -> None:
        if self.n_ids is None or not ids or max(ids) < self.n_ids:
            return
        beyond = max(ids)
        raise ElimError(
            f"token {beyond} ({self.texts([beyond])[0]!r}) is beyond the model's {self.n_ids} embeddings",
            "the tokenizer does not belong to this model; fetch or export both again",
        )

    def _with_spaces(
        self, text: str, pieces: Sequence[str], offsets: Sequence[tuple[int, int]]
    ) -> tuple[tuple[int, int], ...]:
        """Extend offsets of byte-level tokens to leading spaces, which some tokenizers (GPT-2's) trim."""
        if not self._byte_level:
            return tuple(offsets)
        whole: list[tuple[int, int]] = []
        last = 0
        for piece, (start, end) in zip(pieces, offsets, strict=True):
            if not piece.strip(_SPACE) and text[last : last + len(piece)].isspace():
                whole.append((last, last + len(piece)))
            elif start > last and piece.startswith(_SPACE) and text[last:start].isspace():
                whole.append((last, end))
            else:
                whole.append((start, end))
            last = max(last, whole[-1][1])
        return tuple(whole)

    def continuation(self, prompt: str, target: str, *, special: bool) -> tuple[int, ...]:
        """Tokenise ``target`` as the continuation of ``prompt``.

        The two are tokenised together, so that SentencePiece does not add a space; where the tokenizer merges
        across the border, the target is tokenised separately.

        Raises:
            ElimError: The target needs a token that the model has no embedding for.
        """
        before = self.encode(prompt, special=special).ids
        joined = self.encode(prompt + target, special=special).ids
        if len(joined) > len(before) and joined[: len(before)] == before:
            return joined[len(before) :]
        return self.apart(target)

    def apart(self, target: str) -> tuple[int, ...]:
        """Tokenise a text without the space that some tokenizers put before every text."""
        # alone, then after anchors that it may not merge with, until the tokens spell it exactly
        for anchor in ("", *_ANCHORS):
            head = self.encode(anchor, special=False).ids
            ids = self.encode(anchor + target, special=False).ids
            tail = ids[len(head) :]
            if ids[: len(head)] == head and b"".join(map(self.spell, tail)) == target.encode():
                return tail
        return self.encode(target, special=False).ids

    def render(self, messages: Sequence[Message], chat: ChatSettings = PLAIN) -> Rendered:
        """Render a chat by the model's own template.

        A generation prompt follows a last message of the user or a tool; the turn of a last message of the
        assistant stays open behind its text, so that the model continues it.

        Args:
            messages: The turns.
            chat: Variables, tools and the time that the template reads.

        Raises:
            ElimError: The model has no chat template, it refuses these messages, does not read one of the
                variables or the tools, or takes too long.
        """
        if not self.backend.chat_template:
            raise ElimError(
                "this model has no chat template",
                "give the prompt as plain text, or use an instruction-tuned model",
            )
        template = self._template(chat, messages)
        request = {
            "template": template,
            "messages": [message.read() for message in messages],
            "tools": list(chat.tools),
            "variables": {**self.backend.special_tokens_map, **chat.template_vars},
            "now": chat.pinned().now,
            "generation_prompt": messages[-1].role in ASKING,
            "continues": messages[-1].role == ASSISTANT,
        }
        return render(request, self.template_origin)

    def _template(self, chat: ChatSettings, messages: Sequence[Message]) -> str:
        """Choose the template, and refuse what it would silently ignore."""
        try:
            template: str = self.backend.get_chat_template(None, list(chat.tools) or None)
        except ValueError as error:
            raise ElimError(f"the model's chat template cannot be chosen: {error}") from error
        said = [name for name in SAYING if any((one.given or {}).get(name) for one in messages)]
        for name in (*(["tools"] if chat.tools else []), *chat.template_vars, *said):
            if not re.search(rf"\b{re.escape(name)}\b", template):
                raise ElimError(
                    f"the model's chat template ({self.template_origin}) does not read '{name}'",
                    "leave it out, or check the spelling in the template",
                )
        return template

    @cached_property
    def template_origin(self) -> str:
        """The file that the chat template stands in."""
        own = Path(str(self.backend.name_or_path or "")) / "chat_template.jinja"
        return own.name if own.is_file() else "tokenizer_config.json"

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids of control tokens: special ones, and added ones that the chat template writes."""
        template = str(self.backend.chat_template or "")
        added = self.backend.added_tokens_decoder
        own = {
            i for i, one in added.items() if one.special or (one.content.strip() and one.content in template)
        }
        return self.special_ids | own

    def texts(self, ids: Sequence[int]) -> list[str]:
        r"""Spell each token as text, leading space included; incomplete bytes as ``\xNN``."""
        return [self.spell(int(i)).decode("utf-8", "backslashreplace") for i in ids]

    def spell(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes of a token; ``<unused ID>`` for ids that only pad the vocabulary."""
        known = self._memo.get(token_id)
        if known is None:
            piece = self.backend.convert_ids_to_tokens(token_id)
            known = f"<unused {token_id}>".encode() if piece is None else self._bytes_of(token_id, piece)
            self._memo[token_id] = known
        return known

    @cached_property
    def _memo(self) -> dict[int, bytes]:
        return {}

    def _bytes_of(self, token_id: int, piece: str) -> bytes:
        if token_id in self._added:
            return piece.encode()
        if self._byte_level and all(letter in _BYTES for letter in piece):
            return bytes(_BYTES[letter] for letter in piece)
        if single := _BYTE_PIECE.fullmatch(piece):
            return bytes([int(single[1], 16)])
        return piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()

    @cached_property
    def _added(self) -> frozenset[int]:
        """Ids whose pieces are plain text: special tokens and tokens added to the vocabulary."""
        return self.special_ids | frozenset(self.backend.added_tokens_decoder)

    @cached_property
    def _byte_level(self) -> bool:
        core = self.backend.backend_tokenizer
        return any("ByteLevel" in repr(part) for part in (core.decoder, core.pre_tokenizer))


def _byte_alphabet() -> dict[str, int]:
    """Map the letters of byte-level BPE to the 256 bytes (Radford et al. 2019, GPT-2).

    Printable Latin-1 bytes are themselves; the others have the letters from U+0100 on, in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()
_SPACE = next(letter for letter, byte in _BYTES.items() if byte == 0x20)
_BYTE_PIECE = re.compile("<0x([0-9A-Fa-f]{2})>")
_ANCHORS = ("\n", ")", "a")

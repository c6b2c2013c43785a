"""Budget: what stages share that bound how many tokens a block of reasoning may take."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Detail, Stage
from elimtool.samplers.vocabulary import Vocabulary

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Budget(Stage):
    """Ends a block of reasoning that has used up its tokens.

    Attributes:
        tokens: Tokens that a block may take, 0 to end it at once; -1 = any number.
        opening: Text that begins a block, once the chain is given the vocabulary.
        closing: Text that ends it.
        message: Text that comes before the end.
        ids: Tokens of the opening, of the closing, and of message and closing together.
        pieces: Text of every token, by id.
    """

    main: ClassVar[str] = "tokens"
    off: ClassVar[Mapping[str, Any] | None] = {"tokens": -1}

    tokens: int = -1
    opening: str = "<think>"
    closing: str = "</think>"
    message: str = ""
    ids: tuple[Ids, Ids, Ids] | None = field(default=None, kw_only=True, compare=False, repr=False)
    pieces: Sequence[str] = field(default=(), kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.integer("tokens", -1)
        for name in ("opening", "closing"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise self.bad(name, "a text that is not empty")
        if not isinstance(self.message, str):
            raise self.bad("message", "a text")

    @property
    def wants_text(self) -> bool:
        """Whether its texts have not been turned into tokens."""
        return self.tokens >= 0 and self.ids is None

    def spelled(self, vocabulary: Vocabulary, /) -> Budget:
        """Turn its texts into tokens."""
        if (encode := vocabulary.encode) is None:
            return self
        texts = (self.opening, self.closing, self.message + self.closing)
        start, end, forced = (tuple(encode(text)) for text in texts)
        return replace(self, ids=(start, end, forced), pieces=vocabulary.pieces)

    @abstractmethod
    def required(self, text: Ids) -> int | None:
        """Return the token that must follow a text; ``None`` for any."""

    def wanted(self, c: Candidates, context: Context) -> list[int | None]:
        """Return what must follow each text.

        Raises:
            ElimError: It is not in the vocabulary.
        """
        found = [self.required(history.prompt + history.generated) for history in context.histories]
        if max((token or 0 for token in found), default=0) >= c.vocab:
            raise ElimError(
                f"{self.name}: a token of its end is not in the vocabulary", "use another `closing`"
            )
        return found

    def remarks(self, wanted: Sequence[int | None]) -> tuple[Mapping[int, Detail], ...]:
        """Say of each row which token must follow."""
        return tuple({} if token is None else {token: Required(self.tokens, token)} for token in wanted)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say where its texts cannot act."""
        return ("texts do not act: the chain was given no vocabulary",) if self.wants_text else ()

    def why(self, *_: Any) -> str:
        """Explain: the end must come."""
        return f"displaced: the reasoning has used up its {self.tokens:,} tokens, and its end is required"


@dataclass(frozen=True)
class Required:
    """The remark that the end of the reasoning is required."""

    budget: int
    token: int

    def __str__(self) -> str:
        return self.told(str)

    def told(self, spell: Callable[[int], str]) -> str:
        """Say which token."""
        return f"{spell(self.token)!r} is required: the reasoning has used up its {self.budget:,} tokens"

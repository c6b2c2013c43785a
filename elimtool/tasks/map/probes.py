"""Say what is hidden in text for heads to find, and which words follow each other: probes of single roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from elimtool.model.tokens import Tokenizer

PAIRS = (
    ("previous", "previous"),
    ("duplicate", "duplicate"),
    ("induction", "induction"),
    ("previous", "duplicate"),
    ("previous", "induction"),
)
"""Roles of the pairs of heads that are ablated together: the two best of one, and the best of two."""

HIDDEN = {
    "Arden": "silver lantern and garden",
    "Borok": "purple engine and castle",
    "Celia": "wooden mirror and island",
    "Dovan": "frozen trumpet and valley",
    "Elgar": "golden hammer and forest",
    "Fermo": "broken ladder and market",
    "Ghent": "yellow carpet and desert",
    "Hadim": "hollow needle and bridge",
}
"""Names and what is told of them: the answer's words stand nowhere else."""
DEPTHS = (0.25, 0.75)
"""Shares of the haystack that stand before the needle."""
NEEDLES = len(HIDDEN) * len(DEPTHS)
HAYSTACK, LEAST_HAYSTACK = 120, 16
"""Tokens of text that a needle stands in, and fewest where model or passages are shorter."""

SETS = {
    "digits": "0 1 2 3 4 5 6 7 8 9",
    "numbers": "one two three four five six seven eight nine ten eleven twelve",
    "days": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "months": "January February March April May June July August September October November December",
    "letters": "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
}
"""Words that follow each other."""
FEWEST_MEMBERS = 4


@dataclass(frozen=True)
class Needle:
    """A sentence that is hidden in text, the question for it, and the answer, as tokens.

    Attributes:
        ids: Text, needle, question and answer; without text before it is hidden.
        start: First token of the needle.
        end: First token after it.
        answer: Number of tokens of the answer, which end the probe.
        told: Tokens of the needle.
        asked: Tokens of the question, and then of the answer.
        haystack: Tokens of text that it is put into.
        depth: Share of them before it.
    """

    told: tuple[int, ...]
    asked: tuple[int, ...]
    answer: int
    haystack: int
    depth: float
    ids: tuple[int, ...] = ()
    start: int = 0
    end: int = 0

    def hidden_in(self, text: Sequence[int], asking: Needle) -> Needle:
        """Hide it in a text, and ask for it, or for another one."""
        hay = tuple(text[: self.haystack])
        at = round(asking.depth * len(hay))
        ids = (*hay[:at], *self.told, *hay[at:], *asking.asked)
        return replace(asking, told=self.told, ids=ids, start=at, end=at + len(self.told))

    def after(self, lead: int) -> Needle:
        """Move it behind tokens that the tokenizer puts before all."""
        return replace(self, start=self.start + lead, end=self.end + lead)


def needles(tokenizer: Tokenizer, tokens: int, context: int | None, lead: int) -> list[Needle]:
    """Make the needles of a model: ``NEEDLES``, or none where the text around them would be too short.

    Args:
        tokenizer: The model's.
        tokens: Tokens of each passage.
        context: The longest input in tokens.
        lead: Tokens that the tokenizer puts before it.
    """

    def of(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, special=False).ids)

    parts = [(of(f" The code of {name} is"), of(f" {answer}")) for name, answer in HIDDEN.items()]
    stop = of(".")
    longest = lead + max(2 * (len(question) + len(answer)) for question, answer in parts) + len(stop)
    haystack = min(HAYSTACK, tokens, HAYSTACK if context is None else context - longest)
    if haystack < LEAST_HAYSTACK:
        return []
    return [
        Needle((*question, *answer, *stop), (*question, *answer), len(answer), haystack, depth)
        for question, answer in parts
        for depth in DEPTHS
    ]


@dataclass(frozen=True)
class SetWord:
    """A word whose successor is known.

    Attributes:
        name: Of its set.
        place: Its place among the members.
        members: Tokens of all members, in order.
    """

    name: str
    place: int
    members: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The word as the tokens of an input."""
        return (self.members[self.place],)


class Successors:
    """Words that follow each other and are single tokens of a tokenizer.

    Args:
        tokenizer: The model's.

    Attributes:
        members: Those whose successor is a single token too, of sets of ``FEWEST_MEMBERS`` or more.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.members: list[SetWord] = []
        for name, words in SETS.items():
            forms = [[_single(tokenizer, lead + word) for word in words.split()] for lead in (" ", "")]
            ids = max(forms, key=lambda form: sum(one is not None for one in form))
            known = tuple(one for one in ids if one is not None)
            if len(known) < FEWEST_MEMBERS or len(set(known)) < len(known):
                continue
            for one, following in pairwise(ids):
                if one is not None and following is not None:
                    self.members.append(SetWord(name, known.index(one), known))


def _single(tokenizer: Tokenizer, text: str) -> int | None:
    """Return the token of a text; ``None`` where it is not one."""
    ids = tokenizer.encode(text, special=False).ids
    return ids[0] if len(ids) == 1 and ids[0] not in tokenizer.special_ids else None

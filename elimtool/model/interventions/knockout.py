"""Knock attention out: cut edges to a span's tokens, from the probed or all later positions, in some layers.

The edges' scores are masked before the softmax, so the other keys share their weight (Geva et al. 2023,
arXiv 2304.14767). The cut is made in the mask that the layer itself gets, so that it works for every
implementation of attention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from elimtool.errors import ElimError, checked_fields, nearest
from elimtool.model.interventions.edits import Change, Cut
from elimtool.model.spans import tokens_of
from elimtool.model.view import Encoded, Span
from elimtool.prompts.prompt import PREFILL, REST, SINK, WRITTEN, Prompt

if TYPE_CHECKING:
    from elimtool.model.interventions.reference import ReferenceActivations
    from elimtool.model.model import Model

ORIGINS = ("last", "later")

_TAIL = re.compile(r"@([0-9]{1,6})(?:-([0-9]{1,6}))?$")
_ORIGIN = re.compile(r" from (last|later)$")
_LEAD = "knockout "
_OCCURRENCE = re.compile(r"(.+)#([1-9][0-9]*)", re.DOTALL)
_BY_MODEL = re.compile(r"^<.*>$|:|\\x|\N{HORIZONTAL ELLIPSIS}")
"""Special tokens, default names in full, and tokens or sentences that are not spelled out."""
_SPANNED = re.compile(r"S?[0-9]+")
"""Numbers of tokens and sentences."""
UNSPACED = "\u0e00"


@checked_fields
@dataclass(frozen=True, slots=True)
class Knockout:
    """Keep queries from attending to a span, in some layers.

    A token's edge to itself is never cut. Attention sinks are left out of the span (``note`` says so) unless
    the span is ``<sink>`` itself: without its sinks a model breaks, whatever the span contains.

    Attributes:
        span: A span's name in the tables, or the part before or after its colon (``3``, ``France`` for
            ``3: France``) if it is unique; else a part of the prompt's text, whole words, that occurs once
            or is numbered, such as ``Eiffel Tower#2``.
        layers: First and last layer; ``None`` for all.
        origin: ``last``: queries are the probed positions. ``later``: all positions after the span's tokens
            and outside of it.
    """

    span: str
    layers: tuple[int, int] | None = None
    origin: str = "last"

    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.span:
            raise ElimError("`knockout` names no span", "give SPAN@FIRST-LAST, such as 'France@20-29'")
        if self.origin not in ORIGINS:
            raise ElimError(f"`origin` '{self.origin}' is not valid", nearest(self.origin, ORIGINS))
        if self.layers is not None and self.layers[0] > self.layers[1]:
            first, last = self.layers
            raise ElimError(
                f"`knockout` '{self.span}@{first}-{last}': layer {first} comes after layer {last}",
                f"give {self.span}@{last}-{first}",
            )

    @classmethod
    def parse(cls, text: str, origin: str = "last") -> Knockout:
        """Read ``SPAN@20-29``, ``SPAN@20``, ``SPAN`` (all layers) or the canonical form.

        Raises:
            ElimError: No span is named, or the layers are not a range.
        """
        rest = text.removeprefix(_LEAD)
        if found := _ORIGIN.search(rest):
            rest, origin = rest[: found.start()], found[1]
        layers = None
        if tail := _TAIL.search(rest):
            rest = rest[: tail.start()]
            layers = (int(tail[1]), int(tail[2] or tail[1]))
        return cls(rest, layers, origin)

    def __str__(self) -> str:
        where = "" if self.layers is None else f"@{self.layers[0]}-{self.layers[1]}"
        return f"{_LEAD}{self.span}{where} from {self.origin}"

    @property
    def extends(self) -> bool:
        """Whether all later positions are cut off; probed positions are those of the prompt only."""
        return self.origin == "later"

    def check(self, model: Model) -> None:
        """Refuse layers that the model does not have."""
        if self.layers is not None and self.layers[1] >= model.n_layers:
            raise ElimError(
                f"`knockout` '{self.span}@{self.layers[0]}-{self.layers[1]}':"
                f" {model.name} has no layer {self.layers[1]}",
                f"its layers are 0 to {model.n_layers - 1}",
            )
        first, last = self.layers or (0, model.n_layers - 1)
        if not any(first <= layer <= last for layer in model.attending):
            raise ElimError(
                f"`knockout` '{self.span}': {model.name} has no attention weights"
                + (f" in layers {first} to {last}" if model.attending else "")
                + ", so there is no edge to cut",
                f"its layers with attention are {', '.join(map(str, model.attending))}"
                if model.attending
                else "remove the span's tokens instead, as leave-one-out of `elimtool attribute` does",
            )

    def fits(self, one: Encoded) -> None:
        """Refuse a prompt that has no such span, or only sinks in it."""
        self._keys(one)

    def edits(
        self, one: Encoded, n_layers: int, reference: ReferenceActivations | None
    ) -> list[Change | Cut]:
        """List the edges to cut, the same in every layer."""
        del reference
        keys = self._keys(one)
        span = set(self._span(one).tokens)
        if self.origin == "last":
            queries = one.positions
        else:
            queries = tuple(i for i in range(len(one.token_ids)) if i not in span)
        first, last = self.layers or (0, n_layers - 1)
        return [Cut(layer, queries, keys) for layer in range(first, last + 1)]

    def note(self, one: Encoded) -> str:
        """Name sinks that were left out of the span; say so if no probed position sees the span."""
        span = self._span(one)
        left = [] if span.name == SINK else [i for i in span.tokens if i in one.sinks]
        said = []
        if left:
            which = ", ".join(f"{i} {one.tokens[i]!r}" for i in left)
            said.append(f"the span '{span.name}' was knocked out without its attention sink ({which})")
        if self.origin == "last" and all(min(self._keys(one)) >= query for query in one.positions):
            said.append(f"no probed position comes after the span '{span.name}': there was nothing to cut")
        return "; ".join(said)

    def _keys(self, one: Encoded) -> tuple[int, ...]:
        span = self._span(one)
        keys = tuple(i for i in span.tokens if span.name == SINK or i not in one.sinks)
        if not keys:
            raise ElimError(
                f"`knockout` '{self.span}': all its tokens are attention sinks, without which a model breaks",
                f"name {SINK} to cut them off all the same, or set other `sinks`",
            )
        return keys

    def _span(self, one: Encoded) -> Span:
        exact = [span for span in one.spans if span.name == self.span]
        near = exact or [span for span in one.spans if self.span in _short(span.name)]
        if len(near) == 1:
            return near[0]
        names = tuple(span.name for span in (near or one.spans))
        if near:
            hint = "name one of: " + ", ".join(names)
            raise ElimError(f"`knockout` '{self.span}' is the name of {len(near):,} spans", hint)
        found = self.occurrence(one.text)
        if found is None:
            raise self.absent(names)
        return Span(self.span, tokens_of(*found, one.offsets))

    def occurrence(self, text: str) -> tuple[int, int] | None:
        """Find the span as a part of a text, in characters ``[start, end)``; ``None`` if it is not in it.

        Raises:
            ElimError: It occurs several times and none is chosen, or less often than its number says.
        """
        part, number = self.span, 0
        found = _words(part, text)
        if not found and (named := _OCCURRENCE.fullmatch(self.span)):
            part, number = named[1], int(named[2])
            found = _words(part, text)
        if not found:
            return None
        if number > len(found) or (len(found) > 1 and not number):
            raise ElimError(
                f"`knockout` '{self.span}': the text {part!r} occurs {len(found):,} times in the prompt",
                f"say which one, from {part}#1 to {part}#{len(found):,}",
            )
        return found[max(number, 1) - 1]

    def absent(self, names: Sequence[str]) -> ElimError:
        """Return the error for a prompt that has neither such a span nor such a text."""
        return ElimError(
            f"`knockout` '{self.span}' does not name a span of the prompt, and is not in its text",
            f"{nearest(self.span, tuple(names))}; add another with `spans` (NAME=TEXT)",
        )

    def check_prompt(self, prompt: Prompt) -> None:
        """Refuse, before a model is loaded, a prompt that cannot have such a span.

        Names of single tokens and sentences, and the texts of chats, are only known to the model.

        Raises:
            ElimError: As ``fits``.
        """
        text = prompt.text
        known = (*(span.name for span in prompt.spans), SINK, REST, PREFILL, WRITTEN)
        if text is None or self.span in known or _BY_MODEL.search(self.span) or _SPANNED.fullmatch(self.span):
            return
        if not prompt.spans and self.span in text:  # it may be a token, also one within a word
            return
        if self.occurrence(text) is None:
            raise self.absent(known)


def _words(part: str, text: str) -> list[tuple[int, int]]:
    """Find a text in another where it begins and ends with whole words."""
    # scripts from Thai on do not put spaces between words
    before = r"(?<!\w)" if part[:1].isalnum() and part[0] < UNSPACED else ""
    after = r"(?!\w)" if part[-1:].isalnum() and part[-1] < UNSPACED else ""
    return [found.span() for found in re.finditer(f"{before}{re.escape(part)}{after}", text)]


def _short(name: str) -> tuple[str, ...]:
    """Return the parts of a default span's name before and after its colon."""
    before, colon, after = name.partition(":")
    return (before, after, after.strip()) if colon else ()

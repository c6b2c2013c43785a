"""Define what a sampler stage is: parameters, and how they change the working distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError, nearest
from elimtool.numerics.transfer import sent
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.history import History
from elimtool.samplers.vocabulary import Vocabulary

if TYPE_CHECKING:
    from elimtool.samplers.ledger import Ledger

BIAS = "bias"
"""``bound_of`` of stages that a target survives with minus its margin added to its logit."""

Role = Literal["truncate", "rescale", "shift", "select", "ban", "require", "force", "combine"]

MAY_EMPTY: tuple[Role, ...] = ("ban", "require", "shift", "combine")
"""Roles of stages after which a row can be empty: those that remove tokens by their ids, and those whose new
scores can be minus infinity."""
MAY_REMOVE: tuple[Role, ...] = ("shift", "combine")
"""Roles of stages whose new scores can remove a token."""


@dataclass(frozen=True, eq=False)
class Context:
    """What a stage may use besides the distribution.

    Attributes:
        histories: One per row.
        draws: Uniform random numbers in [0, 1), one per row, or ``None`` where none were drawn.
        state: The stage's own state, one number per row, or ``None`` for a stage without state.
        again: Runs the stages before this one once more on what the chain was given, with another stage first
            and with draws of their own; ``None`` outside a chain.
        grammar: Whether the chain has a grammar.
    """

    histories: Sequence[History]
    draws: Float[Tensor, " rows"] | None = None
    state: Float64[Tensor, " rows"] | None = None
    again: Callable[[Stage], Ledger] | None = None
    grammar: bool = False


@runtime_checkable
class Detail(Protocol):
    """A remark of a stage about one token; ``str`` of it has token ids."""

    def told(self, spell: Callable[[int], str]) -> str:
        """Return the sentence, with tokens spelled by ``spell``."""


@dataclass(frozen=True, eq=False)
class Effect:
    """What a stage did.

    Attributes:
        base: The distribution in the column order that the other fields use.
        keep: Columns that stay; ``None`` where nothing is removed.
        scores: New scores; ``None`` where they stay.
        revived: New scores of the whole vocabulary, by token id, for a stage that ``revives``: it may bring
            removed tokens back. ``None`` for any other.
        keeps_order: Whether the new scores cannot reorder the tokens.
        threshold: Per row, in the stage's unit; NaN = none.
        margin: Per target, positive where it survives; NaN = null.
        active: Rows on which the stage acted; ``None`` = all.
        size: Length of the engine's array afterwards; ``None`` = the survivors.
        most: Number of columns that ``keep`` has at most in a row, if that is known without looking.
        notes: Remarks for the reader.
        details: Per row, remarks about single tokens, by token id.
        rules: Per row, the rules that removed tokens, by token id.
        other: Log-probabilities of the whole vocabulary in the row that a stage combines with its own.
        second: What the second pass did, of a stage that runs those before it once more.
    """

    base: Candidates
    keep: Bool[Tensor, "rows width"] | None = None
    scores: Float[Tensor, "rows width"] | None = None
    revived: Float[Tensor, "rows vocab"] | None = None
    keeps_order: bool = False
    threshold: Float[Tensor, " rows"] | None = None
    margin: Float[Tensor, "rows k"] | None = None
    active: Bool[Tensor, " rows"] | None = None
    size: Int[Tensor, " rows"] | None = None
    most: int | None = None
    notes: tuple[str, ...] = ()
    details: tuple[Mapping[int, Detail], ...] = ()
    rules: tuple[Mapping[int, Detail], ...] = ()
    other: Float64[Tensor, "rows vocab"] | None = None
    second: Ledger | None = None

    def without(self, empty: Bool[Tensor, " rows"]) -> Effect:
        """Take back what the stage did in some rows, in which no token was left."""
        active = torch.ones_like(empty) if self.active is None else self.active
        details = self.details
        if not self.base.masked:  # else they are taken back once they are on the host
            gone = empty.tolist()
            details = tuple({} if no else one for one, no in zip(details, gone, strict=False))
        return replace(self, base=self.base.emptied(empty), active=active & ~empty, details=details)

    def there(self) -> Effect:
        """Send what the stage knew on the host to the device of its distribution."""
        device = self.base.scores.device
        if self.active is None or self.active.device == device:
            return self
        return replace(self, active=sent(self.active, device))


@dataclass(frozen=True)
class Fate:
    """A removed token, as its stage saw it.

    Attributes:
        token: Its id.
        prob: Its probability before the stage, 0 .. 1.
        rank: Its strict rank before the stage, from 1.
        logit: Its score before the stage.
        top_prob: Probability of the best token before the stage.
        n_after: Survivors after the stage.
        threshold: The stage's threshold, NaN = none.
    """

    token: int
    prob: float
    rank: int
    logit: float
    top_prob: float
    n_after: int
    threshold: float


@dataclass(frozen=True)
class Stage(ABC):
    """One stage of a sampler chain; its fields are its parameters.

    Class attributes: ``kind`` is the name in chains, ``role`` what it does, ``main`` the parameter that
    ``kind=value`` sets, ``unit`` the unit of its threshold, ``margin_unit`` that of its margins, ``off`` the
    parameters that turn it off (``None`` = it cannot be), ``sources`` the papers and engine files that define
    it; ``revives`` whether it is shown rows in which nothing is left, and may bring removed tokens back;
    ``bound_of`` what its bounds are of: ``bias`` where a target survives with minus its margin added to its
    logit, else what the ``least`` of its rules or remarks means; ``learns_from`` says of a stage with state
    which probability of the chosen token it is told: that ``before`` or ``after`` the stage; ``on_device``
    whether it can act where the logits are, without reading numbers of theirs on the host.
    """

    kind: ClassVar[str]
    role: ClassVar[Role] = "truncate"
    main: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    margin_unit: ClassVar[str] = ""
    off: ClassVar[Mapping[str, Any] | None] = None
    sources: ClassVar[tuple[str, ...]] = ()
    revives: ClassVar[bool] = False
    bound_of: ClassVar[str] = ""
    learns_from: ClassVar[str] = "after"
    on_device: ClassVar[bool] = False

    label: str = field(default="", kw_only=True)
    """Another name for the stage, for chains that have two of a kind."""

    @property
    def name(self) -> str:
        """Name of the stage in its chain."""
        return self.label or self.kind

    def params(self) -> dict[str, Any]:
        """Return all parameters but the label, as values of JSON."""
        return dict(self._params)

    @cached_property
    def _params(self) -> dict[str, Any]:
        """The parameters, which every record of the stage has."""
        return {f.name: plain(getattr(self, f.name)) for f in parameters(type(self))}

    def is_off(self) -> bool:
        """Return whether the parameters turn the stage off: by default, whether they are those of ``off``."""
        return self.off is not None and all(getattr(self, name) == value for name, value in self.off.items())

    def acts_on_device(self) -> bool:
        """Return whether it can act on a device with these parameters."""
        return self.on_device

    @property
    def wants_text(self) -> bool:
        """Return whether it has texts that only a vocabulary turns into tokens."""
        return False

    def spelled(self, _: Vocabulary, /) -> Stage:
        """Return the stage with its texts turned into tokens."""
        return self

    @abstractmethod
    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Apply the stage, without editing the distribution."""

    def why(self, _: Fate, /) -> str:
        """Explain in one sentence why the stage removed a token."""
        return f"removed by {self.name}"

    def start(self, _: int, /) -> Float64[Tensor, " rows"] | None:
        """Return the state before the first token; ``None`` for a stage without state."""
        return None

    def accept(
        self, state: Float64[Tensor, " rows"], _: Float64[Tensor, " rows"], /
    ) -> Float64[Tensor, " rows"]:
        """State after a token was chosen that had the given probability, see ``learns_from``."""
        return state

    def number(self, name: str, low: float, high: float, ends: str = "[]") -> None:
        """Require a parameter to be a number in a range.

        Args:
            name: The parameter.
            low: Lower end.
            high: Upper end; infinity = no bound.
            ends: Which ends are allowed: ``[]``, ``(]``, ``[)`` or ``()``.

        Raises:
            ElimError: It is not in the range; the message names stage, parameter, value and range.
        """
        value = getattr(self, name)
        valid = f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}"
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise self.bad(name, valid)
        above = value >= low if ends[0] == "[" else value > low
        below = value <= high if ends[1] == "]" else value < high
        if not (above and below):
            raise self.bad(name, valid)

    def integer(self, name: str, low: int) -> None:
        """Require a parameter to be an integer of at least ``low``."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.bad(name, f"an integer of at least {low}")

    def one_of(self, name: str, choices: tuple[str, ...]) -> None:
        """Require a parameter to be one of some words."""
        value = getattr(self, name)
        if value not in choices:
            raise ElimError(f"{self.name}: {name} = {value!r} is not valid", nearest(str(value), choices))

    def boolean(self, name: str) -> None:
        """Require a parameter to be true or false."""
        if not isinstance(getattr(self, name), bool):
            raise self.bad(name, "true or false")

    def bad(self, name: str, valid: str) -> ElimError:
        """Return the error for a parameter that is not valid."""
        return ElimError(f"{self.name}: {name} must be {valid}, got {getattr(self, name)!r}")


def parameters(stage: type[Stage]) -> tuple[Field[Any], ...]:
    """List a stage's parameters: its fields but the label, and but those that do not tell stages apart."""
    return tuple(f for f in fields(stage) if f.name != "label" and f.compare)


def plain(value: Any) -> Any:
    """Convert a parameter to the types of JSON: tuples become lists, infinities text such as ``-inf``."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return [plain(v) for v in value] if isinstance(value, tuple) else value


def level(base: Candidates) -> Bool[Tensor, "rows 1"]:
    """Mark the rows whose survivors all have the same score."""
    return ((base.scores == base.top) | ~base.alive).all(-1, keepdim=True)


def leading(base: Candidates, count: int) -> Bool[Tensor, "rows width"]:
    """Return a mask of the first ``count`` columns of a sorted distribution."""
    return torch.arange(base.width, device=base.scores.device).lt(count).expand(base.scores.shape)

"""What a metric is: it names the activations it needs, reduces what it is shown, and fills tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.lenses.regime import ReferenceStatistics
from elimtool.metrics.columns import Columns
from elimtool.model.affine import Directions
from elimtool.model.view import Batch, LayerView
from elimtool.numerics.shapes import Shapes
from elimtool.samplers import Chain


@dataclass(frozen=True, slots=True)
class Followed:
    """The tokens followed at each probed row: the user's targets and foils, or the model's own leaders.

    Attributes:
        ids: Vocabulary indices, -1 where a row follows fewer tokens than others.
        is_foil: Which of them are foils.
        ambiguous: Which of them share their token with another of the same prompt.
        texts: The strings, one list a row.
        logprob: Joint log-probability of all tokens of a target (nats), NaN where it was not measured: of
            foils of several tokens, for one.
    """

    ids: Int[Tensor, "rows k"]
    is_foil: Bool[Tensor, "rows k"]
    ambiguous: Bool[Tensor, "rows k"]
    texts: Sequence[Sequence[str]]
    logprob: Float[Tensor, "rows k"]


@dataclass(frozen=True, slots=True)
class ReadoutView:
    """Some probed rows read out as distributions over the vocabulary, at every layer.

    Attributes:
        batch: The batch that the rows belong to.
        rows: ``(prompt, probe)`` indices of the rows within the batch.
        lens: Name of the lens that the layers before the last were read with.
        logits: Layer -1 (the embedding) first, the model's own output last; float32 or better. The next
            rows' logits take their place in memory.
        shapes: What each of them is like.
        output: The model's own output as log-probabilities (nats).
        followed: The tokens to follow.
        spell: Vocabulary index to text.
        directions: Vocabulary indices of some rows to how their logits depend on the last residual.
        readout: Residuals of the last layer, or carried there, to logits.
    """

    batch: Batch
    rows: tuple[Int[Tensor, "rows"], Int[Tensor, "rows"]]
    lens: str
    logits: Float[Tensor, "layers rows vocab"]
    shapes: Shapes
    output: Float[Tensor, "rows vocab"]
    followed: Followed
    spell: Callable[[int], str]
    directions: Callable[[Int[Tensor, "some k"], slice], Directions] | None = None
    readout: Callable[[Float[Tensor, "some width"]], Float[Tensor, "some vocab"]] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What metrics obey.

    Attributes:
        chains: The sampler chains to run.
        heads: Whether to keep single heads.
        tables: Tables to fill; ``None`` for all.
        reference: What text in distribution looks like to the model; ``None`` where no lens was fitted.
        compiled: Whether loops over the vocabulary may be compiled, see ``elimtool.numerics.kernels``.
        readout_bytes: Logits held at a time while residuals are read out; rows are read in chunks that fit.
        held_numbers: Numbers in one intermediate tensor at most, about; more are worked through in parts.
        kept_weights: Attention weights of a layer up to which they are kept until they are scored; more are
            formed again.
    """

    chains: tuple[Chain, ...] = ()
    heads: bool = True
    tables: frozenset[str] | None = None
    reference: ReferenceStatistics | None = None
    compiled: bool = False
    readout_bytes: int = 256 * 2**20
    held_numbers: int = 2**22
    kept_weights: int = 2**16

    def wants(self, table: str) -> bool:
        """Whether a table is to be filled."""
        return self.tables is None or table in self.tables


class Metric:
    """One family of numbers, made anew for each batch; it never changes what it is shown.

    A metric implements what it looks at, ``observe`` for layers and ``read`` for distributions over the
    vocabulary, and ``finish`` if it fills tables. Rows are read out only where a metric implements ``read``.

    Attributes:
        needs: Activations that it observes beside the residual stream, see ``Model.stream``.
        tables: Tables that it fills.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    tables: ClassVar[tuple[str, ...]] = ()

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self.batch = batch
        self.settings = settings

    def observe(self, view: LayerView) -> None:
        """Reduce one layer; called for layer -1, 0, 1, ... in order."""

    def read(self, view: ReadoutView) -> None:
        """Reduce some rows' distributions; called after the last layer, rows in order."""

    def finish(self) -> dict[str, Columns]:
        """The filled tables: columns by table name, none for a table without rows.

        Rows stand in the order prompt, position, layer, item.
        """
        return {}

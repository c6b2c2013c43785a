"""Define what a metric is: it names the activations it needs, reduces them, and fills tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.lenses.regime import ReferenceStatistics
from elimtool.metrics.columns import Categorical, Columns, join, names_at
from elimtool.model.affine import Directions
from elimtool.model.view import Batch, LayerView, Rows, Target
from elimtool.numerics.shapes import Shapes
from elimtool.numerics.transfer import Array, array, arrays, coming, memory, roomy
from elimtool.run.columns import Table
from elimtool.run.selection import PART_TOKENS
from elimtool.samplers import Chain

OtherRows = Callable[[tuple[int, ...], tuple[int, ...], Collection[str]], Mapping[str, Tensor]]
"""Returns other logits after a prompt and what was written, but for those that are named."""
READOUT_SHARE = 64
"""Share of a GPU's memory for logits that are read out; what is made of them takes several times as much."""

Indices = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Three indices for each of some things, such as row, target and foil of a pair."""


@dataclass(frozen=True)
class Followed:
    """Tokens followed at each probed row: the user's targets and foils, or the model's most probable tokens.

    Attributes:
        ids: Vocabulary indices, -1 where a row follows fewer tokens than others.
        is_foil: Which of them are foils.
        ambiguous: Which of them share their token with another of the same prompt.
        targets: What they stand for, one sequence per row.
        logprob: Joint log-probability of all tokens of a target (nats); NaN where it was not measured, as for
            foils of several tokens.
    """

    ids: Int[Tensor, "rows k"]
    is_foil: Bool[Tensor, "rows k"]
    ambiguous: Bool[Tensor, "rows k"]
    targets: Sequence[Sequence[Target]]
    logprob: Float[Tensor, "rows k"]

    @cached_property
    def here(self) -> dict[str, Array]:
        """``ids``, ``is_foil`` and ``ambiguous`` on the host."""
        return arrays({"ids": self.ids, "is_foil": self.is_foil, "ambiguous": self.ambiguous})

    @property
    def are_targets(self) -> npt.NDArray[np.bool_]:
        """Which of them are targets, [rows, k]."""
        found: npt.NDArray[np.bool_] = (self.here["ids"] >= 0) & ~self.here["is_foil"]
        return found

    @cached_property
    def pairs(self) -> Indices:
        """Row, target and foil of every pair of a target and a foil of one row, in that order."""
        foils = (self.here["ids"] >= 0) & self.here["is_foil"]
        row, target, foil = (self.are_targets[:, :, None] & foils[:, None, :]).nonzero()
        return row, target, foil

    def names(
        self, row: npt.NDArray[np.intp], k: npt.NDArray[np.intp], column: str = "target"
    ) -> dict[str, Categorical]:
        """Return columns ``target`` and ``target_token`` for the tokens at indices ``row`` and ``k``."""
        return {
            column: self.told(lambda one: one.text, row, k),
            f"{column}_token": self.told(lambda one: one.token, row, k),
        }

    def told(
        self, what: Callable[[Target], str | None], row: npt.NDArray[np.intp], k: npt.NDArray[np.intp]
    ) -> Categorical:
        """Return a text of the targets at indices ``row`` and ``k``."""
        return names_at([[what(one) for one in some] for some in self.targets], row, k)


@dataclass(frozen=True)
class ReadoutView:
    """Some probed rows read out as distributions over the vocabulary, at every layer.

    Attributes:
        batch: The batch that the rows belong to.
        rows: ``(prompt, probe)`` indices of the rows within the batch.
        lens: Name of the lens used for the layers before the last.
        logits: Layer -1 (the embedding) first, the model's own output last; float32 or better. Valid
            only during the call: the next rows' logits overwrite them.
        shapes: Statistics of each distribution.
        output: The model's own output as log-probabilities (nats).
        followed: The tokens to follow.
        spell: Converts a vocabulary index to text.
        directions: Returns how the logits of vocabulary indices of some rows depend on the last residual.
        cosines: Returns the cosine of each residual after the final norm with every row of the unembedding;
            ``None`` where nobody asks for it.
    """

    batch: Batch
    rows: Rows
    lens: str
    logits: Float[Tensor, "layers rows vocab"]
    shapes: Shapes
    output: Float[Tensor, "rows vocab"]
    followed: Followed
    spell: Callable[[int], str]
    directions: Callable[[Int[Tensor, "some k"], slice], Directions] | None = None
    cosines: Callable[[], Float[Tensor, "layers rows vocab"]] | None = None

    @property
    def facts(self) -> RowFacts:
        """What may be kept of it."""
        return RowFacts(self.rows, self.lens, self.followed, self.spell)

    @cached_property
    def shared(self) -> dict[Any, Any]:
        """What metrics have worked out of these rows for each other."""
        return {}

    @cached_property
    def here(self) -> Float[Tensor, "rows vocab"]:
        """The model's own logits on the host."""
        return torch.from_numpy(array(self.logits[-1]))


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What stays known of rows that were read out when their logits are gone; see ``ReadoutView``."""

    rows: Rows
    lens: str
    followed: Followed
    spell: Callable[[int], str]


Here = Mapping[Any, Array]
"""Tensors by name, on the host."""


class _Brought(NamedTuple):
    """Tensors of a metric that come to the host, and what makes columns by table of them."""

    tensors: Mapping[Any, Tensor]
    columns: Callable[[Here], Mapping[str, Columns]]


@dataclass(frozen=True, slots=True)
class Concept:
    """A named set of tokens, and sets that are as frequent.

    Attributes:
        name: What it is called.
        ids: Its tokens.
        controls: Sets of as many tokens; none where frequencies are not known.
    """

    name: str
    ids: tuple[int, ...]
    controls: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings shared by the metrics of a run.

    Attributes:
        chains: The sampler chains to run.
        heads: Whether to report single heads.
        longest: Most tokens of a prompt of which what each adds to the stream is formed; ``None`` for no
            limit.
        dropping: Whether to count the neurons that can be dropped.
        depth: Number of the model's layers; 0 where it is not known.
        tables: Tables to fill; ``None`` for all.
        reference: Statistics of the model on reference text; ``None`` where no lens was fitted.
        compiled: Whether compiled loops over the vocabulary may be used, see ``elimtool.numerics.kernels``.
        readout_bytes: Bytes of logits held at a time while residuals are read out, in chunks of rows.
        held_numbers: About the most numbers in one intermediate tensor; more are processed in parts.
        kept_weights: Most attention weights of a layer that are kept until they are scored; more are
            computed again.
        attention_of: (layer, head) of the heads whose attention weights are kept.
        brought: Metrics of plugins.
        concepts: Sets of tokens that are followed in every prompt.
        against: Returns other logits, which stages combine, after a prompt and what was written; ``None``
            where no stage needs any.
    """

    chains: tuple[Chain, ...] = ()
    heads: bool = True
    tables: frozenset[str] | None = None
    reference: ReferenceStatistics | None = None
    compiled: bool = False
    readout_bytes: int = 256 * 2**20
    held_numbers: int = 2**22
    kept_weights: int = 2**16
    attention_of: tuple[tuple[int, int], ...] = ()
    longest: int | None = PART_TOKENS
    dropping: bool = True
    depth: int = 0
    brought: tuple[type[Metric], ...] = ()
    concepts: tuple[Concept, ...] = ()
    output_only: bool = False
    against: OtherRows | None = None

    def on(self, device: torch.device) -> Settings:
        """Return the settings with the limits of memory that suit a device."""
        held, kept = (roomy(one, device) for one in (self.held_numbers, self.kept_weights))
        if held == self.held_numbers:
            return self
        # each part that rows are read out in waits anew; of the memory that is free runs would depend
        logits = max(self.readout_bytes, memory(device) // READOUT_SHARE)
        return replace(self, held_numbers=held, kept_weights=kept, readout_bytes=logits)

    def wants(self, table: str) -> bool:
        """Return whether to fill a table."""
        return self.tables is None or table in self.tables

    def wants_any(self, tables: Sequence[str]) -> bool:
        """Return whether to fill any of some tables."""
        return any(map(self.wants, tables))


class Metric:
    """One family of numbers, created anew for each batch; it never changes what it is given.

    A metric implements ``observe`` to see layers and ``read`` to see distributions over the vocabulary; rows
    are read out only where a metric implements ``read``. Both only ask the model's device for numbers:
    ``bring`` says which of them come to the host when the pass has been asked for, and what is made of them
    then, while the next pass may run. What is kept until then must be small.

    Attributes:
        needs: Activations that it observes besides the residual stream, see ``Model.stream``.
        tables: Tables that it fills.
        defines: Of a plugin: the definitions of these tables, without the column ``intervention``, which
            every row gets. The first has the metric's name, others begin with it and an underscore.
    """

    needs: frozenset[str] = frozenset()
    tables: ClassVar[tuple[str, ...]] = ()
    defines: ClassVar[tuple[Table, ...]] = ()
    _arrived: Callable[[], Here] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "defines" in vars(cls) and "tables" not in vars(cls):
            cls.tables = tuple(getattr(table, "name", "") for table in cls.defines)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self.batch = batch
        self.settings = settings

    @cached_property  # not set in __init__, which metrics without tables may replace
    def filled(self) -> dict[str, list[Columns]]:
        """Columns of each table, in parts, for the default ``finish``."""
        return {table: [] for table in self.tables}

    def observe(self, view: LayerView) -> None:
        """Reduce one layer; called for layers -1, 0, 1, ... in order."""

    def more_residuals(self) -> Float[Tensor, "some width"] | None:
        """Return more residuals of the last layer to read out; ``None`` for none."""
        return None

    def read_more(self, logits: Float[Tensor, "some vocab"]) -> None:
        """Reduce logits of what ``more_residuals`` returned, in order, before the first ``read``.

        Args:
            logits: Of the next residuals; valid only during the call.
        """

    def read(self, view: ReadoutView) -> None:
        """Reduce the distributions of some rows; called after the last layer, rows in order."""

    def end(self) -> None:
        """Ask for what is left to ask for, and let go of activations; called after the last ``read``."""

    def bring(self, tensors: Mapping[Any, Tensor], columns: Callable[[Here], Mapping[str, Columns]]) -> None:
        """Have tensors brought to the host, and made into columns of tables there.

        Args:
            tensors: Tensors by name.
            columns: Makes columns by table; it must not hold on to activations or logits.
        """
        self._brought.append(_Brought(tensors, columns))

    @cached_property
    def _brought(self) -> list[_Brought]:
        return []

    def _asked_for(self) -> dict[tuple[int, Any], Tensor]:
        self.end()
        return {(at, name): one for at, (some, _) in enumerate(self._brought) for name, one in some.items()}

    def finish(self) -> dict[str, Columns]:
        """Return columns by table name, none for a table without rows.

        Rows are in the order prompt, position, layer, item.
        """
        found = arrays(self._asked_for()) if self._arrived is None else self._arrived()
        for at, (tensors, columns) in enumerate(self._brought):
            for table, one in columns({name: found[at, name] for name in tensors}).items():
                self.filled[table].append(one)
        return {table: join(parts) for table, parts in self.filled.items()}


def bring_together(metrics: Sequence[Metric]) -> None:
    """End metrics, and start to bring to the host what they ask for, in one transfer."""
    asked = [metric._asked_for() for metric in metrics]
    every = coming({(own, key): one for own, some in enumerate(asked) for key, one in some.items()})
    once = cache(every)
    for own, (metric, some) in enumerate(zip(metrics, asked, strict=True)):
        metric._arrived = lambda own=own, keys=tuple(some): {key: once()[own, key] for key in keys}

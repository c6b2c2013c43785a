"""Keep the model's output of a traced prompt, and run other sampler chains over it without a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from elimtool.engine.chains import chain_for, refuse_confusable
from elimtool.engine.forward import Extra
from elimtool.engine.records import arrow_table
from elimtool.engine.session import Session
from elimtool.metrics.contrasts import Contrasts
from elimtool.metrics.metric import Metric, ReadoutView, Settings
from elimtool.metrics.sampling import SamplerLedger
from elimtool.model.view import Batch, LayerView
from elimtool.run.reader import Run
from elimtool.samplers import Chain
from elimtool.tasks.trace import judge

CHAINED = frozenset((*SamplerLedger.tables, "contrast_stages"))
"""Tables that depend on the sampler chains, and on no layer before the last."""


class Cancelled(Exception):
    """The page does not wait for the answer any more."""


@dataclass
class Kept:
    """The rows of the output at the probed positions of each pass, in the order in which they were read out.

    Attributes:
        stop: PageState at each layer whether to go on; raises ``Cancelled`` where not.
        views: By the interventions of the pass (``None`` for none): what a metric of the ledger reads, with
            the last layer's logits alone.
    """

    stop: Callable[[], None]
    views: dict[str | None, list[ReadoutView]] = field(default_factory=dict)

    def of_pass(self, intervention: str | None) -> Extra:
        """Return what makes the metric that fills it in a pass."""
        return lambda batch, settings: _Keeper(batch, settings, self, intervention)

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        every = [one for views in self.views.values() for one in views]
        return sum(one.logits.nbytes + one.output.nbytes for one in every)


class _Keeper(Metric):
    """Copies the output of every probed row, and ends a pass that nobody waits for."""

    def __init__(self, batch: Batch, settings: Settings, kept: Kept, intervention: str | None) -> None:
        super().__init__(batch, settings)
        self._kept = kept
        self._views = kept.views[intervention] = []

    def observe(self, view: LayerView) -> None:
        """Ask whether to go on."""
        del view
        self._kept.stop()

    def read(self, view: ReadoutView) -> None:
        """Copy the last layer, as the next rows overwrite it."""
        rows = view.logits.shape[1]
        maxima = view.shapes.maxima
        shapes = view.shapes if maxima is None else replace(view.shapes, maxima=maxima[-rows:].copy())
        last = view.logits[-1:].clone()
        self._views.append(replace(view, logits=last, output=view.output.clone(), shapes=shapes))


def rerun(session: Session, run: Run, kept: Kept, samplers: tuple[str, ...]) -> tuple[Run, tuple[Chain, ...]]:
    """Run other chains over the output that a run's prompt had; return the run judged anew, and the chains.

    Args:
        session: What the run was measured with.
        run: The run.
        kept: Its output.
        samplers: The chains.

    Raises:
        ElimError: A chain cannot be resolved.
    """
    options = replace(session.options, samplers=samplers)
    chains = tuple(chain_for(session.model, one, options.model_sampling) for one in samplers)
    refuse_confusable(chains)
    names = CHAINED & session.measured
    settings = replace(session.settings, chains=chains, tables=names)
    filled: dict[str, list[pa.Table]] = {}
    for intervention, views in kept.views.items():
        for metric in (SamplerLedger(views[0].batch, settings), Contrasts(views[0].batch, settings)):
            for view in views:
                metric.read(view)
            for name, columns in metric.finish().items():
                if columns:
                    filled.setdefault(name, []).append(arrow_table(name, columns, intervention))
    tables = {name: run.arrow(name) for name in run.tables if name not in names}
    tables |= {name: run.arrow(name).slice(0, 0) for name in run.tables if name in names}
    tables |= {name: pa.concat_tables(parts) for name, parts in filled.items()}
    told: dict[str, Any] = {
        "chains": [one.describe() for one in chains],
        "config": _with_samplers(run, samplers),
    }
    manifest = run.manifest.model_copy(update=told)
    return judge(session, Run.from_tables(manifest, tables), ()).only(session.kept), chains


def _with_samplers(run: Run, samplers: tuple[str, ...]) -> Any:
    config = run.manifest.config
    return {**config, "samplers": list(samplers)} if isinstance(config, dict) else config

"""Keep the model's output of a traced prompt, and run other sampler chains over it without a pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from elimtool.engine.against import After, Ids, other_rows
from elimtool.engine.chains import chain_for, refuse_confusable
from elimtool.engine.forward import Extra
from elimtool.engine.options import TraceOptions
from elimtool.engine.records import arrow_table
from elimtool.engine.session import Session
from elimtool.metrics.contrasts import Contrasts
from elimtool.metrics.metric import Metric, ReadoutView, Settings
from elimtool.metrics.sampling import SamplerLedger
from elimtool.model.view import Batch, LayerView
from elimtool.run.reader import Run
from elimtool.samplers.combine import LAYERS, needed_rows
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
            the last layer's logits alone, unless chains combine those of several.
    """

    stop: Callable[[], None]
    views: dict[str | None, list[ReadoutView]] = field(default_factory=dict)

    def of_pass(self, intervention: str | None) -> Extra:
        """Return what makes the metric that fills it in a pass."""
        return lambda batch, settings: _Keeper(batch, settings, self, intervention)

    @property
    def layers(self) -> bool:
        """Whether the logits of all layers are kept."""
        return all(len(one.logits) > 1 for views in self.views.values() for one in views)

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
        every = LAYERS in needed_rows(stage for chain in self.settings.chains for stage in chain.stages)
        logits = view.logits.clone() if every else view.logits[-1:].clone()
        self._views.append(replace(view, logits=logits, output=view.output.clone(), shapes=shapes))


def watched(rows: After | None, length: int, say: Callable[[str], None], stop: Callable[[], None]) -> After:
    """Tell how far a text is, and ask whether to go on, where a chain looks for the logits beside its own.

    It does so before each token that is written, whether it combines any or not.

    Args:
        rows: Reads these logits; ``None`` for none.
        length: Tokens to write; 0 for none.
        say: Called with how far it is.
        stop: Raises ``Cancelled`` where nobody waits.
    """

    def read(prompt: Ids, written: Ids, known: Collection[str]) -> Mapping[str, Any]:
        stop()
        if len(written) < length:
            say(f"writing token {len(written) + 1:,} of {length}")
        return {} if rows is None else rows(prompt, written, known)

    return read


def rerun(session: Session, run: Run, kept: Kept, options: TraceOptions) -> tuple[Run, Settings]:
    """Run other chains over the output that a run's prompt had; return the run judged anew, and its settings.

    Args:
        session: What the run was measured with.
        run: The run.
        kept: Its output.
        options: Those of the run but for chains and their grammar.

    Raises:
        ElimError: A chain cannot be resolved.
    """
    options = replace(session.options, samplers=options.samplers, grammar=options.grammar)
    chains = tuple(
        chain_for(session.model, one, options.model_sampling, options.grammar) for one in options.samplers
    )
    refuse_confusable(chains)
    needed = needed_rows(stage for chain in chains for stage in chain.stages)
    beside = other_rows(session.model, session.lens, needed, options.against, session.amateur)
    whole = replace(session.settings, chains=chains, against=beside)
    names = CHAINED & session.measured
    settings = replace(whole, tables=names)
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
        "config": _with_samplers(run, options),
    }
    manifest = run.manifest.model_copy(update=told)
    return judge(session, Run.from_tables(manifest, tables), ()).only(session.kept), whole


def _with_samplers(run: Run, options: TraceOptions) -> Any:
    config = run.manifest.config
    stated = {name: one for name, one in options.stated().items() if name in ("samplers", "grammar")}
    plain = json.loads(json.dumps(stated))
    return {**config, **plain} if isinstance(config, dict) else config

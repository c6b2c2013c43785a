"""Run one forward pass: stream layers past the metrics, read residuals out, fill tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.engine.follow import Leaders, follow
from elimtool.engine.plugins import filled_by, guarded
from elimtool.engine.records import arrow_table
from elimtool.lenses.lens import Lens
from elimtool.metrics import METRICS
from elimtool.metrics.metric import Followed, Metric, ReadoutView, Settings, bring_together
from elimtool.model.interventions import label
from elimtool.model.lock import exclusive
from elimtool.model.memory import LogitRoom, collecting_later, returning_large
from elimtool.model.model import Model
from elimtool.model.view import Batch, Encoded, LayerView, Rows
from elimtool.numerics.shapes import shapes
from elimtool.run.selection import WALKED

ASKED_BYTES = 64 * 2**20
"""Logits of what metrics ask for that are held at a time."""

Extra = Callable[[Batch, Settings], Metric]
"""Makes a metric for one pass, beside those of ``METRICS``."""


@dataclass(frozen=True)
class Pending:
    """A forward pass of which everything has been asked for, and small results are on their way to the host.

    Attributes:
        metrics: Its metrics, those of plugins with the class that they were made of.
        settings: Settings shared by them.
        batch: What ran.
        intervention: The interventions of the pass; ``None`` for none.
    """

    metrics: Sequence[tuple[Metric, type[Metric] | None]]
    settings: Settings
    batch: Batch
    intervention: str | None

    @collecting_later()
    def tables(self) -> dict[str, pa.Table]:
        """Wait for the results, and fill the tables that ``settings`` wants; called once."""
        filled: dict[str, pa.Table] = {}
        for metric, brought in self.metrics:
            found = metric.finish()
            if brought is not None:
                tables = filled_by(brought, found, self.batch, self.intervention)
                filled |= {name: table for name, table in tables.items() if self.settings.wants(name)}
                continue
            for name, columns in found.items():
                if columns and self.settings.wants(name):
                    filled[name] = arrow_table(name, columns, self.intervention)
        return filled


@collecting_later()
@exclusive
def launch(
    model: Model,
    encoded: Sequence[Encoded],
    settings: Settings,
    lens: Lens,
    leaders: Leaders | None = None,
    extra: Sequence[Extra] = (),
    before: bool = False,
    room: LogitRoom | None = None,
) -> Pending:
    """Ask for one forward pass over some prompts, and for all that ``settings`` wants of it.

    On a GPU it may still run when this returns: the next pass can be asked for before the tables are filled.

    Args:
        model: The model, under interventions or not.
        encoded: The prompts.
        settings: Settings shared by the metrics.
        lens: How to read out layers before the last.
        leaders: Tokens that an earlier pass followed, see ``elimtool.engine.follow.follow``.
        extra: Metrics of the caller, which fill no table.
        before: Whether the metrics see all positions before the probed ones too.
        room: Memory that a pass before has used; ``None`` for new memory.
    """
    batch, settings = Batch.of(encoded, model.device, before), settings.on(model.device)
    own = (METRICS[name] for name in METRICS.own)
    metrics = [made(batch, settings) for made in own if settings.wants_any(made.tables)]
    metrics += [make(batch, settings) for make in extra]
    # last, so that what they do to what they are shown reaches no other metric
    brought = {
        guarded(made)(batch, settings): made for made in settings.brought if settings.wants_any(made.tables)
    }
    metrics += brought
    if not metrics:
        return Pending((), settings, batch, None)
    needs = frozenset[str]().union(*(metric.needs for metric in metrics))
    kept: list[Tensor] = []
    reading = [one for one in metrics if type(one).read is not Metric.read]

    def observe(view: LayerView) -> None:
        if settings.output_only:
            kept.clear()
        rows = batch.real(view.residual)
        kept.append(rows.clone() if brought or extra else rows)  # which code of others may edit
        for metric in metrics:
            metric.observe(view)

    with returning_large(max(len(one.token_ids) for one in encoded)):
        model.stream(batch, needs, observe)
    if reading:
        with torch.inference_mode():
            _read_out(model, batch, torch.stack(kept), lens, metrics, settings, leaders, room or LogitRoom())
    bring_together(metrics)
    return Pending([(one, brought.get(one)) for one in metrics], settings, batch, label(model.interventions))


def _read_out(
    model: Model,
    batch: Batch,
    residuals: Float[Tensor, "layers rows width"],
    lens: Lens,
    metrics: Sequence[Metric],
    settings: Settings,
    leaders: Leaders | None,
    room: LogitRoom,
) -> None:
    """Read the probed residuals out in chunks of rows, all layers of a row at once, and what metrics ask for.

    Layers may be the last alone, see ``Settings.output_only``.
    Each chunk's logits overwrite those of the last, so a metric must not keep what it was shown.
    """
    asked = _asked(metrics, ASKED_BYTES // (model.vocab * 4))
    n_layers, n_rows, _ = residuals.shape  # layer -1 is the first, or the output alone is there
    chunk = max(1, settings.readout_bytes // (n_layers * model.vocab * 4))  # 4 bytes: float32
    into = None
    if model.dtype == torch.float32 and model.device.type == "cpu":
        most = n_layers * min(chunk, n_rows) + sum(len(some) for _, some in asked[:1])
        into = room.rows(most, model.vocab)
    for start in range(0, n_rows, chunk):
        part = residuals[:, start : start + chunk]
        carried = [lens.to_final(part[i], i - 1) for i in range(n_layers - 1)]
        more = [some for _, some in asked[:1]]
        # all layers in one product: the unembedding is read from memory once, not once a layer
        final = torch.cat([*carried, part[-1]])
        read = model.readout(torch.cat([final, *more]), into)
        logits = read[: part.shape[:2].numel()].reshape(n_layers, -1, read.shape[-1])
        for index, (metric, some) in enumerate(asked):
            metric.read_more(model.readout(some) if index else read[-len(some) :])
        asked = []  # told before the first rows are read
        rows = batch.rows.part(slice(start, start + chunk))
        view = _view(model, batch, rows, logits, lens.name, final, settings, leaders)
        for metric in metrics:
            metric.read(view)


def _view(
    model: Model,
    batch: Batch,
    rows: Rows,
    logits: Float[Tensor, "layers rows vocab"],
    lens: str,
    residuals: Float[Tensor, "all width"],
    settings: Settings,
    leaders: Leaders | None,
) -> ReadoutView:
    shape, output = shapes(logits, settings.compiled), torch.log_softmax(logits[-1], -1)
    joint = settings.wants("survival")  # the only table with joint log-probabilities
    final = residuals[-len(output) :]
    followed: Followed = follow(model, batch, rows, output, shape.top, leaders, joint=joint)
    return ReadoutView(
        batch,
        rows,
        lens,
        logits,
        shape,
        output,
        followed,
        lambda token: model.tokenizer.texts([token])[0],
        lambda tokens, some: model.directions(final[some], tokens, logits[-1, some]),
        (lambda: model.cosines(residuals).view_as(logits)) if settings.wants_any(sorted(WALKED)) else None,
    )


def _asked(metrics: Sequence[Metric], most: int) -> list[tuple[Metric, Float[Tensor, "some width"]]]:
    """List what metrics ask to be read out, in pieces of at most so many rows; the first goes with others."""
    found = [(metric, some) for metric in metrics if (some := metric.more_residuals()) is not None]
    return [
        (metric, piece) for metric, some in found for piece in torch.split(some, max(1, most)) if len(piece)
    ]

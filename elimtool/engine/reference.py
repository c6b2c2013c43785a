"""Record how a model's components act on the package's own text, once, and keep it in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.lenses.corpus import Document, shipped
from elimtool.lenses.stream import Ids, cut_windows, encoded_window, text_sha256
from elimtool.model import atomic, store
from elimtool.model.atomic import Progress, in_tenths
from elimtool.model.interventions.edits import Site
from elimtool.model.interventions.recording import dtype_name, shown
from elimtool.model.interventions.reference import ReferenceActivations
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.view import Batch

REFERENCE_VERSION = 1
"""Raised when the text or what is kept of it changes, so that older cached files are not used."""

TOKENS = 4096
"""Tokens of reference text: enough to know a mean to a few hundredths of the values' spread."""

WINDOW = 128
SAMPLES = 64
"""Positions whose activations are kept for resample ablation."""

AT_ONCE = 4
"""Windows in one forward pass."""


def cached_reference(model: Model) -> Path:
    """Name the cache file of a model's reference activations; dtypes and devices differ in their rounding."""
    weights = model.hashes()["weights_sha256"][:32]
    name = f"{weights}-{dtype_name(model.dtype)}-{model.device.type}-v{REFERENCE_VERSION}.safetensors"
    return store.cache_dir() / "reference" / name


def ensure_reference(model: Model, progress: Progress | None = None) -> ReferenceActivations:
    """Read the model's activations on reference text from the cache, or measure and cache them.

    As ``elimtool.model.atomic.kept`` does: once, and anew if the file is damaged.

    Raises:
        ElimError: The cache cannot be written, or the model cannot be run on the text.
    """
    path = cached_reference(model)
    return atomic.kept(
        path,
        lambda known: ReferenceActivations.load(known, model.device),
        lambda: measure_reference(model, progress=progress).save(path),
        progress,
    )


def reference_windows(model: Model, documents: Sequence[Document] | None = None) -> list[Ids]:
    """Cut ``TOKENS`` tokens of the package's fit text into windows, spread over its documents."""
    documents = shipped("fit") if documents is None else documents
    window = min(WINDOW, model.context or WINDOW)
    count = -(-TOKENS // window)
    step = max(1, len(documents) // count)
    chosen: list[Ids] = []
    for document in documents[::step]:
        try:
            chosen += cut_windows(model, [document], window, window)
        except ElimError:  # the document is too short for a window
            continue
        if len(chosen) == count:
            break
    return chosen


@exclusive
def measure_reference(
    model: Model, documents: Sequence[Document] | None = None, progress: Progress | None = None
) -> ReferenceActivations:
    """Run reference text through a model and keep mean and samples of every head and MLP.

    Leaves out each window's first position, an attention sink: components act differently there.

    Args:
        model: The model, without interventions.
        documents: The text; by default the package's fit text.
        progress: Called with the share done.
    """
    windows = reference_windows(model, documents)
    total = sum(len(ids) - 1 for ids in windows)
    tally = _Tally(total)
    tell = in_tenths(progress, f"reading reference text with {model.name}")
    sites = [site for site in shown(model) if site.kind != "residual"]
    for first in range(0, len(windows), AT_ONCE):
        batch = Batch.of([encoded_window(ids) for ids in windows[first : first + AT_ONCE]], model.device)
        with model.watching(batch, sites, partial(tally.add, batch)):
            model.stream(batch, (), lambda _view: None)
        tally.done += len(batch.rows[0])
        tell(tally.done / total)
    facts = {
        "weights_sha256": model.hashes()["weights_sha256"],
        "dtype": dtype_name(model.dtype),
        "text_sha256": text_sha256(windows),
        "tokens": str(total),
    }
    means = {site: (value / total).float() for site, value in tally.sums.items()}
    samples = {site: torch.cat(rows) for site, rows in tally.drawn.items()}
    return ReferenceActivations(model.n_heads, means, samples, facts)


class _Tally:
    """Sums of every site's values over ``total`` positions, and the values at a random few of them."""

    def __init__(self, total: int) -> None:
        self.done = 0
        self.sums: dict[Site, Tensor] = {}
        self.drawn: dict[Site, list[Tensor]] = {}
        order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
        self.picked = order[:SAMPLES].sort().values

    def add(self, batch: Batch, site: Site, value: Tensor) -> None:
        """Add one site's values in one batch: [batch, keys, width]."""
        batch = batch.on(value.device)
        prompt, probe = batch.rows
        rows = value[prompt, batch.positions[prompt, probe]]
        added = rows.sum(0, dtype=torch.float64)  # thousands of rows of a half-precision model
        self.sums[site] = self.sums[site] + added if site in self.sums else added
        here = self.picked[(self.picked >= self.done) & (self.picked < self.done + len(rows))] - self.done
        self.drawn.setdefault(site, []).append(rows[here.to(rows.device)].float())

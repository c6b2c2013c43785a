"""Map a model: measure what it does on text and probes, and make the findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from elimtool.analysis.map.api import find_map
from elimtool.model.model import Model
from elimtool.model.wrapping import Bridge, takes_bridges
from elimtool.run.analysis import Analysis
from elimtool.run.reader import open_run
from elimtool.tasks.batch.local import LocalEngine
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.run import BatchProgress, run
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.labels import Labels
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.units import MapSource
from elimtool.tasks.map.work import MapWorker

SHARD_SIZE = 8
"""Passages and probes of a shard: what an interrupted map may lose."""


@takes_bridges
def map_model(
    model: Model | Bridge,
    *,
    out: str | Path | None = None,
    only: Sequence[str] | None = None,
    corpus: str | Path | None = None,
    passages: int = 32,
    tokens: int = 128,
    labels: str | Path | None = None,
    tagger: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Analysis:
    """Map what the heads, neurons and layers of a model do, over text and probes.

    Args:
        model: From ``load_model`` or ``wrap``, or a ``TransformerBridge``.
        out: Directory for the map, new or to go on with; ``None`` does not keep it.
        only: Parts to make, such as ``roles``; ``None`` for all.
        corpus: JSONL file of passages; ``None`` for the package's own held-out text.
        passages: Most passages that are read, 12 or more.
        tokens: Tokens of each passage; shorter passages are left out.
        labels: JSONL file of labels of the passages' tokens, see ``Labels.of``, in place of categories that
            are made of how tokens are written.
        tagger: ``spacy:MODEL``, whose parts of speech are taken instead.
        overwrite: Replace a map in ``out``.
        progress: Called with a line of text: how far it is.

    Returns:
        The findings: ``found.table("head_roles")`` and the others of docs/tables.md; parts that were left out
        have no rows.

    Raises:
        ElimError: An option, the corpus or the directory cannot be used, or the disk is full.
    """
    assert isinstance(model, Model)
    text = Corpus.of(corpus)
    labelled = Labels.of(text, labels, tagger)
    options = MapOptions.of(only, passages=passages, tokens=tokens, categories=labelled.categories)
    source = MapSource(model, text, options, labelled)
    how = BatchOptions(shard_size=SHARD_SIZE)

    def told(standing: BatchProgress) -> None:
        if progress is not None:
            progress(f"mapping: {standing.prompts:,} of {standing.total:,} passages and probes")

    with TemporaryDirectory(prefix="elimtool-") as temporary:
        place = Path(temporary) / "map" if out is None else Path(out)
        engine = LocalEngine(model, options, how, make=MapWorker)
        run(source, place, engine, how, overwrite=overwrite, report=told)
        found = find_map(open_run(place))
        if out is not None:
            found.save(place)
        return found

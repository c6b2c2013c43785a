"""Store and read what was measured: schemas, manifest, writer and reader of a run, all without torch."""

from elimtool.run.reader import Run, open_run

__all__ = ["Run", "open_run"]

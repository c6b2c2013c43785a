"""Keep what was measured: the schemas, writer, reader and manifest of a run, all without torch."""

from elimtool.run.reader import Run, open_run

__all__ = ["Run", "open_run"]

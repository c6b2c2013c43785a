"""The run directory: schemas, writer, reader, manifest. Imports neither torch nor a model."""

from elimtool.run.reader import Run, open_run

__all__ = ["Run", "open_run"]

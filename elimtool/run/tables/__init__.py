"""The tables of a run, one file per family."""

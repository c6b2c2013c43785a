"""Judge a run by a check file: choose rows, read values, compare with bounds and a baseline."""

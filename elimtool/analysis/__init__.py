"""Judge tables: verdicts, effects, checks and comparisons, worked out without a model and without torch."""

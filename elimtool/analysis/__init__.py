"""Draw conclusions from tables, without a model or torch: verdicts, effects, checks and comparisons."""

"""Run models for comparisons, and measure what the tables of their runs do not hold."""

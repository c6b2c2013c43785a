"""Figures of comparisons: where the two sides differ, as plain data."""

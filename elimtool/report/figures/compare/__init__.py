"""Figures of comparisons: what the two sides do differently, as plain data."""

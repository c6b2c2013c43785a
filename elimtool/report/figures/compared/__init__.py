"""Figures of comparisons: the tables of a ``Comparison`` in, what the two sides do differently out."""

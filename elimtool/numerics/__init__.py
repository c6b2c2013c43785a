"""Compute with tensors: distributions, ranks, shapes of distributions, compiled loops for large jobs."""

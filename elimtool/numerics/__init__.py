"""Compute with tensors: distributions, ranks, statistics of distributions, compiled loops for large jobs."""

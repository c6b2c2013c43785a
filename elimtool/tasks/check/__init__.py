"""Runs a model as a check file asks, judges it, and measures the noise of its numbers."""

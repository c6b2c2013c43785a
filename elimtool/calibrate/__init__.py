"""Fits lenses to a model from a stream of text, measures them, and finds the one that fits a model."""

"""Measure a model on prompts: options, forward passes, and the loop that fills the tables of a run."""

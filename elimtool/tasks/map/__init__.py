"""Run text and probes through a model, and sum up what each part of a map reads there."""

"""Run a model for a check file, judge it, and measure the noise floor of its numbers."""

"""Estimate differences over templates and words, with intervals, tests and corrections for many tests."""

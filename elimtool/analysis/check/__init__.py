"""Checks: a check file, a run and a baseline in, a report of what regressed out."""

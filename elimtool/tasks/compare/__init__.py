"""Runs models for comparisons: both sides of one, and what the tables of a run do not hold."""

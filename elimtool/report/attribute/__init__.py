"""The terminal story of ``elimtool attribute``."""

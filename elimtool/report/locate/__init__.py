"""The story of ``elimtool locate``."""

"""The terminal stories of ``elimtool compare``."""

"""Compare two sides by their tables: what differs, where, and how certain that is."""

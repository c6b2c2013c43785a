"""Compare two sides by their tables: what differs, where, and how sure that is."""

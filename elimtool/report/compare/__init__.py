"""The terminal stories of a comparison: its tables in, lines out that read without colour."""

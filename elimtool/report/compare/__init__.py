"""The terminal stories of a comparison: lines that read without colour."""

"""Audit: how far apart groups are, at each stage from attention to verdict."""

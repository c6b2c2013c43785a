"""Comparisons: tables of two sides in, what differs between them out."""

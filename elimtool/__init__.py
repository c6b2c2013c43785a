"""elimtool: what a language model eliminated, where, by which component, and by how much."""

__version__ = "0.1.0"

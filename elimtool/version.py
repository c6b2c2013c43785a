"""The version of elimtool, for whatever records what made it; rooms read it here, not from the package."""

__version__ = "0.1.0"

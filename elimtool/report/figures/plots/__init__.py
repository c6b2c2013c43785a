"""Draw each kind of figure with matplotlib."""

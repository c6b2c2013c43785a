"""Tell and draw what a map of a model found."""

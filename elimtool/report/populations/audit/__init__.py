"""Tell and draw differences between groups."""

"""Tell and draw what a sweep found."""

"""Show what queries over many runs found."""

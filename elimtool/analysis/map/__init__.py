"""Make the findings of a map of what its passages and probes add up to."""

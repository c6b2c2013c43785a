"""Find what a model gets right, what chains leave of right answers, and whether its doubt is preserved."""

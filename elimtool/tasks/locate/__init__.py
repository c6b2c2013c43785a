"""Where what decides between two continuations sits: activation patching of one prompt by another."""

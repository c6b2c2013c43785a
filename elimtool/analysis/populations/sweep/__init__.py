"""Compare variants of prompts: wordings, seeds, runs, scored on the same items."""

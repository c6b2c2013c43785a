"""Read suites: templates with groups of words, minimal pairs, published data sets, as records of prompts."""

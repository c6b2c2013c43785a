"""Describe what is asked of a model: prompts and their spans, read from code or from prompt files."""

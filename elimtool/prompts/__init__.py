"""Describe what a user asks about: prompts and their spans, given in code or in prompt files."""

"""Describe what every command prints with ``--json``, as JSON Schema made from the types that it prints."""

"""Tell and draw what commands on populations found; a line in ``sections.py`` for each."""

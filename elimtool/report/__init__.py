"""Show tables to people: stories for the terminal, one HTML page, figures for print."""

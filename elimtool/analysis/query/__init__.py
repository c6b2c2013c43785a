"""Ask questions of many finished runs: SQL over their tables, and the history of one number."""

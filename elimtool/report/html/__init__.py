"""The HTML page of a run: tables in, one self-contained file out."""

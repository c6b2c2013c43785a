"""Figures of a run as plain data, made from its tables; the HTML page and matplotlib draw the same ones."""

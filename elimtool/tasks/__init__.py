"""Carry out the commands that need a model, one module or folder for each."""

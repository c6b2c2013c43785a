"""Serve a page that asks a model, shows what it eliminates, and lets a user change it and look again."""

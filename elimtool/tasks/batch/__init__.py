"""Runs over prompt files: shards in, parts of tables out, resumable, on one machine or many."""

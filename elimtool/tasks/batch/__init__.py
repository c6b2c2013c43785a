"""Trace prompt files in shards: resumable, on one machine or many."""

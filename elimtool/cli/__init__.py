"""The commands: one file each, which parses arguments, calls a task and prints, and computes nothing."""

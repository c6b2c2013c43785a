"""Which part of a prompt did it: methods that score spans for a target, one file a family."""

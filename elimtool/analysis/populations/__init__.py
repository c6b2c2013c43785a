"""Find out from the tables of a run what holds for a population of prompts; one file or folder a command."""

"""The commands, a file each: parse arguments, call a task, print the result, compute nothing."""

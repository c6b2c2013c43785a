"""The terminal story of ``elimtool trace``, a module for each of its sections."""

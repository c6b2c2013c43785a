"""Read and write files: YAML with line numbers, tensors, whole-or-nothing writes, configs of the package."""

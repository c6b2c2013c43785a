"""Read and write files: YAML with line numbers, tensors, atomic writes, the configs in the package."""

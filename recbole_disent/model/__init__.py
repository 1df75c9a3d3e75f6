"""Models: tensors in, tensors out. Nothing here reads files or configuration of data."""

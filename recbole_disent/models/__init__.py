"""This package's models: tensors in, tensors out. No model reads a file."""

"""Loaders: what a training step and an evaluation step get."""

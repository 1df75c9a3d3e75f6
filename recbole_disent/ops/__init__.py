"""Tensor operations that take most of the time of a training step. They do not depend on any model."""

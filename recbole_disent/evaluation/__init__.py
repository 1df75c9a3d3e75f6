"""Scores, ranks and metrics of held-out items, in the same way for every model."""

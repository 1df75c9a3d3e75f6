"""Scores, ranks and metrics of held-out items: the same for every model."""

"""Loaders, which make the batches of training and of evaluation."""

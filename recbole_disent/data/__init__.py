"""From files to batches. Nothing here knows a model."""

"""Content of items: texts, tokens, files of vectors and text encoders, as one matrix."""

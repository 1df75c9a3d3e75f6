"""Text encoders of the package sentence-transformers, which is optional and imported on demand."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.hashing import file_digest

# Number of characters of a text that are passed to the tokenizer for each token of its limit.
_CHARACTERS = 40


def mark(config: Any) -> str:
    """Return a text that identifies an encoder: its name or a digest of its folder, and the token limit."""
    name = config["content_encoder"]
    if os.path.isdir(name):
        found = hashlib.sha256()
        for folder, folders, files in os.walk(name):
            folders.sort()
            for file in sorted(files):
                path = os.path.join(folder, file)
                found.update(os.path.relpath(path, name).encode())
                found.update(bytes.fromhex(file_digest(path)))
        name = found.hexdigest()
    return f"{name} {config['content_encoder_length']}"


def load(config: Any) -> Any:
    """Load the encoder that the key ``content_encoder`` names, as a torch module.

    Raises:
        UserError: sentence-transformers is not installed, or the encoder cannot be loaded.
    """
    name = config["content_encoder"]
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            "content_source: encoder needs the package sentence-transformers: "
            "pip install 'recbole_disent[content]'"
        ) from error
    try:
        encoder = SentenceTransformer(name, device=str(config["device"]))
    except Exception as error:  # the library and its hub client raise many types for a faulty name
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise UserError(
            f"content_encoder: '{name}' cannot be loaded ({reason}); give the folder of an encoder, or the "
            "name of an encoder that has been downloaded or can be downloaded"
        ) from error
    encoder.max_seq_length = min(config["content_encoder_length"], encoder.max_seq_length or 10**9)
    return encoder


def encode(config: Any, texts: list[str]) -> np.ndarray:
    """Encode n texts in batches and return their vectors, float32 (n, F).

    A progress bar is shown if the key ``show_progress`` is True.
    """
    encoder = load(config)
    cut = config["content_encoder_length"] * _CHARACTERS
    with torch.no_grad():
        return encoder.encode(
            [text[:cut] for text in texts],
            batch_size=config["content_encoder_batch_size"],
            show_progress_bar=bool(config["show_progress"]),
            convert_to_numpy=True,
        ).astype(np.float32)


def width(encoder: Any) -> int:
    """Return F, the width of an encoder's vectors."""
    # sentence-transformers 5 renamed this method and `tokenize`.
    ask = getattr(encoder, "get_embedding_dimension", None) or encoder.get_sentence_embedding_dimension
    return int(ask())


def tokenized(config: Any, encoder: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Tokenize n texts and return the token ids and the attention mask, both int64 (n, T)."""
    cut = config["content_encoder_length"] * _CHARACTERS
    read = getattr(encoder, "preprocess", None) or encoder.tokenize
    features = read([text[:cut] for text in texts])
    return features["input_ids"], features["attention_mask"]

"""Text encoders of sentence-transformers: an optional extra, imported when one is asked for."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_disent.errors import UserError

# Characters that are given to a tokenizer for each token that is read: longer words are rare.
_CHARACTERS = 40


def mark(config: Any) -> str:
    """Return what tells two encoders apart: name or content of the folder, and the length read."""
    name = config["content_encoder"]
    if os.path.isdir(name):
        found = hashlib.sha256()
        for folder, folders, files in os.walk(name):
            folders.sort()
            for file in sorted(files):
                path = os.path.join(folder, file)
                found.update(os.path.relpath(path, name).encode())
                with open(path, "rb") as content:
                    found.update(_digest(content))
        name = found.hexdigest()
    return f"{name} {config['content_encoder_length']}"


def _digest(file: Any) -> bytes:
    found = hashlib.sha256()
    while block := file.read(2**20):
        found.update(block)
    return found.digest()


def load(config: Any) -> Any:
    """Return the encoder ``content_encoder``, a torch module.

    Raises:
        UserError: the extra is not installed, or the encoder cannot be had.
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
    except Exception as error:  # the library and its hub client raise whatever a faulty name leads to
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise UserError(
            f"content_encoder: '{name}' cannot be loaded ({reason}); give the folder of an encoder, or the "
            "name of one that is downloaded already or can be"
        ) from error
    encoder.max_seq_length = min(config["content_encoder_length"], encoder.max_seq_length or 10**9)
    return encoder


def encode(config: Any, texts: list[str]) -> np.ndarray:
    """Encode texts in batches, with a progress bar where ``show_progress`` asks for it: float32 (n, F)."""
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
    # sentence-transformers 5 gave this and `tokenize` other names.
    ask = getattr(encoder, "get_embedding_dimension", None) or encoder.get_sentence_embedding_dimension
    return int(ask())


def tokenized(config: Any, encoder: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Cut texts into the encoder's tokens: ids and attention mask, both int64 (n, T)."""
    cut = config["content_encoder_length"] * _CHARACTERS
    read = getattr(encoder, "preprocess", None) or encoder.tokenize
    features = read([text[:cut] for text in texts])
    return features["input_ids"], features["attention_mask"]

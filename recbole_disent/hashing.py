"""Digests that stand for contents."""

from __future__ import annotations

import hashlib
import os

import numpy as np


def digest(text: str, *arrays: np.ndarray) -> str:
    """Return 16 hexadecimal digits that stand for the contents."""
    found = hashlib.sha256(text.encode())
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()

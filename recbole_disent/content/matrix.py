"""Content of all items, as a model is given it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class TextEncoder:
    """A text encoder that is trained along with the model, and what it reads.

    Attributes:
        module: token ids and attention mask -> ``sentence_embedding``, float (n, width).
        width: width of its vectors.
        tokens, mask: int64 (n_items, T), token ids and attention mask of each item's text.
        empty: bool (n_items,), items without a text.
        batch_size: items that are encoded at once.
    """

    module: nn.Module
    width: int
    tokens: Tensor
    mask: Tensor
    empty: Tensor
    batch_size: int


@dataclass
class Content:
    """Content of all items of a data set.

    Attributes:
        matrix: float32 (n_items, F), row 0 (padding) zero; each source's part of a row has
            unit length, or is zero where an item has none. (n_items, 0) where an encoder is trained.
        encoder: a text encoder that is trained along with the model, or None.
        hash: digest of what the vectors are made of: item ids, columns, files and settings.
        cache_path: the cache file, for errors.
    """

    matrix: Tensor
    encoder: TextEncoder | None
    hash: str
    cache_path: str

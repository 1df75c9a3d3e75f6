"""The content of all items, which is passed to the constructor of a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class TextEncoder:
    """A text encoder that is trained with the model, and its input for all items.

    Attributes:
        module: maps token ids and an attention mask to ``sentence_embedding``, float (n, width).
        width: dimension of the vectors.
        tokens, mask: int64 (n_items, T), token ids and attention mask of each item's text.
        empty: bool (n_items,), whether an item has no text.
        batch_size: number of items that are encoded at a time.
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
        matrix: float32 (n_items, F). Row 0 (padding) is zero. The part of a row that comes from one source
            has unit length, or is zero if the item has no content of this source. The shape is
            (n_items, 0) if an encoder is trained.
        encoder: text encoder that is trained with the model, or None.
        hash: digest of the inputs of the vectors: item ids, columns, files and settings.
        cache_path: path of the cache file, for error messages.
    """

    matrix: Tensor
    encoder: TextEncoder | None
    hash: str
    cache_path: str

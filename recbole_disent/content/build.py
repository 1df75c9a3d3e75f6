"""Construction of the content matrix, whose rows are ordered by RecBole's internal item ids.

Content is known before a click, so that items of every part have content. The matrix does not depend on
interactions; only the order of the item ids comes from the data set.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
import torch

from recbole_disent.content import encoder as text_encoder
from recbole_disent.content.checks import sources
from recbole_disent.content.matrix import Content, TextEncoder
from recbole_disent.content.sources import PARTS
from recbole_disent.errors import UserError
from recbole_disent.files import write_atomically
from recbole_disent.hashing import digest

# Increase the version when the same inputs give different vectors, so that old caches are not read.
_VERSION = 1


def build_content(config: Any, dataset: Any) -> Content:
    """Build the content of the items of a data set, or read it from the cache.

    Args:
        config: configuration with the ``content_*`` keys and ``checkpoint_dir``, which contains the cache.
        dataset: part of a data set, which provides the item ids, the path of its files and a logger.

    Raises:
        UserError: a file or a column is missing or faulty, or no item has content.
    """
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    parts = [PARTS[source](config, dataset, tokens) for source in sources(config)]
    names = hashlib.sha256("\n".join(tokens).encode()).hexdigest()
    mark = digest("\n".join([f"{_VERSION} {names}", *(part.mark for part in parts)]))
    path = os.path.join(config["checkpoint_dir"], "content", f"{dataset.dataset_name}-{mark}.npz")
    if config["content_trainable"]:
        return Content(torch.zeros(len(tokens), 0), _trained_encoder(config, parts[0].texts), mark, path)
    matrix = _read_cache(path, len(tokens))
    if matrix is None:
        matrix = np.concatenate([part.vectors() for part in parts], axis=1)
        matrix[0] = 0
        if not matrix.any():
            raise UserError(
                f"content_source: got {config['content_source']}, but every text, bag or vector is empty; "
                "name other columns with content_fields"
            )
        with write_atomically(path) as file:
            np.savez(file, matrix=matrix)
    without = int((~matrix[1:].any(1)).sum())
    if without:
        dataset.logger.warning(
            f"content: {without} of {len(tokens) - 1} items have no content; their vectors are zero"
        )
    return Content(torch.from_numpy(matrix), None, mark, path)


def _trained_encoder(config: Any, texts: list[str]) -> TextEncoder:
    module = text_encoder.load(config)
    tokens, mask = text_encoder.tokenized(config, module, texts)
    empty = torch.tensor([not text.strip() for text in texts])
    size = config["content_encoder_batch_size"]
    return TextEncoder(module, text_encoder.width(module), tokens, mask, empty, size)


def _read_cache(path: str, n_items: int) -> np.ndarray | None:
    """Return the matrix in the file *path*, or None if the file does not exist or is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            matrix = stored["matrix"]
    except Exception:  # the reader of damaged bytes raises whatever they lead it to
        return None
    return matrix if matrix.shape[0] == n_items and matrix.dtype == np.float32 else None

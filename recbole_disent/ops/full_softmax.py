"""Cross-entropy of the next item over all items."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_disent.ops.chunked_softmax import sum_of_logsumexp


def full_softmax(
    states: Tensor, targets: Tensor, table: Tensor, bias: Tensor | None, limit: int, padding: bool = False
) -> Tensor:
    """Sum over positions of ln sum_i exp(w_i . F + b_i) - (w_y . F + b_y).

    Args:
        states: float (P, D), F at each position that is not padding.
        targets: int64 (P,), next items y >= 1.
        table: float (n_items, D), w; row 0 belongs to the padding item.
        bias: float (n_items,) or None.
        limit: largest number of scores in memory at a time.
        padding: whether the padding item is one of the classes, as in RecBole.

    Returns:
        float ().
    """
    first = 0 if padding else 1
    own = (states * F.embedding(targets, table)).sum()
    rows, columns = states, table[first:]
    if bias is not None:
        own = own + bias[targets].sum()
        # The bias is one more column of w, and F has the constant 1 there.
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        columns = torch.cat([columns, bias[first:, None]], 1)
    return sum_of_logsumexp(rows, columns, limit) - own

"""Contrastive losses of TSSR as pure functions of tensors (arXiv 2403.07623).

The losses return one value per sample, and the caller sums or averages the values.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from recbole_disent.ops.chunked_softmax import logsumexp_of_products

# Positions share a batched matrix product if the smallest has at least this share of the largest's rows.
_LIKE = 0.5


def user_contrast(rows: Tensor, columns: Tensor, temperature: float, users: Tensor, limit: int) -> Tensor:
    """User-grained contrast in one direction: each row's own column among the columns of the batch.

    loss_u = ln sum over v of exp(cos(row_u, column_v) / temperature) - cos(row_u, column_u) / temperature

    Args:
        rows, columns: float (B, D), mean state of each user in one stream and in the other.
        temperature: temperature of the softmax.
        users: int64 (B,); other windows of the same user are not negatives.
        limit: largest number of scores in memory at a time.

    Returns:
        float (B,).
    """
    rows, columns = F.normalize(rows, dim=-1), F.normalize(columns, dim=-1)
    total = logsumexp_of_products(rows, columns, 1 / temperature, groups=users, limit=limit)
    return total - (rows * columns).sum(-1) / temperature


def item_contrast(states: Tensor, nexts: Tensor, places: Tensor, items: Tensor, limit: int) -> Tensor:
    """Item-grained contrast in one direction: the own next item among the next items at its position.

    loss_p = ln sum over q with place_q = place_p of exp(F_p . e_q) - F_p . e_p

    A q that is not p but has the next item of p is left out. A position embedding added to e would be
    the same for all q and would not change the loss.

    Args:
        states: float (P, D), F of one stream at each position that is not padding.
        nexts: float (P, D), e of the other stream for the next item.
        places: int64 (P,), position in the sequence.
        items: int64 (P,), next items.
        limit: largest number of scores in memory at a time; more scores are computed in slices, and again
            in the backward pass.

    Returns:
        float (P,).
    """
    order = places.argsort(stable=True)
    counts = places.bincount()
    begins = counts.cumsum(0) - counts
    slices = list(_slices(counts.tolist(), limit))
    again = sum((last - first) * rows**2 for first, last, rows in slices) > limit
    found = []
    for first, last, rows in slices:
        if rows**2 > limit:  # a single position with more scores than the limit
            index = order[begins[first] : begins[first] + rows]
            own = (states[index] * nexts[index]).sum(-1)
            parts = (states[index], nexts[index], 1.0)
            found.append(logsumexp_of_products(*parts, groups=items[index], limit=limit) - own)
            continue
        index = begins[first:last, None] + torch.arange(rows, device=places.device)
        real = torch.arange(rows, device=places.device) < counts[first:last, None]
        index = order[index.clamp(max=len(order) - 1)]
        # F.embedding selects rows: its gradient is several times faster than the gradient of indexing.
        tensors = (F.embedding(index, states), F.embedding(index, nexts), items[index], real)
        if again:
            found.append(checkpoint(_own_among_rows, *tensors, use_reentrant=False))
        else:
            found.append(_own_among_rows(*tensors))
    result = torch.cat(found)
    return torch.empty_like(result).index_copy(0, order, result)


def _slices(counts: list[int], limit: int) -> Iterator[tuple[int, int, int]]:
    """Runs of positions with similar numbers of rows: (first, last + 1, largest number of rows)."""
    first = 0
    while first < len(counts):
        most = counts[first]
        last = first + 1
        while last < len(counts):
            more = max(most, counts[last])
            if counts[last] < _LIKE * most or more**2 * (last + 1 - first) > limit:
                break
            most, last = more, last + 1
        if most:
            yield first, last, most
        first = last


def _own_among_rows(states: Tensor, nexts: Tensor, items: Tensor, real: Tensor) -> Tensor:
    """(S, n, D), (S, n, D), (S, n), (S, n) -> one value for each real row."""
    scores = states @ nexts.transpose(1, 2)
    same = items[:, :, None] == items[:, None, :]
    itself = torch.eye(items.shape[1], dtype=torch.bool, device=items.device)
    # A padding row keeps the real columns, so that no value becomes -inf - -inf.
    blocked = (same & ~itself & real[:, :, None]) | ~real[:, None, :]
    scores = scores.masked_fill(blocked, float("-inf"))
    return (scores.logsumexp(-1) - scores.diagonal(dim1=1, dim2=2))[real]

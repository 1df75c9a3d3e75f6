"""Ranks of held-out items. Ties are broken at random, so that constant scores give random ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Rows that a CPU compares at a time, so that it sums the results while they are in the cache.
_ROWS = 16


def ranks(
    scores: Tensor,
    owner: Tensor,
    column: Tensor,
    tie_break: Tensor,
    permutation: Tensor,
    several: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Rank held-out items among the scores of their query.

    Args:
        scores: float (Q, C); -inf for items that are not ranked.
        owner: int64 (E,), query of each held-out item, ascending.
        column: int64 (E,), column of each held-out item.
        tie_break: float (Q,) in [0, 1), the place of a held-out item in a block of equal scores.
        permutation: int64 (C,), order of equal scores for queries with several held-out
            items, which must not share a rank.
        several: whether queries may have several held-out items, so that *permutation* breaks the ties of all
            queries; None: whether one of these queries has several.

    Returns:
        rank: int64 (E,), 1 is best.
        mean_rank: float (E,), the mean over all orders of equal scores.
    """
    if len(owner) > len(scores) if several is None else several:
        return _ranks_of_several(scores, owner, column, permutation)
    own = scores.gather(1, column[:, None])
    greater = _count(torch.gt, scores, own)
    equal = _count(torch.eq, scores, own)  # itself included
    return placed(greater, equal, tie_break)


def placed(greater: Tensor, equal: Tensor, tie_break: Tensor) -> tuple[Tensor, Tensor]:
    """Rank held-out items from counts of scores.

    Args:
        greater: int64 (Q,), number of better scores.
        equal: int64 (Q,), number of equal scores, the item's own included.
        tie_break: float (Q,) in [0, 1).

    Returns:
        The rank and the mean rank, as :func:`ranks` returns them.
    """
    rank = greater + 1 + (tie_break * equal).long().clamp(max=equal - 1)
    return rank, greater + (equal + 1) / 2


def _count(compare: Callable[..., Tensor], scores: Tensor, own: Tensor) -> Tensor:
    """Number of scores in each row for which *compare* with *own*, (Q, 1), holds: int64 (Q,).

    The results are summed as floats, which a CPU adds much faster than bools. The sum of fewer than
    2^24 columns is exact.
    """
    rows = _ROWS if scores.device.type == "cpu" else max(1, len(scores))
    parts = zip(scores.split(rows), own.split(rows), strict=True)
    holds = (compare(part, one, out=torch.empty_like(part, dtype=torch.float32)) for part, one in parts)
    return torch.cat([each.sum(1) for each in holds]).long()


def _ranks_of_several(
    scores: Tensor, owner: Tensor, column: Tensor, permutation: Tensor
) -> tuple[Tensor, Tensor]:
    order = scores[:, permutation].argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order)
    place.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    inverse = torch.empty_like(permutation)
    inverse[permutation] = torch.arange(len(permutation), device=permutation.device)
    rank = place[owner, inverse[column]] + 1
    mean_rank = torch.empty(len(owner), device=scores.device)
    for begin in range(0, len(owner), 1024):
        part = slice(begin, begin + 1024)
        rows = scores[owner[part]]
        own = rows.gather(1, column[part, None])
        mean_rank[part] = (rows > own).sum(1) + ((rows == own).sum(1) + 1) / 2
    return rank, mean_rank


def top_columns(scores: Tensor, k: int, permutation: Tensor) -> Tensor:
    """Columns of the k best scores: int64 (Q, k). Equal scores are in topk's order after *permutation*."""
    values, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    tied = (values[:, 1:] == values[:, :-1]).any(1)
    columns = columns[:, :k]
    if tied.any():
        again = scores[tied].index_select(1, permutation)
        columns[tied] = permutation[again.topk(k, dim=1).indices]
    return columns


def hit_matrix(rank: Tensor, owner: Tensor, queries: int, k: int) -> Tensor:
    """RecBole's ``rec.topk``: hits at ranks 1..k, then the number of held-out items.

    Returns:
        int32 (queries, k + 1).
    """
    hits = torch.zeros(queries, k + 1, dtype=torch.int32)
    inside = rank <= k
    hits[owner[inside], rank[inside] - 1] = 1
    hits[:, k] = owner.bincount(minlength=queries)
    return hits

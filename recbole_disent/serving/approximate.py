"""Lists from an approximate index: candidates of each query vector, and exact scores of their union."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_disent.serving.index import Index
from recbole_disent.serving.select import NEVER

# Recall of the exact best items that an export looks for, and how many items that is about.
WANTED, BEST = 0.98, 10
# With more candidates than this share of the items, exact scoring is as fast.
_SHARE = 1 / 8


@dataclass
class Best:
    """Best items of B sequences among the candidates.

    Attributes:
        scores: float (B, k), -inf behind the end of a list.
        items: int64 (B, k).
        found: int64 (B,), how many candidates of each were allowed.
    """

    scores: Tensor
    items: Tensor
    found: Tensor


def too_many(index: Index, n_vectors: int, count: int) -> bool:
    """Return whether *count* candidates of each vector are too many for an index to pay."""
    return n_vectors * count > _SHARE * index.n_items


def best_of(
    index: Index, table: Tensor, vectors: Tensor, k: int, count: int, blocked: Tensor | None = None
) -> Best:
    """Find the best items of each sequence.

    Args:
        index: of the item table.
        table: float (n_items or more, D).
        vectors: float (B, K, D), query vectors.
        k: length of the lists.
        count: candidates of each query vector, at least *k*.
        blocked: int64 (n,), ascending, what may not stand in a list: row * n_items + item; or None.
    """
    rows, n_vectors, _ = vectors.shape
    found = index.search(vectors.flatten(0, 1), count).to(vectors.device)
    items = found.view(rows, n_vectors * count).sort(1).values
    real = items > 0
    real[:, 1:] &= items[:, 1:] != items[:, :-1]
    if blocked is not None and len(blocked):
        keys = items + torch.arange(rows, device=items.device)[:, None] * index.n_items
        place = torch.searchsorted(blocked, keys).clamp(max=len(blocked) - 1)
        real &= blocked[place] != keys
    scores = torch.bmm(vectors, table[items].transpose(1, 2)).amax(1)
    # Candidates are in ascending order: of equal scores the smaller item comes first.
    scores, order = scores.masked_fill_(~real, NEVER).sort(dim=1, descending=True, stable=True)
    return Best(scores[:, :k], items.gather(1, order[:, :k]), real.sum(1))


def tune(index: Index, table: Tensor, vectors: Tensor) -> float:
    """Choose the least effort with which a search finds enough of the exact best items.

    Args:
        index: its attribute ``effort`` is set.
        table: float (n_items or more, D).
        vectors: float (B, K, D), query vectors of histories.

    Returns:
        Share of the exact 10 best items (fewer where there are fewer) that the index finds.
    """
    k = min(BEST, index.n_items - 1)
    exact = []
    for part in vectors.split(64):
        scores = torch.einsum("bkd,nd->bkn", part, table[1 : index.n_items]).amax(1)
        exact.append(scores.topk(k, 1).indices + 1)
    wanted = torch.cat(exact)
    recall = 0.0
    for effort in index.efforts():
        index.effort = effort
        items = torch.cat([best_of(index, table, part, k, k).items for part in vectors.split(64)])
        recall = float((items[:, :, None] == wanted[:, None]).any(2).float().mean())
        if recall >= WANTED:
            break
    return recall

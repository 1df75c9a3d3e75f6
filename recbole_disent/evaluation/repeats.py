"""Items that users meet again: what the training part says about them, and how often lists hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def is_closed(train: Any) -> bool:
    """Return whether no training event repeats an item of its user, and log the share that does.

    Args:
        train: the training part.
    """
    users, items = (side[train.train_mask] for side in train.history)
    repeated = len(items) - len(np.unique(users.astype(np.int64) * train.item_num + items))
    train.logger.info(
        f"repeat_gate: {repeated} of {len(items)} training events repeat an item of their user, so a full "
        + ("ranking puts the items of the history last" if not repeated else "ranking is not changed")
    )
    return not repeated


def put_last(
    rank: Tensor, mean_rank: Tensor, ranked: Tensor, repeated: Tensor, owner: Tensor, last: int
) -> Tensor:
    """Give held-out items that are in the history of their query the last ranks, in place.

    Args:
        rank, mean_rank: (E,), on the CPU.
        ranked: int64 (Q,), number of items that are ranked outside of the history.
        repeated: bool (E,), whether a held-out item is in the history.
        owner: int64 (E,), query of each held-out item.
        last: number of items, the rank for metrics with a cut-off.

    Returns:
        Number of items that are ranked, int64 (Q,). The repeated items share the places behind the others.
    """
    more = owner[repeated].bincount(minlength=len(ranked)).to(ranked)
    rank[repeated] = last
    places = ranked + (more + 1) / 2
    mean_rank[repeated] = places[owner[repeated]].to(mean_rank.dtype)
    return ranked + more


def in_history(row: Tensor, item: Tensor, owner: Tensor, positives: Tensor, n_items: int) -> Tensor:
    """Whether held-out items are in the history of their query: bool (E,).

    Args:
        row, item: int64 (M,), query and item of each event of a history.
        owner, positives: int64 (E,), query and item of each held-out item.
        n_items: number of items, padding included.
    """
    return torch.isin(owner * n_items + positives, row * n_items + item)


def repeats_of(dataset: Any, rows: np.ndarray, items: Tensor) -> Tensor:
    """Whether the user has met each item of a list before: bool (Q, k)."""
    row, item = dataset.earlier(rows)
    met = torch.unique(row * dataset.item_num + item)
    keys = torch.arange(len(rows))[:, None] * dataset.item_num + items
    return torch.isin(keys, met)

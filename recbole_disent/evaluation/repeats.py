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
    ranks: tuple[Tensor, ...], row: Tensor, item: Tensor, owner: Tensor, positives: Tensor, last: int
) -> None:
    """Give held-out items that are in the history of their query the last rank, in place.

    Args:
        ranks: (E,) each, on the CPU.
        row, item: int64 (M,), query and item of each event of a history.
        owner, positives: int64 (E,), query and item of each held-out item.
        last: number of items.
    """
    repeated = torch.isin(owner * (last + 1) + positives, row * (last + 1) + item)
    for values in ranks:
        values[repeated] = last


def repeats_of(dataset: Any, rows: np.ndarray, items: Tensor) -> Tensor:
    """Whether the user has met each item of a list before: bool (Q, k)."""
    row, item = dataset.earlier(rows)
    met = torch.unique(row * dataset.item_num + item)
    keys = torch.arange(len(rows))[:, None] * dataset.item_num + items
    return torch.isin(keys, met)

"""The items most like given items, by the cosine of their vectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recbole_disent.serving.select import NEVER, refuse_nan, top_items


class Likeness:
    """Cosines of the vectors of all items.

    Args:
        table: float (n_items, D), row 0 is the padding item.

    Raises:
        UserError: a vector holds NaN.
    """

    def __init__(self, table: Tensor) -> None:
        refuse_nan(bool(table.isnan().any()))
        self._table = table
        self._lengths = table.norm(dim=-1).clamp(min=1e-12)

    def nearest(self, numbers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the items with the greatest cosines; of equal ones the smaller number comes first.

        Args:
            numbers: int64 (n,), items.
            k: how many for each.

        Returns:
            items, int64 (n, k'), and cosines, float (n, k'), where k' is at most the number of other items.
        """
        k = max(0, min(k, len(self._table) - 2))
        items = np.zeros((len(numbers), k), np.int64)
        cosines = torch.zeros(items.shape, dtype=self._table.dtype).numpy()
        for row, number in enumerate(numbers.tolist() if k else ()):
            values = (self._table @ (self._table[number] / self._lengths[number])) / self._lengths
            values[[0, number]] = NEVER
            best, places = top_items(values[None], k)
            items[row], cosines[row] = places[0].cpu().numpy(), best[0].cpu().numpy()
        return items, cosines
